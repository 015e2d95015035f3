"""What a run relies on stays while it does, whatever a sweep of the store finds unused at the same time."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from flows.upkeep import sweep
from storage import running
from storage.artifacts import Artifact, Recipe
from storage.locks import exclusive
from storage.store import MANIFEST, Draft, Store, open_store

LONG_AGO = timedelta(days=9)
USE = """
import sys
from storage.store import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    print("gone" if store.use("shout", line.strip()) is None else "used", flush=True)
"""
RUN = """
import sys, time
from storage.running import under_way
from storage.store import open_store
with under_way(open_store()):
    print("ready", flush=True)
    time.sleep(600)
"""


@contextmanager
def process(program: str, *arguments: str) -> Iterator[tuple[IO[str], IO[str], subprocess.Popen[str]]]:
    """A Python process that has said that it is ready; killed at the end."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child.stdin, child.stdout, child
        child.kill()


def made(store: Store, number: int, *parents: Artifact) -> Artifact:
    """An artifact that differs by its number."""

    def work(draft: Draft) -> dict[str, Any]:
        (draft.path / "text").write_text(f"text {number}")
        return {}

    recipe = Recipe(stage="shout", code={}, inputs={"number": number})
    return store.make(recipe, tuple(parent.as_parent() for parent in parents), work)


def age(store: Store, *artifacts: Artifact) -> None:
    """Make artifacts of a local store look as if nobody had used them for long."""
    then = (datetime.now(UTC) - LONG_AGO).timestamp()
    for artifact in artifacts:
        os.utime(store.open(artifact) / MANIFEST, (then, then))


def swept(**more: Any) -> list[str]:
    """Keys of what a sweep deletes, or would delete."""
    return sorted(
        a.key for a in sweep(**{"apply": True, "keep_runs": 5, "grace_hours": 24.0} | more).artifacts
    )


def test_what_another_process_is_told_to_be_there_is_not_deleted_after_that(store: Store) -> None:
    artifacts = [made(store, number) for number in range(60)]
    time.sleep(1.1)  # S3 tells whole seconds
    since, waits, told = datetime.now(UTC), random.Random(7), set()
    with process(USE, store.uri) as (questions, answers, _):
        for artifact in artifacts:
            questions.write(f"{artifact.key}\n")
            questions.flush()
            time.sleep(waits.uniform(0, 0.004))
            deleted = store.remove(artifact.kind, artifact.key, unless_used_since=since)
            answer = answers.readline().strip()
            told.add(answer)
            assert not (deleted and answer == "used"), artifact.key
            assert (store.find(artifact.kind, artifact.key) is None) == deleted
    assert "used" in told


def test_what_was_used_within_the_grace_period_and_what_it_was_made_from_is_kept(home: Path) -> None:
    store = open_store()
    grandparent = made(store, 1)
    parent = made(store, 2, grandparent)
    child, other = made(store, 3, parent), made(store, 4)
    age(store, grandparent, parent, child, other)
    assert store.use(child.kind, child.key) == child
    assert swept() == [other.key]
    age(store, child)
    assert swept() == sorted(artifact.key for artifact in (grandparent, parent, child))


def test_work_that_was_cut_off_goes_once_nobody_went_on_with_it_for_a_week(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_STORE", store.uri)

    def cut_off(draft: Draft) -> dict[str, Any]:
        (draft.path / "work").mkdir(exist_ok=True)
        (draft.path / "work" / "checkpoint").write_text("days of work")
        raise KeyboardInterrupt

    def left() -> list[str]:
        return [found.what for found in sweep(apply=True, keep_runs=1, grace_hours=0.0).leftovers]

    recipe = Recipe(stage="shout", code={}, inputs={"number": 1})
    with pytest.raises(KeyboardInterrupt):
        store.make(recipe, (), cut_off, resumable=True)
    [partial] = store.partials()
    for days in (6, 8):
        assert left() == []
        then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        for path in (partial / "work" / "checkpoint", partial / "work", partial):
            os.utime(path, (then, then))
    with exclusive(partial.with_suffix(".lock")):
        assert left() == [], "somebody goes on with it"
    [found] = store.leftovers([], datetime.now(UTC))
    assert (found.place, found.bytes) == (str(partial), len("days of work"))
    (partial / "work" / "checkpoint").write_text("a day more")
    store.discard(found)
    assert partial.is_dir()
    for path in (partial / "work" / "checkpoint", partial / "work", partial):
        os.utime(path, (then, then))
    assert left() == ["unfinished work"]
    assert list(store.partials()) == []


def test_looking_is_not_using(home: Path) -> None:
    artifact = made(open_store(), 1)
    age(open_store(), artifact)
    assert open_store().find(artifact.kind, artifact.key) == artifact
    assert swept() == [artifact.key]


def test_what_a_run_used_is_kept_while_it_lasts_and_not_long_after_it_was_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    early, artifact = made(store, 1), made(store, 2)
    age(store, early)
    with process(RUN) as (_, _, run):
        [name] = store.list_notes(running.FOLDER)
        assert swept(grace_hours=0.0) == [early.key], "the run has used the other since it began"
        run.kill()
        run.wait()
        note = store.read_note(name)
        assert note is not None
        hour_ago = datetime.fromisoformat(note["renewed"]) - running.TRUSTED_FOR
        store.write_note(name, note | {"renewed": hour_ago.isoformat()})
    assert swept(grace_hours=0.0) == [artifact.key]
    assert store.list_notes(running.FOLDER) == []


def test_a_run_renews_its_note_and_takes_it_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RENEWED_EVERY", timedelta(seconds=0.01))
    store = open_store()
    with running.under_way(store):
        [name] = store.list_notes(running.FOLDER)
        first = latest = store.read_note(name)
        deadline = time.monotonic() + 60
        while latest == first and time.monotonic() < deadline:
            latest = store.read_note(name)
        assert first is not None
        assert latest is not None
        assert latest["started"] == first["started"]
        assert latest["renewed"] > first["renewed"]
    assert store.list_notes(running.FOLDER) == []
