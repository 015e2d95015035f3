"""Mark and sweep of the store: roots are registered models, recent runs and what is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flows.runs import run_notes
from storage.artifacts import Artifact
from storage.store import Store, open_store

Place = tuple[str, str]
"""An artifact's kind and key."""


@dataclass(frozen=True)
class Swept:
    """What a sweep found."""

    artifacts: list[Artifact]
    kept: int


def sweep(*, apply: bool, keep_runs: int, grace_hours: float) -> Swept:
    """Find (and with ``apply`` delete) what nothing needs and is older than the grace period."""
    store = open_store()
    present = {(a.kind, a.key): a for a in store.artifacts()}
    needed = _reach(present, _roots(store, keep_runs))
    deadline = datetime.now(UTC) - timedelta(hours=grace_hours)
    gone = [a for place, a in present.items() if place not in needed and a.created < deadline]
    if apply:
        for artifact in gone:
            store.remove(artifact.kind, artifact.key)
    return Swept(gone, len(present) - len(gone))


def _roots(store: Store, keep_runs: int) -> Iterator[Place]:
    from storage.registered import registered_artifacts

    yield from registered_artifacts()
    for name in store.list_notes("refs"):
        if (note := store.read_note(name)) is not None:
            yield note["stage"], note["key"]
    counts: dict[str, int] = {}
    for note in run_notes(store):
        counts[note["name"]] = counts.get(note["name"], 0) + 1
        if counts[note["name"]] <= keep_runs:
            yield from ((entry["stage"], entry["key"]) for entry in note["entries"] if "key" in entry)


def _reach(present: dict[Place, Artifact], roots: Iterator[Place]) -> set[Place]:
    reached: set[Place] = set()
    queue = list(roots)
    while queue:
        place = queue.pop()
        if place in present and place not in reached:
            reached.add(place)
            queue += [(parent.kind, parent.key) for parent in present[place].parents]
    return reached
