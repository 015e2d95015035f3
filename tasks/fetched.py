"""The latest fetch of each source, found by one note a source instead of by every fetch's manifest.

A fetch puts its key at the head of its source's note before it begins, and leaves the fetch before it there:
the first of them that the store has whole is the latest. So one that fails or is cut off hides nothing, and
one that is committed is known at once. A note that is lost or damaged costs its source one full fetch.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from storage.artifacts import Artifact, digest_json
from storage.store import Store
from tasks.fingerprint import canonical
from tasks.web.sources import SourceRef

KIND = "fetch"
FOLDER = "fetched"
INDEX = f"{FOLDER}/index"
"""Says that every fetch of the store has its note; a store of before there were such notes has none."""
_indexing = Lock()


def latest_fetch(store: Store, source: SourceRef) -> Artifact | None:
    """The newest whole artifact of the same source, whenever and however it was fetched."""
    place = _place(canonical(source, "source"))
    if (note := _note(store, place)) is None and _index(store):
        note = _note(store, place)
    found = (store.use(KIND, key) for key in (note or {}).get("keys", []))
    return next((artifact for artifact in found if artifact is not None), None)


def begin_fetch(store: Store, source: SourceRef, key: str) -> Artifact | None:
    """The latest fetch of a source, as :func:`latest_fetch`, once ``key`` is noted to come after it."""
    latest = latest_fetch(store, source)
    keys = [key] if latest is None else [key, latest.key]
    store.write_note(_place(canonical(source, "source")), {"keys": keys})
    return latest


def _index(store: Store) -> bool:
    """Note the fetches of a store that has no such notes yet, from their manifests; False where it has."""
    with _indexing:  # sources are fetched side by side: the first one does it for all
        if _note(store, INDEX) is not None:
            return False
        latest = {_place(fetch.recipe.inputs.get("source")): fetch.key for fetch in store.artifacts(KIND)}
        for place, key in latest.items():
            if _note(store, place) is None:
                store.write_note(place, {"keys": [key]})
        store.write_note(INDEX, {"sources": len(latest)})
        return True


def _note(store: Store, place: str) -> dict[str, Any] | None:
    try:
        return store.read_note(place)
    except ValueError:  # damaged: the next fetch writes it anew
        return None


def _place(source: Any) -> str:
    return f"{FOLDER}/{digest_json(source)[:32]}"
