"""A run of two stages; its Prefect server is killed in the middle of the first where `kill` is said."""

import os
import sys
from typing import Any

import psutil

from flows.embedded import embedded_prefect
from flows.environment import prepare
from flows.prefect_outage import PrefectAwayError, answering
from tasks.journal import Journal, keeping
from tasks.stage import StageRun, stage

KILL = sys.argv[1:] == ["kill"]
prepare()
server = embedded_prefect()


@stage("first", summary="Shows its progress, with or without a server.")
def first(run: StageRun) -> dict[str, Any]:
    """Lose the server, where that is asked for, and go on."""
    if KILL:
        [process] = psutil.Process().children()
        process.kill()
        process.wait()
    run.progress(1, 2, "halves")
    return {}


@stage("second", summary="Starts after the server's death.")
def second(run: StageRun) -> dict[str, Any]:
    """Do nothing: what counts is that it starts."""
    return {}


def main() -> None:
    """Run both stages; print their states, and what is said of a failure."""
    from prefect import flow

    from tasks import prefect_progress

    prefect_progress.FIRST_AFTER_S = 0.0

    @flow
    def both() -> None:
        first()
        second()

    server.wait()
    with keeping(Journal()) as journal:
        try:
            with answering():
                both()
        except PrefectAwayError as error:
            print(error)
    print(*(f"{entry.stage} {entry.state}" for entry in journal.entries), flush=True)
    if KILL:
        os._exit(0)  # as the command does


if __name__ == "__main__":
    main()
