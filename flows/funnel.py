"""The funnel: how many documents each stage took in, kept, and dropped by which rule, up to the tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tasks.journal import Entry

STAGES = ("fetch", "ingest", "take_down", "clean", "deduplicate")
"""Stages that count what they took in and what they dropped; ``fetch`` is told of where crawls lost pages."""
REASONS = ("reasons", "rejected")
"""Under which name a stage's stats hold its counts by reason."""


@dataclass
class Step:
    """One stage of the funnel, summed over its parts; what is None no stage has counted."""

    stage: str
    documents_in: int = 0
    documents: int = 0
    characters: int | None = None
    tokens: int | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    """Of the documents that were kept: how many something is amiss with."""


def funnel(entries: Iterable[Entry]) -> list[Step]:
    """The steps that a run's entries tell of, from what was read to what is trained on."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry.artifact is not None:
            found.setdefault(entry.stage, []).append(entry.artifact.stats)
    steps = [_step(stage, found[stage]) for stage in STAGES if stage in found]
    steps = [step for step in steps if step.stage != "fetch" or step.reasons or step.remarks]
    for before, step in pairwise(steps):
        if step.stage == "take_down":  # it runs for those parts alone that hold something taken down
            step.documents_in, step.documents = before.documents, before.documents - step.reasons.total()
        if step.stage == "clean":  # the first to count characters, also those of what comes to it
            before.characters = sum(int(stats.get("characters_in", 0)) for stats in found["clean"])
    if "exclude" in found and "tokenize" in found:
        steps += _towards_training(found["exclude"][-1], found["tokenize"][-1])
    return steps


def _step(stage: str, parts: Sequence[Mapping[str, Any]]) -> Step:
    step = Step(stage)
    for stats in parts:
        step.reasons.update(_reasons(stats))
        step.remarks.update(stats.get("remarks", {}))
        documents = int(stats.get("documents") or 0)  # nobody counts those of a file that was fetched
        step.documents += documents
        taken = stats.get("documents_in", stats.get("records"))
        step.documents_in += documents if taken is None else int(taken)
        if "characters" in stats:
            step.characters = (step.characters or 0) + int(stats["characters"])
    return step


def _reasons(stats: Mapping[str, Any]) -> dict[str, int]:
    counts = (stats[name] for name in REASONS if isinstance(stats.get(name), Mapping))
    return {name: int(count) for name, count in next(counts, {}).items()}


def _towards_training(excluded: Mapping[str, Any], tokenized: Mapping[str, Any]) -> list[Step]:
    """What is kept from training, and what becomes tokens; a held-out document need not be in this corpus."""
    skipped = Counter({name: int(count) for name, count in tokenized.get("skipped", {}).items()})
    left_out = skipped.pop("excluded", 0)
    listed = {name: int(n) for name, n in excluded.items() if name not in ("documents", "held_out")}
    reasons = +Counter({**listed, "held_out": left_out - sum(listed.values())})
    documents, tokens = int(tokenized["documents"]), int(tokenized["tokens"])
    offered = documents + skipped.total()
    characters = sum(int(language["characters"]) for language in tokenized["languages"].values())
    return [
        Step("exclude", offered + left_out, offered, None if skipped.total() else characters, None, reasons),
        Step("tokenize", offered, documents, characters, tokens, skipped),
    ]


def funnel_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Rows for a table: a line a stage, and under it a line a rule, most dropped first, and a remark."""
    rows: list[dict[str, Any]] = []
    for step in funnel(entries):
        taken = step.documents_in or 1
        share = step.documents / taken if step.documents_in else 1.0
        rows.append(
            {
                "stage": step.stage,
                "rule": "",
                "in": step.documents_in,
                "kept": step.documents,
                "share": f"{share:.1%}",
                "characters": "" if step.characters is None else step.characters,
                "tokens": "" if step.tokens is None else step.tokens,
            }
        )
        dropped = [(reason, f"−{count}", count) for reason, count in step.reasons.most_common()]
        remarks = [(remark, f"{count} of these", count) for remark, count in step.remarks.most_common()]
        for rule, kept, count in dropped + remarks:
            row = {"stage": "", "rule": rule, "in": "", "kept": kept, "share": f"{count / taken:.1%}"}
            rows.append({**row, "characters": "", "tokens": ""})
    return rows
