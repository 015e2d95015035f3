"""What a lineage keeps is what its first run made, also where two runs begin at once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.frozen import frozen
from storage.artifacts import Artifact
from tasks.settings import StageConfig
from tasks.stage import StageRun, stage

pytestmark = pytest.mark.usefixtures("prefect_api", "home")
CONFIG = StageConfig()


@stage("choose", summary="Chooses one.")
def choose(run: StageRun, number: int) -> dict[str, Any]:
    """A choice that a lineage keeps."""
    (run.path / "chosen").write_text(str(number))
    return {"number": number}


@flow
def choosing(number: int, meanwhile: int | None = None) -> Artifact:
    """What is kept of a choice; another run may make its own meanwhile."""

    def make() -> Artifact:
        if meanwhile is not None:
            choosing(meanwhile)
        return choose(number)

    return frozen(choose, "a lineage", CONFIG, make)


def test_of_two_runs_that_choose_at_once_both_take_the_first_ones_choice() -> None:
    assert choosing(1, meanwhile=2).stats == {"number": 2}
    assert choosing(3).stats == {"number": 2}


def test_a_choice_that_is_gone_from_the_store_is_made_anew_and_kept() -> None:
    shutil.rmtree(Path(choosing(1).uri))
    assert choosing(4).stats == {"number": 4}
    assert choosing(5).stats == {"number": 4}
