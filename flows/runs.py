"""A run's note in the store: what each stage did, for the next run's explanation, lineage and upkeep."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from prefect.runtime import flow_run

from storage.artifacts import Artifact, Recipe, digest_json
from storage.running import under_way
from storage.store import Store, open_store
from tasks.journal import Entry, Journal
from tasks.settings import StageConfig

FOLDER = "runs"
COMPARED = 20
PROCESS = uuid.uuid4().hex
"""Stands in the notes of this process's runs: others of the same model may be under way beside them."""
SHORT = 16
"""Hex digits of a digest that name a value in a note, or a scope."""


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
            values: dict[str, Any] = {}
            note = {
                "name": name,
                "scope": scope,
                "config": config.model_dump(mode="json"),
                "started": started.isoformat(),
                "ended": datetime.now(UTC).isoformat(),
                "state": state,
                "process": PROCESS,
                "flow_run": str(flow_run.id or ""),
                "entries": [{**entry.as_note(), **_recipe_note(entry, values)} for entry in journal.entries],
                "values": values,
            }
            store.write_note(_place(started, name, scope), note)


def _short(value: Any) -> str:
    return digest_json(value)[:SHORT]


def _recipe_note(entry: Entry, values: dict[str, Any]) -> dict[str, Any]:
    """An entry's recipe, its code and inputs put into ``values`` by digest: parts share most of them."""

    def keep(value: Any) -> str:
        values[digest := _short(value)] = value
        return digest

    if entry.artifact is None:
        return {}
    recipe = entry.artifact.recipe.model_dump(mode="json")
    inputs = {argument: keep(value) for argument, value in recipe["inputs"].items()}
    return {"recipe": {"code": keep(recipe["code"]), "inputs": inputs}}


def _recipe(entry: dict[str, Any], values: dict[str, Any] | None) -> Recipe:
    """An entry's recipe again; a note of before there were ``values`` has it whole."""
    noted = entry["recipe"]
    if values is None:
        return Recipe.model_validate(noted)
    inputs = {argument: values[name] for argument, name in noted["inputs"].items()}
    return Recipe(stage=entry["stage"], code=values[noted["code"]], inputs=inputs)


def run_notes(store: Store, name: str | None = None, *, scope: str | None = None) -> Iterator[dict[str, Any]]:
    """Notes of the runs (of one model's name, of one lineage's scope), latest first."""
    for place in reversed(store.list_notes(FOLDER)):
        of = _whose(place)
        if of is not None and (name not in (None, of[1]) or (scope is not None and of[0] != _short(scope))):
            continue
        note = store.read_note(place)
        if note is not None and name in (None, note["name"]) and (scope is None or note["scope"] == scope):
            yield note


def recent_notes(store: Store, most: int) -> Iterator[dict[str, Any]]:
    """Notes of the latest runs, at most so many of each model's name, latest first."""
    counts: Counter[str] = Counter()
    for place in reversed(store.list_notes(FOLDER)):
        of = _whose(place)
        if of is not None and counts[of[1]] >= most:
            continue
        if (note := store.read_note(place)) is not None:
            counts[note["name"]] += 1
            if counts[note["name"]] <= most:
                yield note


def _place(started: datetime, name: str, scope: str) -> str:
    """Where a run's note is: by its time, then whose it is, which tells who seeks some which to read."""
    return f"{FOLDER}/{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}-{_short(scope)}-{name}"


def _whose(place: str) -> tuple[str, str] | None:
    """Digest of the scope and name of the run whose note is there; None of one of before they stood there."""
    _, _, *of = place.split("-", 3)
    return (of[0], of[1]) if len(of) == 2 else None


def own_note(store: Store, name: str, since: datetime) -> dict[str, Any] | None:
    """The note of this process's latest run of a model's name; None where it has begun none since then."""
    for note in run_notes(store, name):
        if note["started"] < since.isoformat():
            return None
        if note.get("process") == PROCESS:
            return note
    return None


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
    """Recipe by stage and label, each from the latest run of a model's name that got so far.

    No more than the last ``COMPARED`` runs are looked at: a note of 10,000 parts takes half a second to read.
    """
    found: dict[tuple[str, str], Recipe] = {}
    for note in islice(run_notes(store, name), COMPARED):
        for entry in note["entries"]:
            place = (entry["stage"], entry["label"])
            if "recipe" in entry and place not in found:
                found[place] = _recipe(entry, note.get("values"))
    return found
