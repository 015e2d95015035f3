"""A page's main content by its blocks: cut, judge each, keep what belongs, put it together as text."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_context import context_features, doubtful
from tasks.text.block_features import Features, Hints, block_features
from tasks.text.block_labels import words_of
from tasks.text.block_measures import Array, among
from tasks.text.block_model import BlockModel, Trees, choose, load_model
from tasks.text.blocks import TAG_IDS, Blocks, read_blocks
from tasks.text.markup import Markup
from tasks.text.model_errors import WeightsError
from tasks.text.statements import Statements

FLOOR = 0.2
"""Blocks less likely than this are never kept: a page may have no main content at all."""
NEGLIGIBLE = 0.03
ROW_LEVELS = 6
"""Elements between a text and its table row, or the preformatted text it is in, that are looked through."""
LIST_TAGS = among("li", "dt", "dd", "option")


@dataclass(frozen=True, slots=True)
class JudgedPage:
    """A page's blocks and the probability of each to be main content."""

    blocks: Blocks
    probabilities: Array
    lengths: Array

    def text(self) -> str:
        """The text of the blocks that belong to the main content; empty if none do."""
        if not self.blocks.texts:
            return ""
        return join_blocks(self.blocks, choose(self.probabilities, self.lengths, FLOOR))

    def expected_f1(self, text: str) -> float:
        """How well another extractor's text of this page is expected to agree with its main content."""
        expected: dict[str, float] = defaultdict(float)
        for block, probability in zip(self.blocks.texts, self.probabilities.tolist(), strict=True):
            if probability >= NEGLIGIBLE:
                for word in words_of(block):
                    expected[word] += probability
        found = Counter(words_of(text))
        common = sum(min(count, expected.get(word, 0.0)) for word, count in found.items())
        return 2 * common / max(1.0, found.total() + sum(expected.values()))


def judge_page(markup: Markup, stated: Statements, title: str) -> JudgedPage:
    """Cut a page into blocks and judge each."""
    blocks = read_blocks(markup.page)
    if not blocks.texts:
        return JudgedPage(blocks, np.zeros(0, np.float32), np.zeros(0, np.float32))
    model = load_model()
    measured = block_features(blocks, Hints(title, stated.kinds(), stated.bodies()), model.words)
    return JudgedPage(blocks, judge_blocks(model, blocks, measured), measured.lengths)


def judge_blocks(model: BlockModel, blocks: Blocks, measured: Features) -> Array:
    """The probability of each of B blocks to be main content.

    Raises:
        WeightsError: the model was trained on other features than the code computes.
    """
    _refuse_others(measured.names, model.first)
    probabilities = model.first.probabilities(measured.table)
    again = doubtful(probabilities)
    if len(again):
        names, table = context_features(blocks, measured, probabilities, again)
        _refuse_others(names, model.second)
        probabilities[again] = model.second.probabilities(table)
    return probabilities


def _refuse_others(names: list[str], trees: Trees) -> None:
    if tuple(names) != trees.names:
        raise WeightsError("the weights were trained on other features than this code computes. Train again")


def join_blocks(blocks: Blocks, kept: NDArray[np.bool_]) -> str:
    """Kept blocks as text: cells of a row side by side, list entries and lines of code below each other,
    else with an empty line between."""
    rows, verbatim = _around(blocks, "tr"), _around(blocks, "pre")
    lists = np.where(LIST_TAGS[blocks.tag[blocks.holder]], blocks.parent[blocks.holder], -1)
    parts: list[str] = []
    last = -1
    for block in np.flatnonzero(kept).tolist():
        if last >= 0 and verbatim[block] and verbatim[block] == verbatim[last]:
            parts.append("\n")
        elif last >= 0:
            parts.append(_between(rows, lists, blocks, last, block))
        parts.append(blocks.texts[block])
        last = block
    return "".join(parts)


def _between(rows: NDArray[np.int32], lists: NDArray[np.int32], blocks: Blocks, one: int, two: int) -> str:
    if rows[one] and rows[one] == rows[two]:
        return "\t"
    if rows[one] and rows[two] and blocks.parent[rows[one]] == blocks.parent[rows[two]]:
        return "\n"
    return "\n" if lists[one] >= 0 and lists[one] == lists[two] else "\n\n"


def _around(blocks: Blocks, tag: str) -> NDArray[np.int32]:
    """For each block the number of the innermost element of a kind, such as a table's row; 0 for none."""
    at = blocks.holder
    rows = np.zeros(len(at), np.int32)
    for _ in range(ROW_LEVELS):
        rows = np.where((rows == 0) & (blocks.tag[at] == TAG_IDS[tag]), at, rows)
        at = blocks.parent[at]
    return rows
