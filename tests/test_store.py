"""The store: committed whole or not at all, adopted by whoever comes second, checked to the byte."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from storage.artifacts import Artifact, Recipe
from storage.errors import ArtifactMissingError, DiskFullError
from storage.local_store import LocalStore
from storage.locks import exclusive, is_held
from storage.store import MANIFEST, Draft


def recipe(**inputs: Any) -> Recipe:
    return Recipe(stage="shout", code={"m": "1"}, inputs=inputs)


def shout(draft: Draft) -> dict[str, Any]:
    (draft.path / "nested").mkdir()
    (draft.path / "nested" / "loud.txt").write_text("HELLO")
    (draft.path / "log.txt").write_text(str(time.time()))
    (draft.path / ".scratch").write_text("thrown away")
    draft.volatile.add("log.txt")
    draft.rows["nested/loud.txt"] = 1
    return {"words": 1}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_an_artifact_is_found_by_its_key_with_its_files_rows_and_stats(store: LocalStore) -> None:
    made = store.make(recipe(n=1), (), shout)
    found = store.find("shout", recipe(n=1).key)
    assert found == made
    assert made.stats == {"words": 1}
    assert made.part("nested/loud.txt").rows == 1
    assert (store.open(made) / "nested/loud.txt").read_text() == "HELLO"
    assert [p.name for p in made.parts] == ["log.txt", "nested/loud.txt"]


def test_work_in_progress_files_do_not_outlive_the_commit(store: LocalStore) -> None:
    folder = store.open(store.make(recipe(n=1), (), shout))
    assert not (folder / ".scratch").exists()
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]


def test_volatile_files_do_not_change_the_digest(store: LocalStore) -> None:
    first, second = (store.make(recipe(n=n), (), shout) for n in (1, 2))
    assert first.part("log.txt").sha256 != second.part("log.txt").sha256
    assert first.digest == second.digest
    assert first.key != second.key


def test_without_a_manifest_it_does_not_exist(store: LocalStore) -> None:
    made = store.make(recipe(n=1), (), shout)
    (store.open(made) / MANIFEST).unlink()
    assert store.find("shout", made.key) is None
    assert list(store.artifacts()) == []


@pytest.mark.parametrize("harm", ["missing", "shorter", "garbled manifest"])
def test_an_artifact_that_is_not_whole_is_made_again(store: LocalStore, harm: str) -> None:
    made = store.make(recipe(n=1), (), shout)
    file = store.open(made) / "nested/loud.txt"
    if harm == "missing":
        file.unlink()
    elif harm == "shorter":
        file.write_text("HEL")
    else:
        (file.parents[1] / MANIFEST).write_text("{")
    assert store.find("shout", made.key) is None
    if harm != "garbled manifest":
        with pytest.raises(ArtifactMissingError, match="not whole"):
            store.open(made)
    again = store.make(recipe(n=1), (), shout)
    assert again.digest == made.digest
    assert (store.open(again) / "nested/loud.txt").read_text() == "HELLO"


def test_verify_names_the_file_in_which_one_byte_was_flipped(store: LocalStore) -> None:
    made = store.make(recipe(n=1), (), shout)
    assert store.verify(made) == []
    file = store.open(made) / "nested/loud.txt"
    file.write_bytes(b"HELLP")
    [damage] = store.verify(made)
    assert damage.path == str(file)
    assert "other content" in damage.problem
    store.remove(made.kind, made.key)
    assert store.verify(made) == [], "what was deleted after it was listed is not damaged"


def test_a_manifest_that_cannot_be_read_is_named(store: LocalStore) -> None:
    made = store.make(recipe(n=1), (), shout)
    assert store.unreadable() == []
    manifest = store.open(made) / MANIFEST
    manifest.write_text("{")
    [damage] = store.unreadable()
    assert (damage.path, list(store.artifacts())) == (str(manifest), [])


def test_a_failure_leaves_nothing_behind(store: LocalStore) -> None:
    def fail(draft: Draft) -> dict[str, Any]:
        (draft.path / "half.txt").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.make(recipe(n=1), (), fail)
    assert store.find("shout", recipe(n=1).key) is None
    assert [p for p in store.root.rglob("*") if p.is_file()] == []


def test_a_resumable_stage_finds_its_files_again(store: LocalStore) -> None:
    seen = []

    def count(draft: Draft) -> dict[str, Any]:
        seen.append(draft.resumed)
        marker = draft.path / ".checkpoint"
        if not marker.exists():
            marker.write_text("step 5")
            raise KeyboardInterrupt
        (draft.path / "done.txt").write_text(marker.read_text())
        return {}

    with pytest.raises(KeyboardInterrupt):
        store.make(recipe(n=1), (), count, resumable=True)
    assert [p.name for p in store.partials()] == [f"{recipe(n=1).key}.partial"]
    made = store.make(recipe(n=1), (), count, resumable=True)
    assert seen == [False, True]
    assert (store.open(made) / "done.txt").read_text() == "step 5"
    assert list(store.partials()) == []


@pytest.mark.parametrize("harm", [False, True])
def test_work_that_was_cut_off_before_its_commit_is_taken_as_it_is_if_whole(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, harm: bool
) -> None:
    calls = []

    def work(draft: Draft) -> dict[str, Any]:
        calls.append(1)
        return shout(draft)

    def cut_off(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as kill:
        kill.setattr(store, "_commit", cut_off)
        with pytest.raises(InterruptedError):
            store.make(recipe(n=1), (), work)
    if harm:
        [file] = store.root.rglob("loud.txt")
        file.unlink()
    made = store.make(recipe(n=1), (), work)
    assert (store.verify(made), len(calls)) == ([], 2 if harm else 1)
    assert list(store.partials()) == []


def test_a_full_disk_says_what_to_do(store: LocalStore) -> None:
    def fill(_draft: Draft) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="Free some space"):
        store.make(recipe(n=1), (), fill)
    assert store.find("shout", recipe(n=1).key) is None


def test_a_full_disk_leaves_no_half_of_a_note(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", overflow)
        with pytest.raises(DiskFullError, match="Free some space"):
            store.write_note("runs/a", {"v": 1})
    assert store.read_note("runs/a") is None
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_two_makers_of_one_key_work_once(store: LocalStore) -> None:
    calls, made = [], []

    def slow(draft: Draft) -> dict[str, Any]:
        calls.append(1)
        time.sleep(0.2)
        return shout(draft)

    waited: list[int] = []

    def run() -> None:
        made.append(store.make(recipe(n=1), (), slow, on_wait=lambda: waited.append(1)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(waited) == 2
    assert len({a.digest for a in made}) == 1


HOLD = """
import sys, time
from pathlib import Path
from storage.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(lock)
        holder.kill()
    assert not is_held(lock)
    with exclusive(lock):
        assert is_held(lock)
    assert not lock.exists()


def test_the_first_writer_of_a_note_wins_where_it_matters(store: LocalStore) -> None:
    assert store.read_note("refs/a") is None
    assert store.write_note("refs/a", {"v": 1}, only_if_absent=True) == {"v": 1}
    assert store.write_note("refs/a", {"v": 2}, only_if_absent=True) == {"v": 1}
    assert store.write_note("refs/a", {"v": 3}) == {"v": 3}
    assert store.list_notes("refs") == ["refs/a"]
    store.remove_note("refs/a")
    assert store.list_notes("refs") == []


def test_removing_an_artifact_takes_its_folder(store: LocalStore) -> None:
    made: Artifact = store.make(recipe(n=1), (), shout)
    store.remove("shout", made.key)
    assert store.find("shout", made.key) is None
    assert [p for p in store.root.rglob("*") if p.is_file()] == []
