"""What a run did, stage by stage, for its table, its report and the next run's explanation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from storage.artifacts import Artifact

State = Literal["completed", "cached", "failed", "stopped"]


@dataclass(frozen=True)
class Entry:
    """One stage's outcome (or one part's, of a mapped stage)."""

    stage: str
    label: str
    state: State
    seconds: float
    """From the call to the result: for a cached stage, what finding it took."""
    artifact: Artifact | None = None
    error: str = ""

    def as_note(self) -> dict[str, Any]:
        """What a run's note in the store keeps of it, beside the artifact's recipe."""
        note: dict[str, Any] = {
            "stage": self.stage,
            "label": self.label,
            "state": self.state,
            "seconds": round(self.seconds, 2),
            "error": self.error,
        }
        if self.artifact is not None:
            note["key"] = self.artifact.key
        return note


@dataclass
class Journal:
    """The entries of one run, in the order in which their results were asked for."""

    entries: list[Entry] = field(default_factory=list)

    def last(self, stage: str) -> Entry | None:
        """The last entry of a stage, if it ran."""
        return next((entry for entry in reversed(self.entries) if entry.stage == stage), None)

    def stages(self) -> list[str]:
        """Names of the stages that have entries, in order."""
        return list(dict.fromkeys(entry.stage for entry in self.entries))


_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextmanager
def keeping(journal: Journal) -> Iterator[Journal]:
    """Have every stage called in the block write its outcome into ``journal``."""
    token = _journal.set(journal)
    try:
        yield journal
    finally:
        _journal.reset(token)


def record(entry: Entry) -> None:
    """Add an entry to the journal that is being kept, if one is."""
    if (journal := _journal.get()) is not None:
        journal.entries.append(entry)
