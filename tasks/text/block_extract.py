"""A page's main content by its blocks: cut, judge each, keep what belongs, put it together as text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_features import Hints, block_features, text_lengths
from tasks.text.block_model import choose, load_model
from tasks.text.blocks import TAG_IDS, Blocks, read_blocks
from tasks.text.markup import Markup
from tasks.text.statements import Statements

FLOOR = 0.2
"""Blocks less likely than this are never kept: a page may have no main content at all."""
ROW_LEVELS = 6
"""Elements between a cell's text and its table row that are looked through."""
LIST_TAGS = [TAG_IDS[tag] for tag in ("li", "dt", "dd", "option")]


def main_blocks(markup: Markup, stated: Statements, title: str) -> str:
    """The text of the blocks that belong to a page's main content; empty if none do."""
    blocks = read_blocks(markup.page)
    if not blocks.texts:
        return ""
    model = load_model()
    hints = Hints(title, stated.kinds(), stated.bodies())
    names, features = block_features(blocks, hints, model.words)
    assert tuple(names) == model.names, "the weights were trained on other features"
    kept = choose(model.probabilities(features), text_lengths(blocks.texts), FLOOR)
    return join_blocks(blocks, kept)


def join_blocks(blocks: Blocks, kept: NDArray[np.bool_]) -> str:
    """Kept blocks as text: cells of a row side by side, list entries below each other, else an empty line."""
    rows = _table_rows(blocks)
    lists = np.where(np.isin(blocks.tag[blocks.holder], LIST_TAGS), blocks.parent[blocks.holder], -1)
    parts: list[str] = []
    last = -1
    for block in np.flatnonzero(kept).tolist():
        if last >= 0:
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


def _table_rows(blocks: Blocks) -> NDArray[np.int32]:
    """For each block the number of the table row it is in; 0 for none."""
    at = blocks.holder
    rows = np.zeros(len(at), np.int32)
    for _ in range(ROW_LEVELS):
        rows = np.where((rows == 0) & (blocks.tag[at] == TAG_IDS["tr"]), at, rows)
        at = blocks.parent[at]
    return rows
