"""A page as a sequence of blocks of text, and the tree of elements that holds them.

A block is the text between two borders that a reader sees: a paragraph, a heading, a table's cell, a menu's
entry. The page is read as a stream of events; no tree is kept, so nesting costs nothing and a page takes
little more time than its parse. Elements are numbered in document order, so that the blocks below an element
are a range, and a sum over any subtree is the difference of two running sums.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from tasks.text.elements import FONT_ATTRIBUTES, HOLDS_HTML, ISLANDS, OUT_OF_FOREIGN
from tasks.text.extract_errors import ExtractionError

Numbers = NDArray[np.int32]

MAX_BLOCKS = 50_000
"""A page with more is cut here: the features of a block look at most a few hundred blocks around it."""
BREAK = "\x0b"
"""Stands for <br> until a block's text is put together."""

INLINE, BLOCK, SKIP, LINE, STRONG, LINK, VERBATIM = range(7)
_BLOCKS = """
address article aside blockquote body button caption center dd details dialog dir div dl dt fieldset
figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav
noframes noscript ol option p search section summary table tbody td tfoot th thead tr ul
"""
_SKIPPED = """
script style template svg math iframe object canvas head select datalist textarea audio video
rt rp
"""
_TAGS = """
html body div section article main aside header footer nav form p h1 h2 h3 h4 h5 h6 ul ol li dl dt dd
table tbody thead tr td th blockquote pre figure figcaption button label details summary dialog address a
span b strong em i time small code center fieldset menu hr br img input caption legend cite q sup sub u
font picture option tfoot mark abbr kbd samp var del ins noscript other custom
"""
_KINDS = {
    **dict.fromkeys(_BLOCKS.split(), BLOCK),
    **dict.fromkeys(_SKIPPED.split(), SKIP),
    **dict.fromkeys(["b", "strong"], STRONG),
    **dict.fromkeys(["pre", "listing", "xmp", "plaintext"], VERBATIM),
    "br": LINE,
    "a": LINK,
}
TAGS = tuple(_TAGS.split())
_BODY = re.compile(r"</head\s*>\s*(<body\b)", re.IGNORECASE)
TAG_IDS = {tag: number for number, tag in enumerate(TAGS)}


@dataclass(slots=True)
class Blocks:
    """B blocks and E elements of a page, both in document order.

    Element 0 is the document itself; every other element's parent has a smaller number.
    """

    texts: list[str]
    """B texts; spaces collapsed, except in verbatim blocks."""
    holder: Numbers
    """(B) the innermost block-level element around each block."""
    inner: Numbers
    """(B) the innermost element of any kind around the block's first character."""
    links: Numbers
    """(B) characters inside links."""
    anchors: Numbers
    """(B) links that start in the block."""
    strong: Numbers
    """(B) characters inside bold type."""
    breaks: Numbers
    """(B) ``<br>`` elements."""
    parent: Numbers
    """(E) number of each element's parent."""
    tag: Numbers
    """(E) number in TAGS."""
    label: Numbers
    """(E) number of the element's class, id, role and itemprop among ``labels``."""
    hidden: NDArray[np.bool_]
    """(E) whether the element itself says that it does not show."""
    first: Numbers
    """(E) with ``last``: blocks first to last, exclusive, lie below the element."""
    last: Numbers
    labels: list[str]


def read_blocks(page: str) -> Blocks:
    """Cut a decoded page's source into blocks.

    Raises:
        ExtractionError: ``parser``, if the parser gives up on the page.
    """
    body = _BODY.search(page)
    if body:
        page = page[body.start(1) :]  # a head holds no text, and often a fifth of the elements
    reader = _Reader()
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, target=reader)
    try:
        etree.fromstring(page.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        if not reader.texts and not reader.buffer:
            raise ExtractionError("parser", f"{error}"[:300]) from error
    return reader.blocks()


@dataclass(slots=True)
class _Reader:
    """An lxml parser target; its methods run for every tag of every page, so they do little."""

    texts: list[str] = field(default_factory=list)
    holders: list[int] = field(default_factory=list)
    inners: list[int] = field(default_factory=list)
    counts: list[tuple[int, int, int, int]] = field(default_factory=list)
    parents: list[int] = field(default_factory=lambda: [0])
    tags: list[int] = field(default_factory=lambda: [TAG_IDS["other"]])
    element_labels: list[int] = field(default_factory=lambda: [0])
    hidden: list[bool] = field(default_factory=lambda: [False])
    firsts: list[int] = field(default_factory=lambda: [0])
    lasts: list[int] = field(default_factory=lambda: [0])
    labels: dict[str, int] = field(default_factory=lambda: {"": 0})
    open: list[tuple[int, int]] = field(default_factory=lambda: [(0, BLOCK)])
    """Numbers and kinds of the open elements."""
    open_blocks: list[int] = field(default_factory=lambda: [0])
    buffer: list[str] = field(default_factory=list)
    inner: int = 0
    skipped: list[str] = field(default_factory=list)
    """Names of the open elements of which nothing is read, from the outermost one."""
    islands: int = 0
    """How many of them hold HTML within a drawing or a formula."""
    in_link: int = 0
    in_strong: int = 0
    verbatim: int = 0
    linked: int = 0
    anchors: int = 0
    strong: int = 0
    breaks: int = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Open an element; one of block level ends the block before it."""
        kind = _KINDS.get(tag, INLINE)
        if self.skipped and self._breaks_out(tag, attributes):
            self._leave_foreign()
        if self.skipped or kind == SKIP:
            self.skipped.append(tag)
            self.islands += tag in ISLANDS
            return
        if kind == LINE:
            if self.buffer:
                self.buffer.append(BREAK)
                self.breaks += 1
            self.open.append((0, LINE))
            return
        if kind == INLINE and "-" in tag:
            kind = BLOCK  # web components are containers far more often than not
        if kind in (BLOCK, VERBATIM):
            self.flush()
        number = len(self.parents)
        self.parents.append(self.open[-1][0])
        self.tags.append(TAG_IDS.get(tag, TAG_IDS["custom" if "-" in tag else "other"]))
        self.firsts.append(len(self.texts))
        self.lasts.append(len(self.texts))
        self._describe(attributes)
        self.open.append((number, kind))
        if kind == BLOCK:
            self.open_blocks.append(number)
        elif kind == LINK:
            self.in_link += 1
            self.anchors += 1
        elif kind == STRONG:
            self.in_strong += 1
        elif kind == VERBATIM:
            self.open_blocks.append(number)
            self.verbatim += 1

    def _breaks_out(self, tag: str, attributes: Mapping[str, str]) -> bool:
        """Whether a start tag ends the drawing or formula of which nothing is read.

        A page of which nothing is left after a drawing without an end is read on so by browsers too.
        """
        if self.islands or self.skipped[0] not in HOLDS_HTML:
            return False
        return tag in OUT_OF_FOREIGN or (tag == "font" and not FONT_ATTRIBUTES.isdisjoint(attributes))

    def _leave_foreign(self) -> None:
        """Read on: for the parser the drawing's elements are open still, and their ends will come."""
        holder = self.open[-1][0]
        self.open += [(holder, LINE)] * len(self.skipped)
        self.skipped.clear()

    def _describe(self, attributes: Mapping[str, str]) -> None:
        if not attributes:
            self.element_labels.append(0)
            self.hidden.append(False)
            return
        get = attributes.get
        label = f"{get('class', '')} {get('id', '')} {get('role', '')} {get('itemprop', '')}"[:300]
        self.element_labels.append(self.labels.setdefault(label, len(self.labels)))
        style = get("style", "")
        self.hidden.append(
            "hidden" in attributes
            or get("aria-hidden") == "true"
            or ("none" in style and "display:none" in style.replace(" ", ""))
        )

    def end(self, tag: str) -> None:
        """Close the innermost element, and with it the block that it holds."""
        if self.skipped:
            self.islands -= self.skipped.pop() in ISLANDS
            return
        if len(self.open) == 1:
            return
        number, kind = self.open.pop()
        if kind in (BLOCK, VERBATIM):
            self.flush()
            self.open_blocks.pop()
            self.verbatim -= kind == VERBATIM
        elif kind == LINK:
            self.in_link -= 1
        elif kind == STRONG:
            self.in_strong -= 1
        elif kind == LINE:
            return
        self.lasts[number] = len(self.texts) + (1 if self.buffer else 0)

    def data(self, data: str) -> None:
        """Take text in."""
        if self.skipped:
            return
        if not self.buffer:
            if not self.verbatim and data.isspace():
                return
            self.inner = self.open[-1][0]
        self.buffer.append(data)
        if self.in_link:
            self.linked += len(data)
        if self.in_strong:
            self.strong += len(data)

    def comment(self, text: str) -> None:
        """Comments hold no text of the page."""

    def close(self) -> None:
        """End the last block."""
        self.flush()

    def flush(self) -> None:
        """End the block, if there is one, at a border."""
        if not self.buffer:
            self.anchors = self.breaks = 0
            return
        whole = "".join(self.buffer)
        self.buffer.clear()
        if self.verbatim:
            text = whole.replace(BREAK, "\n").strip("\r\n").rstrip()
        elif self.breaks:
            text = "\n".join(" ".join(line.split()) for line in whole.split(BREAK)).strip()
        else:
            text = " ".join(whole.split())
        if text and len(self.texts) < MAX_BLOCKS:
            self.texts.append(text)
            self.holders.append(self.open_blocks[-1])
            self.inners.append(self.inner)
            self.counts.append((self.linked, self.anchors, self.strong, self.breaks))
        self.linked = self.anchors = self.strong = self.breaks = 0

    def blocks(self) -> Blocks:
        """What was read, as arrays."""
        self.flush()
        self.lasts[0] = len(self.texts)
        for number, _ in self.open[1:]:  # left open only where the parser gave up
            self.lasts[number] = len(self.texts)
        counts = np.array(self.counts, np.int32).reshape(-1, 4)
        lasts = np.minimum(np.array(self.lasts, np.int32), len(self.texts))
        return Blocks(
            texts=self.texts,
            holder=np.array(self.holders, np.int32),
            inner=np.array(self.inners, np.int32),
            links=counts[:, 0],
            anchors=counts[:, 1],
            strong=counts[:, 2],
            breaks=counts[:, 3],
            parent=np.array(self.parents, np.int32),
            tag=np.array(self.tags, np.int32),
            label=np.array(self.element_labels, np.int32),
            hidden=np.array(self.hidden, np.bool_),
            first=np.array(self.firsts, np.int32),
            last=lasts,
            labels=list(self.labels),
        )
