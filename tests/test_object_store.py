"""The store on S3: the same promises as on a disk, without a rename."""

import errno
import uuid
from pathlib import Path
from typing import Any

import obstore
import pytest

from storage.artifacts import Recipe
from storage.errors import ArtifactMissingError, DiskFullError
from storage.object_store import ObjectStore
from storage.store import MANIFEST, Draft, open_store

RECIPE = Recipe(stage="shout", code={"m": "1"}, inputs={"n": 1})


def shout(draft: Draft) -> dict[str, Any]:
    (draft.path / "nested").mkdir(exist_ok=True)
    (draft.path / "nested" / "loud.txt").write_text("HELLO")
    return {"words": 1}


@pytest.fixture
def store(s3: str, home: Path) -> ObjectStore:
    opened = open_store(f"{s3}/{uuid.uuid4().hex}")
    assert isinstance(opened, ObjectStore)
    return opened


def test_what_is_committed_is_found_and_comes_down_to_a_local_copy(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    assert store.find("shout", made.key) == made
    assert (store.open(made) / "nested/loud.txt").read_text() == "HELLO"
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


@pytest.mark.parametrize("harm", ["part", "manifest"])
def test_without_a_part_or_the_manifest_it_is_not_found(store: ObjectStore, harm: str) -> None:
    made = store.make(RECIPE, (), shout)
    name = f"shout/{made.key}/{MANIFEST}" if harm == "manifest" else f"{store._prefix(made)}nested/loud.txt"
    obstore.delete(store._objects, name)
    assert store.find("shout", made.key) is None
    again = store.make(RECIPE, (), shout)
    assert again.digest == made.digest
    assert store.find("shout", made.key) == again


def test_damage_is_named_and_never_opened(store: ObjectStore) -> None:
    made = store.make(RECIPE, (), shout)
    obstore.put(store._objects, f"{store._prefix(made)}nested/loud.txt", b"HELLP")
    [damage] = store.verify(made)
    assert damage.path.endswith("nested/loud.txt")
    with pytest.raises(ArtifactMissingError, match="damaged"):
        store.open(made)


def test_a_copy_of_what_was_made_anew_elsewhere_is_not_taken_for_it(store: ObjectStore, home: Path) -> None:
    elsewhere = ObjectStore(store.uri)
    elsewhere._scratch = home / "another machine"

    def first(draft: Draft) -> dict[str, Any]:
        (draft.path / "more.txt").touch()
        return shout(draft)

    def otherwise(draft: Draft) -> dict[str, Any]:
        shout(draft)
        (draft.path / "nested" / "loud.txt").write_text("HULLO")
        return {}

    assert (elsewhere.open(store.make(RECIPE, (), first)) / "nested/loud.txt").read_text() == "HELLO"

    key = RECIPE.key
    store.remove("shout", key)
    again = store.make(RECIPE, (), otherwise)
    assert (elsewhere.open(again) / "nested/loud.txt").read_text() == "HULLO"
    assert not (elsewhere.open(again) / "more.txt").exists()
    (elsewhere._scratch / "copies/shout" / key / MANIFEST).unlink()  # as if the next copying had been cut off
    (elsewhere._scratch / "copies/shout" / key / "nested/loud.txt").write_text("HELLO")
    assert (elsewhere.open(again) / "nested/loud.txt").read_text() == "HULLO"


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
