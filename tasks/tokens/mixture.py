"""From wanted shares to how often an epoch goes over each group of documents.

With tokens n_g and wanted shares w_g an epoch of N tokens takes w_g N / n_g repeats of group g. N is as
small as it can be with every document used at least once, unless that repeats some group more often than
is worth while (``max_repeats``); then N is what that group allows, and larger groups are used in part,
another part each epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.tokens.config import MixtureConfig
from tasks.tokens.errors import TokensError

REST = "*"
NAMED = 20
"""Groups that an error names at most, those with most text: domains are many."""


@dataclass(frozen=True)
class Share:
    """One group of the mixture."""

    name: str
    tokens: int
    repeats: float
    """Times an epoch goes over its tokens."""
    share: float
    """Of an epoch's tokens."""


def group_of(value: str, weights: Mapping[str, float]) -> str | None:
    """The group of a document with this language (source, domain): None where it is left out."""
    if not weights:
        return ""
    if value in weights:
        return value
    return REST if REST in weights else None


def check_named(amounts: Mapping[str, int], config: MixtureConfig) -> None:
    """Raise TokensError where a weight names a group of which there is nothing.

    ``amounts`` are tokens, or documents, by group.
    """
    missing = sorted(name for name in config.by_group if not amounts.get(name))
    if missing:
        there = [name for name, amount in Counter(amounts).most_common() if amount and name != REST]
        more = f" and {len(there) - NAMED:,} more" if len(there) > NAMED else ""
        raise TokensError(
            f"tokenize.mixture.weights names {', '.join(missing)}, of which there is no text; by "
            f"{config.by} there is: {', '.join(there[:NAMED]) or 'nothing'}{more}. Correct the names, leave "
            f"them out, or add text"
        )


def shares(tokens: Mapping[str, int], config: MixtureConfig) -> list[Share]:
    """How often each group comes up in an epoch, sorted by name.

    Raises TokensError where a weight names a group that has no text.
    """
    weights = config.by_group or {name: float(count) for name, count in tokens.items()}
    if not weights:
        return []
    check_named(tokens, config)
    total = sum(weights.values())
    sizes = {name: tokens[name] / (weight / total) for name, weight in weights.items()}
    epoch = min(max(sizes.values()), config.max_repeats * min(sizes.values()))
    return [
        Share(name, tokens[name], round(epoch / sizes[name], 6), round(weights[name] / total, 6))
        for name in sorted(weights)
    ]
