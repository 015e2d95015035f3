"""Takedowns on their way into runs, and the registered versions that a takedown comes too late for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.config import HasSources
from flows.parts import enough
from storage.artifacts import Artifact
from storage.registered import registered_versions
from storage.store import Store, open_store
from storage.takedowns import taken_down
from tasks.evaluation import PER_DOCUMENT
from tasks.hold_out import HELD_OUT
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
class Exposed:
    """A registered version that was trained or evaluated on something a rule means."""

    model: str
    """``models:/NAME/VERSION``."""
    aliases: tuple[str, ...]
    documents: int
    """Trained on; with so many tokens."""
    tokens: int
    evaluated: int
    """Documents of the held-out set that its figures were measured on."""


def exposed_to(store: Store, rule: str) -> Iterator[Exposed]:
    """The registered versions whose training or evaluation had documents that a rule means, in order."""

    @cache
    def trained(kind: str, key: str) -> tuple[int, int]:
        shards = store.find(kind, key)
        return _tokens(store, shards, rule) if shards else (0, 0)

    @cache
    def evaluated(kind: str, key: str) -> int:
        report = store.find(kind, key)
        return _measured(store, report, rule) if report else 0

    for version in registered_versions():
        documents, tokens = trained(*version.shards)
        measured = evaluated(*version.report)
        if documents or measured:
            yield Exposed(version.model, version.aliases, documents, tokens, measured)


def _measured(store: Store, report: Artifact, rule: str) -> int:
    """Documents that a rule means among those that a report's figures were measured on."""
    origin = next((parent for parent in report.parents if parent.kind == "hold_out"), None)
    heldout = store.find(origin.kind, origin.key) if origin else None
    if heldout is None:
        return 0
    table = pq.read_table(store.open(heldout) / HELD_OUT, columns=["doc_id", "url", "domain"])
    meant = table.filter(match(table["url"], table["domain"], rule))["doc_id"]
    measured = pq.read_table(store.open(report) / PER_DOCUMENT, columns=["doc_id"])["doc_id"]
    return pc.sum(pc.is_in(meant, value_set=measured)).as_py() or 0


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
