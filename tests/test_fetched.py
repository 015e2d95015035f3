"""The latest fetch of a source is found by its note, in a store of any age, whatever became of the note."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from storage.artifacts import Artifact, Recipe
from storage.object_store import ObjectStore
from storage.store import Draft, Store
from tasks.fetched import FOLDER, INDEX, begin_fetch, latest_fetch
from tasks.fingerprint import canonical
from tasks.web.sources import SourceRef

ONE, TWO = (
    SourceRef(name=name, kind="http", uri=f"https://site.example/{name}", seeds=(name,)) for name in "ab"
)


def fetched(store: Store, source: SourceRef, asked: str, *, noting: bool = True) -> Artifact:
    """A fetch of a source, as the stage makes it or, without ``noting``, as it was before it left notes."""
    recipe = Recipe(stage="fetch", code={}, inputs={"source": canonical(source, "source"), "asked": asked})

    def work(draft: Draft) -> dict[str, Any]:
        if noting:
            begin_fetch(store, source, recipe.key)
        (draft.path / "page").write_text(asked)
        return {}

    return store.make(recipe, (), work)


def damage(store: Store, content: bytes) -> None:
    """Overwrite every note of a source."""
    for name in set(store.list_notes(FOLDER)) - {INDEX}:
        if isinstance(store, ObjectStore):
            obstore.put(store._objects, f"notes/{name}.json", content)
        else:
            (Path(store.uri) / "notes" / f"{name}.json").write_bytes(content)


def no_manifests(_kind: str | None = None) -> Iterator[Artifact]:
    raise AssertionError("the manifests of all fetches are read")


def test_a_source_has_its_own_latest_fetch_and_a_new_one_has_none(store: Store) -> None:
    assert latest_fetch(store, ONE) is None
    fetched(store, ONE, "monday")
    latest = fetched(store, ONE, "tuesday")
    assert latest_fetch(store, ONE) == latest
    assert latest_fetch(store, TWO) is None


def test_a_look_up_reads_no_other_sources_manifests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    latest = fetched(store, ONE, "monday")
    monkeypatch.setattr(store, "artifacts", no_manifests)
    assert latest_fetch(store, ONE) == latest
    assert latest_fetch(store, TWO) is None


def test_a_store_from_before_the_notes_gets_them_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched(store, ONE, "monday", noting=False)
    latest = [fetched(store, source, "tuesday", noting=False) for source in (ONE, TWO)]
    assert latest_fetch(store, ONE) == latest[0]
    monkeypatch.setattr(store, "artifacts", no_manifests)
    assert latest_fetch(store, TWO) == latest[1]


def test_a_fetch_that_is_cut_off_or_loses_a_file_does_not_hide_the_one_before(store: Store) -> None:
    first = fetched(store, ONE, "monday")
    begin_fetch(store, ONE, "the key of a fetch that never ends")
    assert latest_fetch(store, ONE) == first
    second = fetched(store, ONE, "tuesday")
    store.remove("fetch", second.key)
    assert latest_fetch(store, ONE) == first


@pytest.mark.parametrize("content", [b'{"keys": [', b"", b"{}"])
def test_a_damaged_note_costs_a_full_fetch_which_mends_it(store: Store, content: bytes) -> None:
    fetched(store, ONE, "monday")
    damage(store, content)
    assert latest_fetch(store, ONE) is None
    latest = fetched(store, ONE, "tuesday")
    assert latest_fetch(store, ONE) == latest
