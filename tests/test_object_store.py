"""The store on S3: the same promises as on a disk, without a rename."""

import errno
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from storage.artifacts import Recipe
from storage.errors import ArtifactMissingError, DiskFullError
from storage.object_store import ObjectStore
from storage.store import MANIFEST, Draft, Leftover, open_store
from storage.unfinished_uploads import Unfinished, unfinished_uploads

RECIPE = Recipe(stage="shout", code={"m": "1"}, inputs={"n": 1})
LOUD = "nested/loud.txt"
TICK = 0.02
"""Seconds in which a file system's clock ticks."""


def shout(draft: Draft) -> dict[str, Any]:
    (draft.path / "nested").mkdir(exist_ok=True)
    (draft.path / LOUD).write_text("HELLO")
    return {"words": 1}


def unreachable(*_: object, **__: object) -> None:
    raise ConnectionError("nothing answers")


@pytest.fixture
def store(s3: str, home: Path) -> ObjectStore:
    opened = open_store(f"{s3}/{uuid.uuid4().hex}")
    assert isinstance(opened, ObjectStore)
    return opened


def test_what_is_committed_is_found_and_comes_down_to_a_local_copy(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    assert store.find("shout", made.key) == made
    assert (store.open(made) / LOUD).read_text() == "HELLO"
    assert list(store.artifacts()) == list(store.artifacts("shout")) == [made]
    assert store.verify(made) == []


def test_the_second_maker_adopts_the_first_ones_artifact(store: ObjectStore, home: Path) -> None:
    calls = []

    def late(draft: Draft) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:  # somebody else, elsewhere, is faster
            elsewhere = ObjectStore(store.uri)
            elsewhere._scratch = home / "another machine"
            elsewhere.make(RECIPE, (), shout)
        return shout(draft) | {"who": "late"}

    made = store.make(RECIPE, (), late)
    assert made.stats == {"words": 1}
    assert store.make(RECIPE, (), late) == made
    assert len(calls) == 1


@pytest.mark.parametrize("resumable", [False, True])
def test_work_that_could_not_be_uploaded_is_uploaded_by_the_next_call(
    store: ObjectStore, resumable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def train(draft: Draft) -> dict[str, Any]:
        calls.append(1)
        (draft.path / ".checkpoint").write_text("dropped when the work is done")
        return shout(draft)

    with monkeypatch.context() as outage:
        outage.setattr(obstore, "put", unreachable)
        with pytest.raises(ConnectionError):
            store.make(RECIPE, (), train, resumable=resumable)
    assert store.find("shout", RECIPE.key) is None
    made = store.make(RECIPE, (), train, resumable=resumable)
    assert (store.find("shout", RECIPE.key), store.verify(made), len(calls)) == (made, [], 1)
    assert [path for path in (store._scratch / "partial").rglob("*") if path.is_file()] == []


def test_work_that_lost_a_file_before_it_was_uploaded_is_done_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as outage:
        outage.setattr(obstore, "put", unreachable)
        with pytest.raises(ConnectionError):
            store.make(RECIPE, (), shout)
    [file] = (store._scratch / "partial").rglob("loud.txt")
    file.unlink()
    assert store.verify(store.make(RECIPE, (), shout)) == []


@pytest.mark.parametrize("harm", ["part", "manifest"])
def test_without_a_part_or_the_manifest_it_is_not_found(store: ObjectStore, harm: str) -> None:
    made = store.make(RECIPE, (), shout)
    name = f"shout/{made.key}/{MANIFEST}" if harm == "manifest" else f"{store._prefix(made)}{LOUD}"
    obstore.delete(store._objects, name)
    assert store.find("shout", made.key) is None
    again = store.make(RECIPE, (), shout)
    assert again.digest == made.digest
    assert store.find("shout", made.key) == again


def test_damage_is_named_and_never_opened(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    obstore.put(store._objects, f"{store._prefix(made)}{LOUD}", b"HELLP")
    [damage] = store.verify(made)
    assert damage.path.endswith(LOUD)
    with pytest.raises(ArtifactMissingError, match="damaged"):
        store.open(made)
    store.remove(made.kind, made.key)
    assert store.verify(made) == [], "what was deleted after it was listed is not damaged"


def test_a_copy_of_what_was_made_anew_elsewhere_is_not_taken_for_it(store: ObjectStore, home: Path) -> None:
    elsewhere = ObjectStore(store.uri)
    elsewhere._scratch = home / "another machine"

    def first(draft: Draft) -> dict[str, Any]:
        (draft.path / "more.txt").touch()
        return shout(draft)

    def otherwise(draft: Draft) -> dict[str, Any]:
        shout(draft)
        (draft.path / LOUD).write_text("HULLO")
        return {}

    assert (elsewhere.open(store.make(RECIPE, (), first)) / LOUD).read_text() == "HELLO"

    key = RECIPE.key
    store.remove("shout", key)
    again = store.make(RECIPE, (), otherwise)
    assert (elsewhere.open(again) / LOUD).read_text() == "HULLO"
    assert not (elsewhere.open(again) / "more.txt").exists()
    (elsewhere._scratch / "copies/shout" / key / MANIFEST).unlink()  # as if the next copying had been cut off
    (elsewhere._scratch / "copies/shout" / key / LOUD).write_text("HELLO")
    assert (elsewhere.open(again) / LOUD).read_text() == "HULLO"


def test_a_full_disk_says_what_to_do(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(*_: object) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="Free some space"):
        store.make(RECIPE, (), overflow)
    made = store.make(RECIPE, (), shout)
    monkeypatch.setattr(store, "_download", overflow)
    with pytest.raises(DiskFullError, match="Free some space"):
        store.open(made)


def test_notes_and_removal(store: ObjectStore) -> None:
    assert store.read_note("refs/a") is None
    assert store.write_note("refs/a", {"v": 1}, only_if_absent=True) == {"v": 1}
    assert store.write_note("refs/a", {"v": 2}, only_if_absent=True) == {"v": 1}
    assert store.list_notes("refs") == ["refs/a"]
    store.remove_note("refs/a")
    store.remove_note("refs/a")
    assert store.list_notes("refs") == []
    made = store.make(RECIPE, (), shout)
    store.remove("shout", made.key)
    assert store.find("shout", made.key) is None


UPLOAD = """
import sys
from pathlib import Path
import obstore
from storage.store import open_store
obstore.put(open_store(sys.argv[1])._objects, sys.argv[2], Path(sys.argv[3]))
"""


def cut_off(store: ObjectStore, name: str, file: Path) -> list[Unfinished]:
    """Begin to upload a large file in another process, and kill that when S3 knows of the upload."""
    file.write_bytes(bytes(100 * 2**20))
    with subprocess.Popen([sys.executable, "-c", UPLOAD, store.uri, name, str(file)]) as upload:
        while not (unfinished := list(unfinished_uploads(store.uri))) and upload.poll() is None:
            time.sleep(0.02)
        upload.kill()
    return unfinished


def test_what_a_cut_off_upload_left_is_found_and_deleted_and_no_artifact_is(
    store: ObjectStore, tmp_path: Path
) -> None:
    other = Recipe(stage="shout", code={}, inputs={"n": 2})
    artifacts = [store.make(RECIPE, (), shout), store.make(other, (), shout)]
    attempt = f"shout/{RECIPE.key}/{'0' * 12}"
    obstore.put(store._objects, f"{attempt}/nested/loud.txt", b"HELL")
    obstore.put(store._objects, f"shout/{'1' * 32}/{'2' * 12}/log.txt", b"a key that was never committed")
    obstore.put(store._objects, "shout/mine/theirs/log.txt", b"not of the store's making")
    obstore.put(store._objects, f"shout/{'3' * 32}/{MANIFEST}", b'{"of": "a later version"}')
    obstore.put(store._objects, f"shout/{'3' * 32}/{'4' * 12}/log.txt", b"of that version")
    assert [u.path for u in cut_off(store, f"{attempt}/big.bin", tmp_path / "big")] == [f"{attempt}/big.bin"]
    later = datetime.now(UTC) + timedelta(seconds=2)
    assert store.leftovers(store.artifacts(), later - timedelta(hours=1)) == [], "may be in work yet"

    left = store.leftovers(store.artifacts(), later)
    assert sorted(leftover.place for leftover in left) == sorted([attempt, f"shout/{'1' * 32}/{'2' * 12}"])
    for leftover in left:
        store.discard(leftover)
    assert [damage.path for damage in store.unreadable()] == [f"{store.uri}/shout/{'3' * 32}/{MANIFEST}"]
    assert store.leftovers(store.artifacts(), later) == []
    assert list(unfinished_uploads(store.uri)) == []
    assert [store.verify(artifact) for artifact in artifacts] == [[], []]
    assert len(store._sizes("shout/mine/")) == len(store._sizes(f"shout/{'3' * 32}/{'4' * 12}/")) == 1


def test_an_upload_that_was_committed_meanwhile_is_not_discarded(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    store.discard(Leftover(store._prefix(made).rstrip("/"), 5, datetime.now(UTC)))
    assert store.verify(made) == []


def test_a_copy_that_nobody_opened_since_goes_and_is_fetched_again_when_it_is_needed(
    store: ObjectStore,
) -> None:
    used = store.make(Recipe(stage="shout", code={}, inputs={"n": 2}), (), shout)
    made = store.make(RECIPE, (), shout)
    copies = [store.open(artifact) for artifact in (used, made)]
    assert store.leftovers(store.artifacts(), made.created) == [], "one may be in use yet"
    later = datetime.now(UTC) + timedelta(seconds=2)
    for copy in copies:
        assert str(copy) in {left.place for left in store.leftovers(store.artifacts(), later)}
    since = datetime.now(UTC)
    time.sleep(TICK)
    with (copies[1] / LOUD).open() as being_read:
        store.open(used)
        [left] = store.leftovers(store.artifacts(), since)
        assert (left.place, left.bytes, left.what) == (str(copies[1]), made.bytes, "a local copy")
        store.discard(left)
        assert [copy.exists() for copy in copies] == [True, False]
        assert being_read.read() == "HELLO"
    assert (store.open(made) / LOUD).read_text() == "HELLO"


def test_a_copy_that_was_opened_while_the_store_was_swept_stays(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    copy = store.open(made)
    [left] = store.leftovers(store.artifacts(), datetime.now(UTC) + timedelta(seconds=2))
    time.sleep(TICK)
    store.open(made)
    store.discard(left)
    assert (copy / LOUD).read_text() == "HELLO"


def test_a_copy_of_what_was_deleted_elsewhere_goes_too(store: ObjectStore, home: Path) -> None:
    elsewhere = ObjectStore(store.uri)
    elsewhere._scratch = home / "another machine"
    made = store.make(RECIPE, (), shout)
    copy = store.open(made)
    elsewhere.remove("shout", made.key)
    [left] = store.leftovers(store.artifacts(), datetime.now(UTC) + timedelta(seconds=2))
    store.discard(left)
    assert not copy.exists()


def test_parts_are_uploaded_and_fetched_side_by_side(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=60)

    def two_parts(draft: Draft) -> dict[str, Any]:
        for name in ("a.txt", "b.txt"):
            (draft.path / name).write_text(name)
        return {}

    def together(transfer: Callable[..., Any]) -> Callable[..., Any]:
        def call(objects: Any, name: str, *rest: Any, **more: Any) -> Any:
            if name.endswith(".txt"):
                both.wait()
            return transfer(objects, name, *rest, **more)

        return call

    monkeypatch.setattr(obstore, "put", together(obstore.put))
    made = store.make(RECIPE, (), two_parts)
    monkeypatch.setattr(obstore, "get", together(obstore.get))
    assert (store.open(made) / "b.txt").read_text() == "b.txt"


def test_removing_leaves_the_upload_of_who_makes_it_anew(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    anew = f"shout/{RECIPE.key}/{'0' * 12}/nested/loud.txt"
    obstore.put(store._objects, anew, b"HELLO")
    assert store.remove("shout", made.key)
    assert list(store._sizes(f"shout/{RECIPE.key}/")) == [anew]
