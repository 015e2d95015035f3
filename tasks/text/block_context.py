"""What a first judgement of a page's blocks tells of each of them: the page read a second time.

Whether a card, a review or a heading belongs to the main content depends on whether those around it do, and
on what the page has besides. So a second, smaller set of trees sees the first one's probabilities of a
block's neighbours, of the subtrees it is in and of the blocks made alike, and how sure the first one was of
the page as a whole (stacking, also known as auto-context: Tu, 2008). Only blocks that the first one left in
doubt are judged again, and by nothing else: shown the first one's features too, the trees learned pages by
heart, and were worse on others.

Shape suffixes: B blocks, D doubtful ones, G features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_features import Features, running, shifted, window_mean
from tasks.text.block_measures import Array, FeatureTable
from tasks.text.block_model import expected_f1
from tasks.text.blocks import Blocks

Rows = NDArray[np.intp]
Numbers = NDArray[np.float64]

UNLIKELY = 0.01
"""Blocks less likely than this are not judged again: more than half of all, with a hundredth of the gold."""
SUREST = 1e-4
SURE = (0.5, 0.85)
LEVELS = (0, 1, 2, 3, 4, 5, 6, 8)
NOWHERE = 9.0
"""Stands for the distance to something that the page does not have, and for no odds at all."""


class _Said:
    """What the first judgement said of B blocks: probabilities, log-odds and lengths, and their sums."""

    def __init__(self, likely: Numbers, odds: Numbers, lengths: Array) -> None:
        self.likely, self.odds, self.lengths = likely, odds, lengths
        self.expected = likely * lengths
        self.mass_before = running(lengths)
        self.expected_before = running(self.expected)


def doubtful(probabilities_B: Array) -> Rows:
    """(D) numbers of the blocks that are worth a second judgement."""
    return np.flatnonzero(probabilities_B >= UNLIKELY)


def context_features(
    blocks: Blocks, measured: Features, probabilities_B: Array, chosen_D: Rows
) -> tuple[list[str], Array]:
    """Names of the second judgement's features and their (G, D) table for the chosen blocks."""
    likely = np.clip(probabilities_B, SUREST, 1 - SUREST).astype(np.float64)
    said = _Said(likely, np.log(likely / (1 - likely)), measured.lengths)
    table = FeatureTable(len(chosen_D))
    _neighbours(table, said, chosen_D)
    _subtrees(table, blocks, measured, said, chosen_D)
    _alike(table, measured, said, chosen_D)
    _page(table, said, chosen_D)
    _sections(table, measured, said, chosen_D)
    return table.names, table.matrix()


def _neighbours(table: FeatureTable, said: _Said, rows: Rows) -> None:
    table.add("odds", said.odds[rows])
    for by in (-3, -2, -1, 1, 2, 3):
        table.add(f"odds{by:+d}", shifted(said.odds, by, -NOWHERE)[rows])
    for radius in (2, 5, 15):
        table.add(f"likely_around_{radius}", window_mean(said.likely, said.lengths, radius)[rows])
    ones = np.ones(len(said.likely))
    for radius in (3, 8):
        table.add(f"likely_near_{radius}", window_mean(said.likely, ones, radius)[rows])


def _subtrees(table: FeatureTable, blocks: Blocks, measured: Features, said: _Said, rows: Rows) -> None:
    """How likely the text and the blocks below each ancestor are, and how much of the page's it holds."""
    expected, mass, counts = said.expected_before, said.mass_before, running(said.likely)
    for level in LEVELS:
        at = measured.level(level)[rows]
        low, high = blocks.first[at], blocks.last[at]
        held = expected[high] - expected[low]
        table.add(f"likely_text_{level}", held / np.maximum(mass[high] - mass[low], 1))
        table.add(f"likely_blocks_{level}", (counts[high] - counts[low]) / np.maximum(high - low, 1))
        if level:
            table.add(f"holds_{level}", held / max(expected[-1], 1))
    table.add("likely_before", expected[rows] / expected[-1])


def _alike(table: FeatureTable, measured: Features, said: _Said, rows: Rows) -> None:
    """How likely the blocks are that are made like each one."""
    for level, group in enumerate(measured.groups):
        chosen, count = group[rows], np.bincount(group)
        total = np.bincount(group, said.likely)
        expected = np.bincount(group, said.expected)
        table.add(f"likely_alike_{level}", (total / count)[chosen])
        table.add(f"likely_alike_text_{level}", (expected / np.bincount(group, said.lengths))[chosen])
        if level == len(measured.groups) - 1:
            others = (total[chosen] - said.likely[rows]) / np.maximum(count[chosen] - 1, 1)
            table.add("likely_others_alike", others)


def _page(table: FeatureTable, said: _Said, rows: Rows) -> None:
    """What the first judgement would keep of the page, how sure it is, and where each block stands to it."""
    order, kept, f1 = expected_f1(said.likely, said.lengths)
    best = int(f1.argmax())
    last = order[best]
    total = float(said.expected.sum())
    doubt = float(((1 - said.likely) * said.expected).sum())
    table.add("page_expected", float(f1[best]))
    table.add("page_threshold", float(said.likely[last]))
    table.add("page_likeliest", float(said.likely[order[0]]))
    table.add("page_kept", float(kept[best] / kept[-1]))
    table.add("page_kept_length", float(np.log1p(kept[best])))
    table.add("page_hits", total / float(kept[-1]))
    table.add("page_doubt", doubt / max(total, 1))
    table.add("over_threshold", said.odds[rows] - said.odds[last])


def _sections(table: FeatureTable, measured: Features, said: _Said, rows: Rows) -> None:
    """How far the nearest likely blocks are, and how likely the heading above and all below it are."""
    count = len(said.likely)
    for bound in SURE:
        before, after = (each[rows] for each in _nearest(said.likely >= bound))
        table.add(f"since_{bound}", np.where(before >= 0, np.log1p(rows - before), NOWHERE))
        table.add(f"until_{bound}", np.where(after < count, np.log1p(after - rows), NOWHERE))
    heading = _nearest(measured.headings)[0][rows]
    following = np.minimum(_nearest(np.append(measured.headings[1:], False))[1][rows] + 1, count)
    table.add("heading_odds", np.where(heading >= 0, said.odds[heading], -NOWHERE))
    start = np.maximum(heading, 0)
    held = said.expected_before[following] - said.expected_before[start]
    table.add("likely_section", held / np.maximum(said.mass_before[following] - said.mass_before[start], 1))


def _nearest(marked: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """For each row the last marked one up to it, or -1, and the first from it on, or the number of rows."""
    count = len(marked)
    rows = np.arange(count)
    before = np.maximum.accumulate(np.where(marked, rows, -1))
    after = np.minimum.accumulate(np.where(marked, rows, count)[::-1])[::-1]
    return before, after
