"""What a classifier sees of a page's blocks: F numbers for each of B.

Shape suffixes: B blocks, E elements, F features, C characters. Lengths count characters, an ideograph as
RICHER of them, so that a Chinese paragraph is as long as its English translation; nothing counts words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_tokens import Words
from tasks.text.blocks import TAG_IDS, TAGS, Blocks

Array = NDArray[np.float32]

RICHER = 2.5
"""Latin letters that say as much as one ideograph; in parallel texts between 2 and 3."""
PARAGRAPH = 80.0
"""Length from which a block that is not all links reads like a paragraph."""
DEEPEST = 64
"""Ancestors looked at above a block."""

OTHER, LETTER, UPPER, DIGIT, SPACE, COMMA, STOP, SYMBOL, WIDE = range(9)
CLASSES = 9
TAG_GROUPS: tuple[tuple[str, ...], ...] = (
    ("p",),
    ("h1",),
    ("h2",),
    ("h3", "h4", "h5", "h6"),
    ("li",),
    ("td", "th"),
    ("dt", "dd"),
    ("div", "section", "article", "main", "custom"),
    ("pre", "code"),
    ("blockquote",),
    ("figcaption", "caption"),
    ("button", "label", "option", "legend"),
)
AROUND: tuple[tuple[str, ...], ...] = (
    ("article",),
    ("main",),
    ("nav", "menu"),
    ("header", "thead"),
    ("footer",),
    ("aside",),
    ("form", "fieldset"),
    ("ul", "ol"),
    ("table",),
    ("a",),
    ("blockquote",),
    ("figure",),
    ("dialog", "details"),
    ("noscript",),
    ("li",),
    ("button",),
    ("h1", "h2", "h3", "h4", "h5", "h6"),
    ("custom",),
)
HEADING_IDS = [TAG_IDS[f"h{level}"] for level in range(1, 7)]


@dataclass(frozen=True, slots=True)
class Hints:
    """What a page's head says of the page."""

    title: str = ""
    kinds: tuple[bool, ...] = (False,) * 5
    """Whether it calls itself an article, a product, a discussion, a list, something with comments."""
    bodies: str = ""
    """Article bodies and descriptions in its JSON-LD."""


@lru_cache(maxsize=1)
def _classes() -> NDArray[np.uint8]:
    """The class of every character of the basic plane."""
    table = np.full(0x10000, OTHER, np.uint8)
    for code in range(0x10000):
        letter = chr(code)
        if letter.isupper():
            table[code] = UPPER
        elif letter.isalpha():
            table[code] = LETTER
        elif letter.isdigit():
            table[code] = DIGIT
        elif letter.isspace():
            table[code] = SPACE
    for low, high in ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF)):
        table[low : high + 1] = WIDE
    for letters, kind in (
        (",;:，、；：،", COMMA),
        (".!?。！？…؟।", STOP),
        ("|/\\>»›→•·©®™$€£¥+*#@&", SYMBOL),
    ):
        for letter in letters:
            table[ord(letter)] = kind
    return table


def character_counts(texts: list[str]) -> Array:
    """(B, CLASSES): how many characters of each class each text has."""
    codes_C = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32)
    classes_C = _classes()[np.minimum(codes_C, 0xFFFF)].astype(np.int64)
    classes_C[codes_C >= 0x20000] = WIDE
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    rows_C = np.repeat(np.arange(len(texts)) * CLASSES, lengths)
    counts = np.bincount(rows_C + classes_C, minlength=len(texts) * CLASSES)
    return counts.reshape(-1, CLASSES).astype(np.float32)


def _lengths(counts: Array) -> Array:
    """(B) length of each text: characters that are not space, an ideograph as RICHER of them; at least 1."""
    visible = np.maximum(counts.sum(1) - counts[:, SPACE], 1)
    return np.asarray(visible + (RICHER - 1) * counts[:, WIDE], np.float32)


class FeatureTable:
    """Named columns, put together at the end."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.names: list[str] = []
        self.columns: list[Array] = []

    def add(self, name: str, column: NDArray[Any] | float) -> None:
        self.names.append(name)
        if isinstance(column, np.ndarray):
            self.columns.append(column.astype(np.float32, copy=False))
        else:
            self.columns.append(np.full(self.rows, column, np.float32))

    def matrix(self) -> Array:
        """(F, B): a row a feature, as the trees read them."""
        return np.stack(self.columns)


def block_features(blocks: Blocks, hints: Hints, words: Words) -> tuple[list[str], Array, Array]:
    """Names of the features, their (F, B) table and the blocks' (B) lengths, for a page with blocks."""
    table = FeatureTable(len(blocks.texts))
    text = TextMeasures(blocks, words)
    text.describe(table)
    above = Ancestry(blocks, words)
    above.describe(table)
    _subtrees(table, blocks, text, above)
    _headings(table, blocks, text, hints)
    _repetition(table, blocks, text, above)
    _neighbours(table, text, above)
    _page(table, blocks, text, hints)
    return table.names, table.matrix(), text.weight


class TextMeasures:
    """Measures of each block's own text, which other features build on."""

    def __init__(self, blocks: Blocks, words: Words) -> None:
        counts = character_counts(blocks.texts)
        self.counts = counts
        self.visible = np.maximum(counts.sum(1) - counts[:, SPACE], 1)
        self.weight = _lengths(counts)
        """Length of each block."""
        lengths = np.maximum(counts.sum(1), 1)
        self.link = np.minimum(blocks.links / lengths, 1).astype(np.float32)
        self.strong = np.minimum(blocks.strong / lengths, 1)
        self.anchors = blocks.anchors
        self.breaks = blocks.breaks
        self.paragraph = (self.weight >= PARAGRAPH) & (self.link < 0.4)
        self.ends = np.array([_classes()[min(ord(text[-1]), 0xFFFF)] for text in blocks.texts])
        self.begins = np.array([_classes()[min(ord(text[0]), 0xFFFF)] for text in blocks.texts])
        self.said = np.array([words.text_score(text) for text in blocks.texts], np.float32)

    def describe(self, table: FeatureTable) -> None:
        visible = self.visible
        table.add("length", np.log1p(self.weight))
        table.add("link", self.link)
        table.add("anchors", np.log1p(self.anchors))
        table.add("strong", self.strong)
        table.add("breaks", np.log1p(self.breaks))
        for name, kind in (
            ("upper", UPPER),
            ("digit", DIGIT),
            ("comma", COMMA),
            ("stop", STOP),
            ("symbol", SYMBOL),
        ):
            table.add(f"{name}_share", self.counts[:, kind] / visible)
        table.add("wide_share", self.counts[:, WIDE] / visible)
        table.add("letter_share", (self.counts[:, LETTER] + self.counts[:, UPPER]) / visible)
        table.add("stops", np.log1p(self.counts[:, STOP]))
        table.add("run", self.visible / (self.counts[:, SPACE] + 1 + self.counts[:, WIDE]))
        table.add("ends_sentence", self.ends == STOP)
        table.add("ends_colon", self.ends == COMMA)
        table.add("begins_upper", self.begins == UPPER)
        table.add("begins_digit", self.begins == DIGIT)
        table.add("begins_symbol", self.begins == SYMBOL)
        table.add("said", self.said)


class Ancestry:
    """What the elements around each block are, and are called."""

    def __init__(self, blocks: Blocks, words: Words) -> None:
        rows = len(blocks.texts)
        near_L, far_L = np.array([words.label_scores(label) for label in blocks.labels], np.float32).T
        near_E = near_L[blocks.label] + _tag_scores(words.near)[blocks.tag]
        far_E = far_L[blocks.label] + _tag_scores(words.far)[blocks.tag]
        marks_E = _marks()[blocks.tag] | (blocks.hidden.astype(np.int64) << len(AROUND))
        self.inner = np.where(blocks.inner != blocks.holder, near_E[blocks.inner], 0)
        self.own = near_E[blocks.holder]
        self.near = np.zeros(rows, np.float32)
        self.far = np.zeros(rows, np.float32)
        self.best = np.full(rows, -9, np.float32)
        self.worst = np.full(rows, 9, np.float32)
        self.marks = marks_E[blocks.inner]
        self.depth = np.zeros(rows, np.int32)
        self.levels: list[NDArray[np.int32]] = []
        """Ancestor number k of each block, for k from 0."""
        at = blocks.holder
        for level in range(DEEPEST):
            self.levels.append(at)
            inside = at > 0
            if not inside.any():
                break
            if level < 3:
                self.near += np.where(inside, near_E[at], 0)
            far = np.where(inside, far_E[at], 0)
            self.far += far
            self.best = np.maximum(self.best, far)
            self.worst = np.minimum(self.worst, far)
            self.marks |= np.where(inside, marks_E[at], 0)
            self.depth += inside
            at = blocks.parent[at]
        self.made = self._makes(blocks)
        """Three numbers a block, equal where the innermost one, two or three elements are made alike."""
        self.tags = blocks.tag[blocks.holder]
        self.inner_tags = blocks.tag[blocks.inner]

    def _makes(self, blocks: Blocks) -> list[NDArray[np.int64]]:
        made = np.zeros(len(blocks.texts), np.int64)
        makes = []
        for level in range(3):
            at = self.level(level)
            made = (made * 1_000_003 + blocks.label[at] * 101 + blocks.tag[at]) & 0xFFFFFF
            makes.append(made)
        return makes

    def level(self, number: int) -> NDArray[np.int32]:
        """Ancestor ``number`` of each block; the document where there are not so many."""
        return self.levels[min(number, len(self.levels) - 1)]

    def describe(self, table: FeatureTable) -> None:
        for name, column in (
            ("called_inner", self.inner),
            ("called_own", self.own),
            ("called_near", self.near),
            ("called_far", self.far),
            ("called_best", self.best),
            ("called_worst", self.worst),
        ):
            table.add(name, column)
        table.add("depth", self.depth)
        for tags in TAG_GROUPS:
            table.add(f"is_{tags[0]}", np.isin(self.tags, [TAG_IDS[tag] for tag in tags]))
        table.add("inner_strong", np.isin(self.inner_tags, [TAG_IDS["b"], TAG_IDS["strong"]]))
        table.add("inner_time", self.inner_tags == TAG_IDS["time"])
        for number, group in enumerate(AROUND):
            table.add(f"in_{group[0]}", (self.marks >> number) & 1)
        table.add("hidden", (self.marks >> len(AROUND)) & 1)


@lru_cache(maxsize=1)
def _marks() -> NDArray[np.int64]:
    """For each tag, a bit for each group of AROUND that it is in."""
    marks = np.zeros(len(TAGS), np.int64)
    for number, group in enumerate(AROUND):
        for tag in group:
            marks[TAG_IDS[tag]] |= 1 << number
    return marks


def _tag_scores(weights: Mapping[str, float]) -> Array:
    return np.array([weights.get(f"<{tag}>", 0.0) for tag in TAGS], np.float32)


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
    heads = np.isin(tags, HEADING_IDS)
    title = " ".join(hints.title.lower().split())
    titles = [int(row) for row in np.flatnonzero(heads) if title and blocks.texts[row].lower() in title]
    titles = titles or [int(row) for row in np.flatnonzero(tags == TAG_IDS["h1"])]
    start = titles[0] if titles else -1
    table.add("after_title", np.sign(rows - start) if start >= 0 else 0.0)
    table.add("from_title", np.log1p(np.abs(rows - start)) * np.sign(rows - start) if start >= 0 else 0.0)
    table.add("is_title", np.isin(rows, titles))
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


def _repetition(table: FeatureTable, blocks: Blocks, text: TextMeasures, above: Ancestry) -> None:
    """How many blocks of the page are made alike, and how often the same text comes."""
    length = np.log1p(text.weight)
    for level, made in enumerate(above.made):
        name = f"alike_{level}"
        _, group, count = np.unique(made, return_inverse=True, return_counts=True)
        size = count[group]
        table.add(name, np.log1p(size))
        table.add(f"{name}_length", np.bincount(group, length)[group] / size)
        table.add(f"{name}_link", np.bincount(group, text.link)[group] / size)
        table.add(f"{name}_said", np.bincount(group, text.said)[group] / size)
    seen = Counter(blocks.texts)
    table.add("same_text", np.log1p(np.array([seen[each] for each in blocks.texts])))


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
    heads = np.isin(above.tags, HEADING_IDS)
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
