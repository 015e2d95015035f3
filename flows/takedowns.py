"""Takedowns on their way into runs, and the registered versions that a takedown comes too late for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flows.config import HasSources
from flows.parts import enough
from storage.artifacts import Artifact
from storage.registry import registered_versions
from storage.store import Store, open_store
from storage.takedowns import taken_down
from tasks.taking_down import rules_that_hit, take_down, withdraw_held_out
from tasks.web.takedown import match
from tasks.web.urls import host_of


def without_taken_down(config: HasSources, parts: list[Artifact], names: list[str]) -> list[Artifact]:
    """The parts, those that hold something taken down replaced by parts without it.

    A part of which none can be made, where few enough fail, is left out whole: it must not come through.
    """
    store = open_store()
    rules = taken_down(store)
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, part in enumerate(parts if rules else []):
        if isinstance(part, Artifact) and (found := tuple(rules_that_hit(store, part, rules))):
            groups.setdefault(found, []).append(place)
    kept = dict(enumerate(parts))
    for found, places in groups.items():
        made, failures = take_down.map(
            [kept.pop(place) for place in places], list(found), labels=[names[place] for place in places]
        )
        lost = {failure.part for failure in failures}
        left = [place for place in places if names[place] not in lost]
        kept |= zip(left, enough(config, (made, failures)), strict=True)
    return [kept[place] for place in sorted(kept)]


def held_out_without_taken_down(heldout: Artifact) -> Artifact:
    """The held-out documents, or another set without those that were taken down."""
    found = rules_for(heldout)
    return withdraw_held_out(heldout, found) if found else heldout


def rules_for(documents: Artifact) -> list[str]:
    """The rules in force that mean one of an artifact's documents; a plan, which has none yet, knows none."""
    store = open_store()
    return rules_that_hit(store, documents, taken_down(store)) if isinstance(documents, Artifact) else []


@dataclass(frozen=True)
class TrainedOn:
    """A registered version that was trained on something a rule means."""

    model: str
    """``models:/NAME/VERSION``."""
    aliases: tuple[str, ...]
    documents: int
    tokens: int


def trained_on(store: Store, rule: str) -> Iterator[TrainedOn]:
    """The registered versions whose token shards hold documents that a rule means, by name and version."""
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for version in registered_versions():
        artifact = store.find(*version.shards)
        if artifact is None:
            continue
        if version.shards not in counted:
            counted[version.shards] = _tokens(store, artifact, rule)
        documents, tokens = counted[version.shards]
        if documents:
            yield TrainedOn(version.model, version.aliases, documents, tokens)


def _tokens(store: Store, shards: Artifact, rule: str) -> tuple[int, int]:
    """Documents that a rule means in the training shards, and their tokens."""
    folder, documents, tokens = store.open(shards), 0, 0
    for part in shards.parts:
        if not part.name.endswith(".arrow") or part.name.startswith("heldout/"):
            continue
        with pa.memory_map(str(folder / part.name)) as source:
            for batch in pa.ipc.open_stream(source):
                urls = pa.chunked_array([batch.column("url")])
                mask = match(urls, _hosts(urls), rule)
                found = pc.list_value_length(batch.column("input_ids")).filter(mask.combine_chunks())
                documents += len(found)
                tokens += pc.sum(found).as_py() or 0
    return documents, tokens


def _hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([host_of(url) for url in urls.to_pylist()], pa.string())])
