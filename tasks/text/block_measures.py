"""What is measured of a page's blocks one by one: their own text, and the elements around them.

Shape suffixes: B blocks, E elements, L labels, F features, C characters. Lengths count characters, an
ideograph as RICHER of them, so that a Chinese paragraph is as long as its English translation; nothing counts
words.
"""

from __future__ import annotations

from collections.abc import Mapping
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


@lru_cache(maxsize=1)
def _classes() -> NDArray[np.uint8]:
    """The class of every character of the basic plane."""
    table = np.full(0x10000, OTHER, np.uint8)
    tests = ((str.isspace, SPACE), (str.isdigit, DIGIT), (str.isalpha, LETTER), (str.isupper, UPPER))
    for holds, kind in tests:  # of several that hold, the last counts
        table[np.fromiter(map(holds, map(chr, range(len(table)))), np.bool_, len(table))] = kind
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


def _classes_at(texts: list[str], place: int) -> NDArray[np.uint8]:
    """(B) class of each text's character at a place."""
    return _classes()[np.minimum([ord(text[place]) for text in texts], 0xFFFF)]


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
        """Add a column of B numbers, or one number for all blocks."""
        self.names.append(name)
        if isinstance(column, np.ndarray):
            self.columns.append(column.astype(np.float32, copy=False))
        else:
            self.columns.append(np.full(self.rows, column, np.float32))

    def matrix(self) -> Array:
        """(F, B): a row a feature, as the trees read them."""
        return np.stack(self.columns)


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
        self.ends, self.begins = (_classes_at(blocks.texts, place) for place in (-1, 0))
        self.said = np.array([words.text_score(text) for text in blocks.texts], np.float32)

    def describe(self, table: FeatureTable) -> None:
        """Add what the text alone tells: its length, its letters, its links, its first and last character."""
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
        """Add what the elements are, how deep they lie and what their names say."""
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
            table.add(f"is_{tags[0]}", among(*tags)[self.tags])
        table.add("inner_strong", among("b", "strong")[self.inner_tags])
        table.add("inner_time", self.inner_tags == TAG_IDS["time"])
        for number, group in enumerate(AROUND):
            table.add(f"in_{group[0]}", (self.marks >> number) & 1)
        table.add("hidden", (self.marks >> len(AROUND)) & 1)


@lru_cache(maxsize=64)
def among(*tags: str) -> NDArray[np.bool_]:
    """For each number in TAGS, whether it is one of these tags; a look-up takes a twentieth of a search."""
    return np.isin(np.arange(len(TAGS)), [TAG_IDS[tag] for tag in tags])


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
