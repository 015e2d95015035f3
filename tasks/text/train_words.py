"""The linear models over words that the block classifier's features build on: how they are trained.

A page must not be described by weights that its own site's pages have shaped, or the trees would trust them
too much. So every page's features come from models fitted without its fold (see train_blocks.py).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_measures import DEEPEST
from tasks.text.block_tokens import Words, label_words, text_words
from tasks.text.blocks import TAGS, Blocks

KINDS = ("near", "far", "text")
NEAR_LEVELS = 3
FEWEST_PAGES = {"near": 4, "far": 4, "text": 5}
"""Words on fewer pages are not learned: they would be names."""
INVERSE_PENALTY = {"near": 0.02, "far": 0.005, "text": 0.1}
ITERATIONS = 40
SMALLEST_WEIGHT = 0.004
"""Smaller weights are left out of the exported model."""


@dataclass(frozen=True, slots=True)
class WordTable:
    """Words at the R blocks of all pages."""

    counts: Any
    """(R, V) sparse: how often each of V words is at each block."""
    words: list[str]


def word_tables(pages: Sequence[Blocks]) -> dict[str, WordTable]:
    """The words at every block, for each of the three models."""
    near = [_around(blocks, NEAR_LEVELS) for blocks in pages]
    far = [_around(blocks, DEEPEST) for blocks in pages]
    text = [[Counter(text_words(each)) for each in blocks.texts] for blocks in pages]
    return {
        kind: _table(rows, FEWEST_PAGES[kind]) for kind, rows in zip(KINDS, (near, far, text), strict=True)
    }


def _around(blocks: Blocks, levels: int) -> list[Counter[str]]:
    """Words of the innermost elements around each block, tags included."""
    labels = [label_words(label) for label in blocks.labels]
    own = [
        (*labels[label], f"<{TAGS[tag]}>")
        for label, tag in zip(blocks.label.tolist(), blocks.tag.tolist(), strict=True)
    ]
    parents = blocks.parent.tolist()
    rows = []
    for holder in blocks.holder.tolist():
        row: Counter[str] = Counter()
        at, level = holder, 0
        while at > 0 and level < levels:
            row.update(own[at])
            at, level = parents[at], level + 1
        rows.append(row)
    return rows


def _table(pages: list[list[Counter[str]]], fewest: int) -> WordTable:
    from scipy import sparse  # type: ignore[import-untyped]

    on_pages: Counter[str] = Counter()
    for rows in pages:
        on_pages.update(set().union(*rows) if rows else ())
    words = sorted(word for word, count in on_pages.items() if count >= fewest)
    number = {word: place for place, word in enumerate(words)}
    values: list[int] = []
    columns: list[int] = []
    ends = [0]
    for rows in pages:
        for row in rows:
            known = [(number[word], count) for word, count in row.items() if word in number]
            columns.extend(place for place, _ in known)
            values.extend(count for _, count in known)
            ends.append(len(columns))
    shape = (len(ends) - 1, len(words))
    return WordTable(sparse.csr_matrix((np.array(values, np.float32), columns, ends), shape=shape), words)


def fit_words(
    tables: dict[str, WordTable],
    rows_R: NDArray[np.bool_],
    belongs_R: NDArray[np.bool_],
    weights_R: NDArray[np.float32],
    smallest: float = 0.0,
) -> Words:
    """Fit the three models on some of the blocks; weights not above ``smallest`` are left out."""
    fitted = {}
    for kind in KINDS:
        weights = weights_R[rows_R]
        if kind == "text":  # long blocks would drown the short ones, whose words say most
            weights = np.minimum(weights, np.float32(0.02)) + np.float32(0.002)
        coefficients = _fit(tables[kind].counts[rows_R], belongs_R[rows_R], weights, INVERSE_PENALTY[kind])
        fitted[kind] = {
            word: float(weight)
            for word, weight in zip(tables[kind].words, coefficients, strict=True)
            if abs(weight) > smallest
        }
    return Words(**fitted)


def _fit(
    counts: Any, belongs: NDArray[np.bool_], weights: NDArray[np.float32], inverse_penalty: float
) -> NDArray[np.float32]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(C=inverse_penalty, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is part of the penalty
        fit: Callable[..., Any] = model.fit
        fit(counts, belongs, sample_weight=weights / weights.mean())
    return np.asarray(model.coef_[0], np.float32)
