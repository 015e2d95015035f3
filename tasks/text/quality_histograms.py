"""How documents lie on both sides of each rule's limit, so that limits can be studied before a change.

One histogram a rule, in steps of a twentieth of its limit up to twice the limit, and one bin for what lies
beyond; of the documents that were kept, and of those that some rule dropped. ``broken`` counts all documents
that break the rule; rejects name only the first rule that a document breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.text.config import CleanConfig
from tasks.text.quality import RULES, Rule, limits_of
from tasks.text.quality_profiles import judged_as

STEPS = 20
"""Bins from 0 to the limit."""
BINS = 2 * STEPS + 1


class Histograms:
    """Counts of documents by rule and by the distance to its limit."""

    def __init__(self, config: CleanConfig) -> None:
        self._config = config
        self._general = dict(limits_of("", config))
        self._counts = {rule: ([0] * BINS, [0] * BINS) for rule in self._general}
        self._broken = dict.fromkeys(self._general, 0)

    def add(self, signals: Mapping[str, float], language: str, *, kept: bool) -> None:
        """Count a document by its signals; one without signals was dropped before they were measured."""
        if not signals:
            return
        judged = judged_as(language, signals.get("unspaced", 0.0))
        for rule, limit in limits_of(judged, self._config):
            value = signals.get(rule.signal)
            if value is None:
                continue
            self._broken[rule] += rule.breaks(value, limit)
            counts = self._counts[rule][0 if kept else 1]
            counts[_bin(value, limit)] += 1

    def as_json(self) -> dict[str, Any]:
        """By rule (and signal, where a rule has two): limit, bound, broken, and both rows of bins."""
        return {_name(rule): self._rule(rule) for rule in self._general}

    def _rule(self, rule: Rule) -> dict[str, Any]:
        kept, dropped = self._counts[rule]
        return {
            "signal": rule.signal,
            "bound": rule.bound,
            "limit": self._general[rule],
            "broken": self._broken[rule],
            "kept": kept,
            "dropped": dropped,
        }


def _bin(value: float, limit: float) -> int:
    """The bin of a value; the limit itself is in the last bin below it for a rule of the kind `at most`."""
    if limit <= 0:
        return 0 if value <= limit else BINS - 1
    return min(BINS - 1, int(value / limit * STEPS - (1e-9 if value == limit else 0.0)))


def _name(rule: Rule) -> str:
    shared = sum(other.name == rule.name for other in RULES) > 1
    return f"{rule.name}:{rule.signal}" if shared else rule.name
