"""The funnel: how many documents each stage took in, kept, and dropped by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.journal import Entry

STAGES = ("ingest", "take_down", "clean", "deduplicate")
REASONS = ("reasons", "rejected")
"""Under which name a stage's stats hold its counts by reason."""


@dataclass
class Step:
    """One stage of the funnel, summed over its parts."""

    stage: str
    documents_in: int = 0
    documents: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def funnel(entries: Iterable[Entry]) -> list[Step]:
    """The steps that a run's entries tell of, in the data's order."""
    steps: dict[str, Step] = {}
    for entry in entries:
        if entry.artifact is not None and entry.stage in STAGES:
            _add(steps.setdefault(entry.stage, Step(entry.stage)), entry.artifact.stats)
    return [steps[stage] for stage in STAGES if stage in steps]


def _add(step: Step, stats: Mapping[str, Any]) -> None:
    counts = (stats[name] for name in REASONS if isinstance(stats.get(name), Mapping))
    reasons: Mapping[str, int] = next(counts, {})
    step.reasons.update({name: int(count) for name, count in reasons.items()})
    step.documents += int(stats.get("documents", 0))
    taken = stats.get("documents_in", stats.get("records"))
    step.documents_in += int(taken if taken is not None else stats.get("documents", 0))


def funnel_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Rows for a table: a line a stage, and under it a line a rule, most dropped first."""
    rows: list[dict[str, Any]] = []
    for step in funnel(entries):
        share = step.documents / step.documents_in if step.documents_in else 1.0
        rows.append(
            {
                "stage": step.stage,
                "rule": "",
                "in": step.documents_in,
                "kept": step.documents,
                "share": f"{share:.1%}",
            }
        )
        for reason, count in step.reasons.most_common():
            part = count / step.documents_in if step.documents_in else 0.0
            rows.append({"stage": "", "rule": reason, "in": "", "kept": f"−{count}", "share": f"{part:.1%}"})
    return rows
