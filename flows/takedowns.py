"""Takedowns on their way into runs, and the registered versions that a takedown comes too late for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.config import HasSources
from flows.parts import enough
from storage.artifacts import Artifact
from storage.registered import registered_versions
from storage.store import Store, open_store
from storage.takedowns import requests, taken_down
from tasks.evaluation import PER_DOCUMENT
from tasks.hold_out import HELD_OUT
from tasks.planning import active_plan
from tasks.stage import Stage
from tasks.taking_down import documents_meant, rules_that_hit, take_down, withdraw_held_out
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
        _tell(take_down, [parts[place] for place in places], [names[place] for place in places], list(found))
        made, failures = take_down.map(
            [kept.pop(place) for place in places], list(found), labels=[names[place] for place in places]
        )
        lost = {failure.part for failure in failures}
        left = [place for place in places if names[place] not in lost]
        kept |= zip(left, enough(config, (made, failures)), strict=True)
    return [kept[place] for place in sorted(kept)]


def held_out_without_taken_down(heldout: Artifact) -> Artifact:
    """The held-out documents, or another set without those that were taken down."""
    if not (found := rules_for(heldout)):
        return heldout
    _tell(withdraw_held_out, [heldout], [""], found)
    return withdraw_held_out(heldout, found)


def _tell(stage: Stage[Any], documents: list[Artifact], names: list[str], rules: list[str]) -> None:
    """Say in a plan, if one is made, what a stage takes out of these artifacts, and by which request."""
    if (plan := active_plan()) is None:
        return
    store = open_store()
    count = sum(documents_meant(store, artifact, rules) for artifact in documents)
    told = "; ".join(requests(store, rules).values())
    of = f" of {len(documents):,} parts" if len(documents) > 1 else ""
    plan.purposes |= {(stage.name, name): f"leaves out {number_of(count)}{of}: {told}" for name in names}


def number_of(documents: int) -> str:
    """A number of documents in words."""
    return f"{documents:,} document{'s' * (documents != 1)}"


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
    gone: tuple[str, ...]
    """Artifacts, as KIND/KEY, that would tell more and are gone from the store."""


def exposed_to(store: Store, rule: str) -> Iterator[Exposed]:
    """The registered versions whose training or evaluation had documents that a rule means, in order.

    Those of which the store cannot tell are among them: what it lacks is named.
    """
    trained = cache(partial(_trained, store, rule))
    evaluated = cache(partial(_evaluated, store, rule))
    for version in registered_versions():
        documents, tokens, shards_gone = trained(*version.shards)
        measured, report_gone = evaluated(*version.report)
        gone = tuple(filter(None, (shards_gone, report_gone)))
        if documents or measured or gone:
            yield Exposed(version.model, version.aliases, documents, tokens, measured, gone)


def _trained(store: Store, rule: str, kind: str, key: str) -> tuple[int, int, str]:
    """Documents and tokens that a rule means in token shards; in the end their name, where they are gone."""
    shards = store.find(kind, key)
    return (*_tokens(store, shards, rule), "") if shards else (0, 0, f"{kind}/{key}")


def _evaluated(store: Store, rule: str, kind: str, key: str) -> tuple[int, str]:
    """Documents that a rule means among those measured for a report; in the end the name of what is gone."""
    report = store.find(kind, key)
    if report is None:
        return 0, f"{kind}/{key}"
    origin = next(parent for parent in report.parents if parent.kind == "hold_out")
    heldout = store.find(origin.kind, origin.key)
    return (_measured(store, report, heldout, rule), "") if heldout else (0, f"{origin.kind}/{origin.key}")


def _measured(store: Store, report: Artifact, heldout: Artifact, rule: str) -> int:
    """Documents of a held-out set that a rule means and that a report's figures were measured on."""
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
