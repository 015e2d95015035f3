"""Corpora that add up over a lineage's runs.

With ``deduplicate.earlier_runs`` at ``add``, a run's corpus holds only what no corpus of the lineage's
earlier runs has. The lineage's corpora stand in a row, and what the sources held decides a run's place in it:
the same contents have the same place, in another run as with other rules. So a run is compared with the
corpora before its place and never with its own former self, and what has not changed stays cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial

from flows.config import HasSources
from flows.runs import run_notes
from storage.artifacts import Artifact, digest_json
from storage.store import Store, open_store

KIND = "deduplicate"
Contents = frozenset[str]
"""What a corpus was made from: a digest for each source that was read."""


def earlier_corpora(config: HasSources, parts: list[Artifact]) -> tuple[Artifact, ...]:
    """The corpora that a corpus of these cleaned ``parts`` must not repeat, oldest first.

    None where each run's corpus takes the former's place, or a plan does not know all parts yet.
    """
    if config.deduplicate.earlier_runs == "replace" or not all(isinstance(part, Artifact) for part in parts):
        return ()
    store = open_store()
    here = _contents(store, [(part.kind, part.key) for part in parts])
    row: dict[Contents, Artifact] = {}
    use = cache(partial(_used, store))
    for key in _keys(store, config.scope):
        if (found := use(key)) is not None:
            row[found[0]] = found[1]
    places = list(row)
    return tuple(row[place] for place in (places[: places.index(here)] if here in row else places))


def _keys(store: Store, scope: str) -> list[str]:
    """Keys of the corpora that a lineage's runs made or found, in the order in which the runs began."""
    runs = [
        (str(note["started"]), [e["key"] for e in note["entries"] if e["stage"] == KIND and "key" in e])
        for note in run_notes(store, scope=scope)
    ]
    return [key for _, keys in sorted(runs) for key in keys]


def _used(store: Store, key: str) -> tuple[Contents, Artifact] | None:
    """A corpus and what it was made from, if the store has it."""
    corpus = store.use(KIND, key)
    return None if corpus is None else (_contents_of(store, corpus), corpus)


def _contents_of(store: Store, corpus: Artifact) -> Contents:
    return _contents(
        store, [(parent.kind, parent.key) for parent in corpus.parents if parent.kind == "clean"]
    )


def _contents(store: Store, cleaned: Iterable[tuple[str, str]]) -> Contents:
    """What was read for cleaned parts; of one whose documents are gone from the store, the part's own key."""
    found = set()
    for kind, key in cleaned:
        documents = _parent(store, store.find(kind, key))
        if documents is not None and documents.kind == "take_down":  # what was read is what it was made from
            documents = _parent(store, documents)
        found.add(key if documents is None else digest_json(documents.recipe.inputs["source"]))
    return frozenset(found)


def _parent(store: Store, artifact: Artifact | None) -> Artifact | None:
    """What an artifact was made from, first of all."""
    if artifact is None or not artifact.parents:
        return None
    return store.find(artifact.parents[0].kind, artifact.parents[0].key)
