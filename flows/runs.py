"""A run's note in the store: what each stage did, for the next run's explanation, lineage and upkeep."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect.runtime import flow_run

from storage.artifacts import Artifact, Recipe
from storage.running import under_way
from storage.store import Store, open_store
from tasks.journal import Entry, Journal
from tasks.settings import StageConfig


@dataclass(frozen=True)
class Outcome:
    """The artifacts that a whole run ends with."""

    corpus: Artifact
    shards: Artifact
    model: Artifact
    report: Artifact
    version: Artifact

    def summary(self) -> dict[str, str]:
        """What the flow returns: the registered version and where its model's files came from."""
        stats = self.version.stats
        return {
            "model": f"models:/{stats['name']}/{stats['version']}",
            "decision": str(stats["decision"]),
            "model_digest": self.model.digest,
            "report": self.report.key,
        }


@contextmanager
def remember(name: str, scope: str, config: StageConfig, journal: Journal) -> Iterator[None]:
    """Write the run's note when the block ends, however it ends; until then it is known to be under way.

    ``name`` is the model's, ``scope`` its lineage's (see :mod:`flows.frozen`).
    """
    started, state = datetime.now(UTC), "failed"
    with under_way(store := open_store()):
        try:
            yield
            state = "completed"
        finally:
            note = {
                "name": name,
                "scope": scope,
                "config": config.model_dump(mode="json"),
                "started": started.isoformat(),
                "ended": datetime.now(UTC).isoformat(),
                "state": state,
                "flow_run": str(flow_run.id or ""),
                "entries": [entry.as_note() for entry in journal.entries],
            }
            store.write_note(f"runs/{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}", note)


def run_notes(store: Store, name: str | None = None) -> Iterator[dict[str, Any]]:
    """Notes of the runs (of one model's name), latest first."""
    for note_name in reversed(store.list_notes("runs")):
        note = store.read_note(note_name)
        if note is not None and name in (None, note["name"]):
            yield {"id": note_name.removeprefix("runs/"), **note}


def entries_of(store: Store, note: dict[str, Any]) -> list[Entry]:
    """A run's journal again, from its note and the store."""
    return [
        Entry(
            stage=entry["stage"],
            label=entry["label"],
            state=entry["state"],
            seconds=entry["seconds"],
            artifact=store.find(entry["stage"], entry["key"]) if "key" in entry else None,
            error=entry["error"],
        )
        for entry in note["entries"]
    ]


def earlier_recipes(store: Store, name: str) -> dict[tuple[str, str], Recipe]:
    """Recipe by stage and label, each from the latest run of a model's name that got so far."""
    found: dict[tuple[str, str], Recipe] = {}
    for note in run_notes(store, name):
        for entry in note["entries"]:
            place = (entry["stage"], entry["label"])
            if "recipe" in entry and place not in found:
                found[place] = Recipe.model_validate(entry["recipe"])
    return found
