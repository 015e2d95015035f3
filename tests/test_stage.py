"""Stages under a real Prefect: Cached means that the store has it, whole; retries help only what they can."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow

from storage.artifacts import Artifact
from storage.errors import UnstableInputError
from storage.store import MANIFEST, RECORD, open_store
from tasks.journal import Journal, keeping
from tasks.planning import Plan, planning
from tasks.progress import Event, listening
from tasks.stage import StageRun, stage

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

attempts: dict[str, int] = {}


@stage("double", summary="Twice a number.")
def double(run: StageRun, n: int) -> dict[str, Any]:
    (run.path / "n.txt").write_text(str(2 * n))
    run.progress(1, 1, "numbers")
    return {"n": 2 * n}


@stage("total", summary="The sum of what was doubled.")
def total(run: StageRun, parts: list[Artifact]) -> dict[str, Any]:
    values = [int((run.open(part) / "n.txt").read_text()) for part in parts]
    (run.path / "n.txt").write_text(str(sum(values)))
    return {"n": sum(values)}


@stage("flaky", summary="Fails as it is told to.")
def flaky(run: StageRun, kind: str) -> dict[str, Any]:
    attempts[kind] = attempts.get(kind, 0) + 1
    if kind == "network" and attempts[kind] < 2:
        raise httpx.ConnectError("connection refused")
    if kind == "wrong":
        raise ValueError("never right")
    if kind == "interrupted":
        raise KeyboardInterrupt
    (run.path / "ok").touch()
    return {}


flaky.task.retry_delay_seconds = [0.0, 0.0, 0.0]


@flow(log_prints=False)
def doubling(numbers: list[int]) -> Artifact:
    parts, failures = double.map(numbers, labels=[f"n{n}" for n in numbers])
    assert failures == []
    return total(parts)


def run(numbers: list[int]) -> tuple[Artifact, dict[str, str]]:
    with keeping(Journal()) as journal:
        artifact = doubling(numbers)
    return artifact, {f"{e.stage} {e.label}".strip(): e.state for e in journal.entries}


def test_no_stage_needs_the_server_before_it_starts() -> None:
    """For each tag of a task Prefect asks its server for the tag's limit."""
    assert double.task.tags == set()


def test_a_second_run_is_cached_everywhere() -> None:
    first, states = run([1, 2])
    assert states == {"double n1": "completed", "double n2": "completed", "total": "completed"}
    assert first.stats == {"n": 6}
    second, states = run([1, 2])
    assert second == first
    assert set(states.values()) == {"cached"}


def test_a_cached_artifact_is_one_in_use_and_a_planned_one_is_not() -> None:
    artifact, _ = run([8])
    os.utime(open_store().open(artifact) / MANIFEST, (0, 0))
    with planning(Plan(open_store(), {})):
        total(double.map([8])[0])
    assert open_store().uses()["total", artifact.key].year == 1970
    begun = datetime.now(UTC)
    run([8])
    assert open_store().uses()["total", artifact.key] > begun


def test_the_result_record_lives_in_the_artifacts_folder() -> None:
    artifact, _ = run([3])
    record = open_store().records_root() / "total" / artifact.key / RECORD
    assert json.loads(record.read_text())["metadata"]["storage_key"] == str(record)


def test_deleting_one_artifact_runs_that_stage_and_no_other() -> None:
    artifact, _ = run([5, 6])
    shutil.rmtree(Path(artifact.uri))
    _, states = run([5, 6])
    assert states == {"double n5": "cached", "double n6": "cached", "total": "completed"}


def test_an_artifact_that_is_not_whole_is_no_hit_whatever_prefect_remembers() -> None:
    artifact, _ = run([7])
    (Path(artifact.uri) / "n.txt").unlink()
    again, states = run([7])
    assert states == {"double n7": "cached", "total": "completed"}
    assert (Path(again.uri) / "n.txt").read_text() == "14"


def test_a_lost_result_record_is_written_again() -> None:
    artifact, _ = run([8])
    record = Path(artifact.uri) / RECORD
    record.unlink()
    _, states = run([8])
    assert set(states.values()) == {"cached"}
    assert record.exists()


@flow
def failing(kind: str) -> Artifact:
    return flaky(kind)


def test_what_can_succeed_next_time_is_retried() -> None:
    failing("network")
    assert attempts["network"] == 2


def test_a_wrong_value_is_not_retried() -> None:
    with pytest.raises(ValueError, match="never right"):
        failing("wrong")
    assert attempts["wrong"] == 1


@flow
def mixed() -> tuple[list[str], list[str]]:
    made, failures = flaky.map(["fine", "wrong"], labels=["a", "b"])
    return [artifact.kind for artifact in made], [f"{f.part}: {f.error}" for f in failures]


def test_an_interrupted_stage_is_told_as_stopped_not_as_failed() -> None:
    events: list[Event] = []
    with keeping(Journal()) as journal, listening(events.append), pytest.raises(KeyboardInterrupt):
        failing("interrupted")
    assert [(entry.stage, entry.state) for entry in journal.entries] == [("flaky", "stopped")]
    assert events[-1].state == "stopped"


def test_one_part_fails_alone() -> None:
    assert mixed() == (["flaky"], ["b: never right"])


def test_what_cannot_be_fingerprinted_is_refused_before_any_work() -> None:
    @flow
    def bad() -> Artifact:
        return flaky({1, 2})  # type: ignore[arg-type]

    with pytest.raises(UnstableInputError, match=r"flaky\(kind\)"):
        bad()


def test_a_plan_says_what_would_run_and_why() -> None:
    artifact, _ = run([11])

    def plan(numbers: list[int], earlier: dict[Any, Any]) -> list[tuple[str, str]]:
        with planning(Plan(open_store(), earlier)) as made:
            doubling.fn(numbers)
        return [(step.verdict, " ".join(step.reasons)) for step in made.steps]

    assert plan([11], {}) == [("cached", ""), ("cached", "")]
    earlier = {("double", "n12"): double.recipe_for(11)}
    first, second = plan([12], earlier)
    assert first == ("run", "input n: 11 → 12")
    assert second == ("depends", "waits for double; cached if that comes out as before")
    shutil.rmtree(Path(artifact.uri))
    gone = plan([11], {("total", ""): artifact.recipe})[1]
    assert gone == ("run", "its artifact is gone from the store, or not whole")


def test_progress_reaches_whoever_listens() -> None:
    events: list[Event] = []
    with listening(events.append):
        run([21])
    states = [(e.stage, e.state) for e in events]
    assert ("double", "progress") in states
    assert states[-1] == ("total", "completed")
