"""What a run's log says."""

import logging

from tasks.run_log import stage_log


def test_each_line_names_its_stage_and_part(run_log: list[logging.LogRecord]) -> None:
    log = stage_log("clean", "100%.jsonl")
    log.info("%d of %d documents kept", 3, 4)
    log.info("50 % of them")
    stage_log("tokenize").warning("slower")
    assert [record.getMessage() for record in run_log] == [
        "clean 100%.jsonl: 3 of 4 documents kept",
        "clean 100%.jsonl: 50 % of them",
        "tokenize: slower",
    ]


def test_a_line_says_which_run_it_belongs_to(prefect_api: None, run_log: list[logging.LogRecord]) -> None:
    from prefect import flow
    from prefect.runtime import flow_run

    @flow(persist_result=False)
    def logging_flow() -> str:
        stage_log("clean").info("here")
        return str(flow_run.id)

    found = logging_flow()
    (record,) = run_log
    assert record.flow_run_id == found  # type: ignore[attr-defined]
