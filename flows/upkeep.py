"""Mark and sweep of the store: roots are registered models, recent runs, what is frozen and what is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

from flows.runs import run_notes
from storage.artifacts import Artifact
from storage.running import needed_since
from storage.store import Place, Store, open_store


@dataclass(frozen=True)
class Swept:
    """What a sweep found."""

    artifacts: list[Artifact]
    kept: int


def sweep(*, apply: bool, keep_runs: int, grace_hours: float) -> Swept:
    """Find (and with ``apply`` delete) what nothing needs and nobody used within the grace period.

    Nor is anything deleted that was used since the oldest run that is under way began.
    """
    store, now = open_store(), datetime.now(UTC)
    deadline = min(now - timedelta(hours=grace_hours), needed_since(store, now))
    present = {(a.kind, a.key): a for a in store.artifacts()}
    in_use = [place for place, used in store.uses().items() if used >= deadline]
    needed = _reach(present, chain(_roots(store, keep_runs), in_use))
    gone = [a for place, a in present.items() if place not in needed]
    if apply:
        gone = [a for a in gone if store.remove(a.kind, a.key, unless_used_since=deadline)]
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
