"""What a run's log in Prefect says of a failure."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.exceptions import ParameterTypeError

from flows.loading import check
from flows.pipeline import pipeline
from flows.presets import tiny
from flows.starting import FILES
from storage.artifacts import Artifact
from storage.registry import RegistryError
from storage.store import open_store
from tasks.gpt.errors import TrainingError
from tasks.tokens.errors import TokensError
from tasks.web.sources import SourceError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


@pytest.fixture
def said(prefect_api: None) -> Iterator[list[logging.LogRecord]]:
    """The errors that runs log."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keep(logging.ERROR)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    yield records
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(handler)


def run(**changes: Any) -> None:
    pipeline(check({**tiny().model_dump(mode="json"), "sources": ["pydoc:stdlib"], **changes}))


def failed(said: list[logging.LogRecord]) -> list[str]:
    assert not [record for record in said if record.exc_info or record.exc_text]
    return [record.getMessage() for record in said if record.levelno == logging.ERROR
            and "Finished in state" not in record.getMessage()]  # fmt: skip


def test_a_missing_source_is_a_sentence(said: list[logging.LogRecord], home: Path) -> None:
    with pytest.raises(SourceError):
        run(sources=["nowhere/*.warc.gz"])
    assert failed(said) == [f"the glob 'nowhere/*.warc.gz' matches no file (looked from {Path.cwd()})"]


def test_a_wrong_value_of_a_form_is_a_sentence_with_its_field(
    said: list[logging.LogRecord], home: Path
) -> None:
    wrong = tiny().model_dump(mode="json")
    wrong["train"]["model"]["heads"] = 5
    try:
        pipeline(wrong)  # type: ignore[arg-type]
    except ParameterTypeError:  # as a worker's process logs what ends it
        logging.getLogger("prefect.flow_runs").exception(
            "Engine execution exited", extra={"send_to_api": False}
        )
    [sentence] = failed(said)
    assert "config.train.model" in sentence
    assert "heads: 5 does not divide width 256" in sentence


def test_an_error_in_a_task_is_told_once_and_a_bug_keeps_its_traceback(said: list[logging.LogRecord]) -> None:
    @task
    def work(error: Exception) -> None:
        raise error

    @flow
    def failing(error: Exception) -> None:
        work(error)

    with pytest.raises(SourceError):
        failing(SourceError("it is not there"))
    assert {record.getMessage() for record in said if not record.exc_info} >= {"it is not there"}
    assert not [record for record in said if record.exc_info]
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())
    assert [record for record in said if record.exc_info]


@pytest.mark.parametrize(
    ("section", "values", "error"),
    [
        ("train", {"init_from": "models:/nobody@champion"}, RegistryError),
        ("train", {"init_from": "base"}, TrainingError),
        ("tokenize", {"adopt": "/nowhere"}, TokensError),
    ],
)
def test_what_training_needs_is_looked_for_before_anything_is_made(
    home: Path, prefect_api: None, monkeypatch: pytest.MonkeyPatch, section: str, values: dict[str, str],
    error: type[Exception],
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/mlflow.db")
    (home / "mlflow").mkdir(parents=True)
    monkeypatch.chdir(home)
    (home / "base").mkdir()
    for name in FILES:
        (home / "base" / name).touch()
    config = tiny().model_dump(mode="json")
    with pytest.raises(
        error, match=r"init_from: .*nobody|set tokenize.adopt to base|adopt: /nowhere cannot be read"
    ):
        run(**{section: {**config[section], **values}})
    made: list[Artifact] = list(open_store().artifacts())
    assert made == []
