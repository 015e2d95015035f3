"""Mark and sweep of the store: roots are registered models, recent runs, what is frozen and what is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

from flows.runs import recent_notes
from storage.artifacts import Artifact
from storage.running import needed_since
from storage.store import Damage, Leftover, Place, Store, open_store


@dataclass(frozen=True)
class Swept:
    """What a sweep found."""

    artifacts: list[Artifact]
    kept: int
    leftovers: list[Leftover]
    """Files of no artifact, and local copies that are out of use."""

    @property
    def megabytes(self) -> float:
        """Size of what was found."""
        return sum(size for _, size, _ in self._found()) / 1e6

    def rows(self) -> list[tuple[str, str, str]]:
        """What was found, its megabytes and when it was made, for people."""
        return [(name, f"{size / 1e6:,.1f}", f"{at:%Y-%m-%d %H:%M}") for name, size, at in self._found()]

    def _found(self) -> Iterator[tuple[str, int, datetime]]:
        for artifact in self.artifacts:
            yield f"{artifact.kind}/{artifact.key}", artifact.bytes, artifact.created
        for left in self.leftovers:
            yield f"{left.place} ({left.what})", left.bytes, left.latest


def damaged(store: Store) -> list[Damage]:
    """Every committed file that is not as its manifest says, and every manifest that cannot be read."""
    return [*chain.from_iterable(store.verify(a) for a in store.artifacts()), *store.unreadable()]


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
    leftovers = store.leftovers(present.values(), deadline)
    if apply:
        gone = [a for a in gone if store.remove(a.kind, a.key, unless_used_since=deadline)]
        for leftover in leftovers:
            store.discard(leftover)
    return Swept(gone, len(present) - len(gone), leftovers)


def _roots(store: Store, keep_runs: int) -> Iterator[Place]:
    from storage.registered import registered_artifacts

    yield from registered_artifacts()
    for name in store.list_notes("refs"):
        if (note := store.read_note(name)) is not None:
            yield note["stage"], note["key"]
    for note in recent_notes(store, keep_runs):
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
