"""What a classifier sees of a page's blocks: F numbers for each of B, put together from their measures.

Shape suffixes as in :mod:`tasks.text.block_measures`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_measures import Ancestry, Array, FeatureTable, TextMeasures, among
from tasks.text.block_tokens import Words
from tasks.text.blocks import TAG_IDS, Blocks

HEADINGS = among(*(f"h{level}" for level in range(1, 7)))
"""For each number in TAGS, whether it is a heading's."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a page's head says of the page."""

    title: str = ""
    kinds: tuple[bool, ...] = (False,) * 5
    """Whether it calls itself an article, a product, a discussion, a list, something with comments."""
    bodies: str = ""
    """Article bodies and descriptions in its JSON-LD."""


@dataclass(frozen=True, slots=True)
class Features:
    """The features of a page's blocks, and the measures that a second look at the page takes again."""

    names: list[str]
    table: Array
    """(F, B)."""
    lengths: Array
    """(B)."""
    levels: list[NDArray[np.int32]]
    """Ancestor number k of each block, for k from 0 to where all are the document."""
    groups: list[NDArray[np.intp]]
    """Three numbers a block, from 0, equal where the innermost one, two or three elements are made alike."""
    headings: NDArray[np.bool_]
    """(B) which blocks are headings."""

    def level(self, number: int) -> NDArray[np.int32]:
        """Ancestor ``number`` of each block; the document where there are not so many."""
        return self.levels[min(number, len(self.levels) - 1)]


def block_features(blocks: Blocks, hints: Hints, words: Words) -> Features:
    """What is seen of each block of a page that has some."""
    table = FeatureTable(len(blocks.texts))
    text = TextMeasures(blocks, words)
    text.describe(table)
    above = Ancestry(blocks, words)
    above.describe(table)
    _subtrees(table, blocks, text, above)
    _headings(table, blocks, text, hints)
    groups = _repetition(table, blocks, text, above)
    _neighbours(table, text, above)
    _page(table, blocks, text, hints)
    headings = HEADINGS[above.tags]
    return Features(table.names, table.matrix(), text.weight, above.levels, groups, headings)


def running(values: NDArray[Any]) -> NDArray[np.float64]:
    """Running sums with a zero in front: the sum over first to last is [last] - [first]."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _subtrees(table: FeatureTable, blocks: Blocks, text: TextMeasures, above: Ancestry) -> None:
    """The text, links and blocks below each block's ancestors, and the element with most paragraphs."""
    weight = running(text.weight)
    links = running(text.weight * text.link)
    prose = running(text.weight * text.paragraph)
    said = running(text.said)
    first, last = blocks.first, blocks.last
    total = max(weight[-1], 1)
    for level in (0, 1, 2, 3, 4, 6, 8):
        at = above.level(level)
        low, high = first[at], last[at]
        mass = weight[high] - weight[low]
        table.add(f"mass_{level}", np.log1p(mass))
        table.add(f"share_{level}", mass / total)
        table.add(f"links_{level}", (links[high] - links[low]) / np.maximum(mass, 1))
        table.add(f"prose_{level}", (prose[high] - prose[low]) / np.maximum(mass, 1))
        table.add(f"blocks_{level}", np.log1p(high - low))
        table.add(f"said_{level}", (said[high] - said[low]) / np.maximum(high - low, 1))
    holder = blocks.holder
    points = np.zeros(len(blocks.tag))
    value = np.where(text.paragraph, text.weight, 0)
    for share in (1.0, 0.5, 0.25):
        holder = blocks.parent[holder]
        np.add.at(points, holder, share * value)
    best = int(points.argmax())
    rows = np.arange(table.rows)
    for level in range(4):
        table.add(f"in_best_{level}", (first[best] <= rows) & (rows < last[best]))
        table.add(f"best_share_{level}", float((weight[last[best]] - weight[first[best]]) / total))
        best = int(blocks.parent[best])


def _headings(table: FeatureTable, blocks: Blocks, text: TextMeasures, hints: Hints) -> None:
    """Where the page's title is, and what the heading above each block says."""
    tags = blocks.tag[blocks.holder]
    rows = np.arange(table.rows)
    heads = HEADINGS[tags]
    title = " ".join(hints.title.lower().split())
    titles = [int(row) for row in np.flatnonzero(heads) if title and blocks.texts[row].lower() in title]
    titles = titles or [int(row) for row in np.flatnonzero(tags == TAG_IDS["h1"])]
    start = titles[0] if titles else -1
    table.add("after_title", np.sign(rows - start) if start >= 0 else 0.0)
    table.add("from_title", np.log1p(np.abs(rows - start)) * np.sign(rows - start) if start >= 0 else 0.0)
    is_title = np.zeros(table.rows, np.bool_)
    is_title[titles] = True
    table.add("is_title", is_title)
    previous = np.maximum.accumulate(np.where(heads, rows, -1))
    table.add("from_heading", np.where(previous >= 0, np.log1p(rows - previous), 9))
    table.add("heading_said", np.where(previous >= 0, text.said[previous], 0))
    table.add("heading_level", np.where(previous >= 0, tags[previous] - TAG_IDS["h1"], 9))
    following = np.minimum.accumulate(np.where(heads, rows, table.rows)[::-1])[::-1]
    sums = running(text.weight)
    table.add(
        "below_heading", np.log1p(sums[np.minimum(following, table.rows)] - sums[np.maximum(previous, 0)])
    )
    prose = np.flatnonzero(text.paragraph)
    first, last = (prose[0], prose[-1]) if len(prose) else (0, table.rows - 1)
    table.add("after_prose", np.clip((rows - first) / max(1, last - first), -1, 2))


def _repetition(
    table: FeatureTable, blocks: Blocks, text: TextMeasures, above: Ancestry
) -> list[NDArray[np.intp]]:
    """How many blocks of the page are made alike, and how often the same text comes; returns the groups."""
    groups = []
    length = np.log1p(text.weight)
    for level, made in enumerate(above.made):
        name = f"alike_{level}"
        _, group, count = np.unique(made, return_inverse=True, return_counts=True)
        size = count[group]
        groups.append(group)
        table.add(name, np.log1p(size))
        table.add(f"{name}_length", np.bincount(group, length)[group] / size)
        table.add(f"{name}_link", np.bincount(group, text.link)[group] / size)
        table.add(f"{name}_said", np.bincount(group, text.said)[group] / size)
    seen = Counter(blocks.texts)
    table.add("same_text", np.log1p(np.array([seen[each] for each in blocks.texts])))
    return groups


def shifted(values: NDArray[Any], by: int, filler: float) -> Array:
    """Each row's value ``by`` rows later; a filler beyond the ends."""
    moved = np.full(len(values), filler, np.float32)
    if abs(by) < len(values):
        if by > 0:
            moved[:-by] = values[by:]
        else:
            moved[-by:] = values[:by]
    return moved


def window_mean(values: NDArray[Any], weights: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """Weighted mean over the rows up to ``radius`` away."""
    rows = np.arange(len(values))
    low, high = np.maximum(rows - radius, 0), np.minimum(rows + radius + 1, len(values))
    sums, masses = running(values * weights), running(weights)
    return (sums[high] - sums[low]) / np.maximum(masses[high] - masses[low], 1e-6)


def _neighbours(table: FeatureTable, text: TextMeasures, above: Ancestry) -> None:
    length = np.log1p(text.weight)
    heads = HEADINGS[above.tags]
    for by in (-3, -2, -1, 1, 2, 3):
        table.add(f"length{by:+d}", shifted(length, by, 0))
        table.add(f"link{by:+d}", shifted(text.link, by, 1))
        table.add(f"said{by:+d}", shifted(text.said, by, -1))
        if abs(by) < 3:
            table.add(f"near{by:+d}", shifted(above.near, by, -1))
            table.add(f"heading{by:+d}", shifted(heads, by, 0))
            table.add(f"prose{by:+d}", shifted(text.paragraph, by, 0))
            table.add(f"kin{by:+d}", shifted(above.made[1], by, -1) == above.made[1].astype(np.float32))
    ones = np.ones(table.rows)
    for radius in (4, 12):
        table.add(f"around_link_{radius}", window_mean(text.link, text.weight, radius))
        table.add(f"around_prose_{radius}", window_mean(text.paragraph, text.weight, radius))
        table.add(f"around_length_{radius}", window_mean(length, ones, radius))
        table.add(f"around_said_{radius}", window_mean(text.said, ones, radius))
        table.add(f"around_far_{radius}", window_mean(above.far, ones, radius))


def _page(table: FeatureTable, blocks: Blocks, text: TextMeasures, hints: Hints) -> None:
    """What is the same for all blocks of a page, and where each is in it."""
    rows = np.arange(table.rows)
    total = max(float(text.weight.sum()), 1.0)
    table.add("position", rows / table.rows)
    table.add("text_before", (running(text.weight)[:-1]) / total)
    table.add("rows_left", np.log1p(table.rows - rows))
    table.add("page_blocks", float(np.log1p(table.rows)))
    table.add("page_length", float(np.log1p(total)))
    table.add("page_link", float((text.weight * text.link).sum() / total))
    table.add("page_prose", float((text.weight * text.paragraph).sum() / total))
    table.add("page_said", float(text.said.mean()))
    tags = blocks.tag
    for tag in ("article", "main", "p", "li", "td", "h2", "form", "noscript"):
        table.add(f"page_{tag}", float(np.log1p((tags == TAG_IDS[tag]).sum())))
    for name, on in zip(("article", "product", "discussion", "list", "comments"), hints.kinds, strict=True):
        table.add(f"kind_{name}", float(on))
    stated = [len(each) > 20 and each in hints.bodies for each in blocks.texts] if hints.bodies else [False]
    table.add("stated", np.array(stated) if hints.bodies else 0.0)
    table.add("page_stated", float(np.log1p(len(hints.bodies))))
