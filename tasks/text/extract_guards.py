"""What is refused before it is parsed: other formats served as HTML, and pages made to break parsers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.text.elements import BLOCKS, FORMATTING, TABLE, VOID
from tasks.text.extract_errors import ExtractionError
from tasks.text.nesting import MOST_WORK, too_deep
from tasks.text.tags import LONG_TAG, any_overloaded

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF file (WebP, WAV, AVI)"),
    (b"PK\x03\x04", "a ZIP or Office file"),
    (b"\x1f\x8b", "gzip data"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"BZh", "bzip2 data"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
    (b"OTTO", "a font"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"ID3", "an MP3 file"),
    (b"OggS", "an Ogg file"),
    (b"{\\rtf", "an RTF file"),
    (b"%!PS", "a PostScript file"),
)
_MAGIC = tuple(magic for magic, _ in MAGIC)
_OTHER_XML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(rss|feed|urlset|sitemapindex|svg|rdf:RDF)\b", re.S
)
HARMLESS = 5000
"""Start tags of a page that no nesting makes slow: a second at most. No trick is looked for in it."""
FED = 2**14
"""Bytes that the event parser is fed at a time."""
NAME = 8
"""Bytes of a tag's name that are compared."""
MOST_INLINE = 4000
_BORDER = re.compile(rf"</?(?:{'|'.join(sorted(BLOCKS | TABLE | {'body', 'table'}))})\b", re.IGNORECASE)
_ENDS = np.isin(np.arange(256), list(b"\0\t\n\f\r />"))
"""Bytes that end a tag's name."""
_LOWER = np.uint64(0x2020202020202020)
_ONE = np.uint64(1)
_BLANKS = np.isin(np.arange(256), list(b"\t\n\f\r "))
MOST_BLANKS = 16
"""Blanks looked through between a quote and what stands before it."""


def _numbers_of(names: Iterable[str]) -> NDArray[np.uint64]:
    return np.array([int.from_bytes(name.encode()[:NAME], "little") for name in names], np.uint64)


_VOID, _FORMATTING = _numbers_of(VOID), _numbers_of(FORMATTING)
_PLACES = np.uint64(2**24 - 1)
"""Bits for a tag's place among all; a page of more than 16 million tags is left to the parsers."""
_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio (Knuth, "Sorting and Searching", 6.4)."""
_HAS_TAG = re.compile(rb"<[a-zA-Z!/?]")


def refuse_other_formats(html: bytes) -> None:
    """Raise ExtractionError ``empty`` or ``not_html`` for bytes that are no page, by their first bytes."""
    head = html[:1024].lstrip()
    if not head and not html.strip():
        raise ExtractionError("empty", "the page has no bytes")
    if head.startswith(_MAGIC):
        name = next(name for magic, name in MAGIC if head.startswith(magic))
        raise ExtractionError("not_html", f"it is {name}")
    if head[4:8] == b"ftyp":
        raise ExtractionError("not_html", "it is an MP4 file")


def is_plain_text(page: bytes) -> bool:
    """Whether a page, in UTF-8, has no markup at all, so that all of it is text.

    Raises:
        ExtractionError: ``not_html`` for JSON, feeds, sitemaps and SVG.
    """
    found = _OTHER_XML.match(page, 0, 4096)
    if found:
        raise ExtractionError("not_html", f"it is XML: <{found[1].decode()}>")
    if page[:256].lstrip()[:1] in (b"{", b"[") and page[-256:].rstrip()[-1:] in (b"}", b"]"):
        raise ExtractionError("not_html", "it is JSON")
    return not _HAS_TAG.search(page)


def is_crowded(page: str) -> bool:
    """Whether more than MOST_INLINE tags of a page have no border of a block between them.

    Trafilatura takes inline elements out one by one, and copies the text before each: a paragraph with 10,000
    ruby elements costs it four seconds, one with twice as many four times that.
    """
    return page.count("<") > MOST_INLINE and any(
        piece.count("<") > MOST_INLINE for piece in _BORDER.split(page)
    )


def refuse_deep_nesting(page: bytes, limit: int) -> None:
    """Raise ExtractionError ``too_deep`` if elements are nested deeper than ``limit``.

    Tree parsers need time, and some need stack, that grows with the depth or its square. No page nests deeper
    than it has start tags; pairing tags clears most others at memory speed. What is left is measured as the
    standard has it (resiliparse's parser) and as libxml2 does, which follows rules of its own.
    """
    characters = np.frombuffer(page + bytes(NAME + 2), np.uint8)
    at = np.flatnonzero(characters == ord("<"))
    if any_overloaded(page, at[np.diff(at, append=len(page)) > LONG_TAG].tolist()):
        raise ExtractionError("too_deep", "an element has more attributes than any page needs")
    closing = characters[at + 1] == ord("/")
    starts = len(at) - int(np.count_nonzero(closing))
    if starts <= limit or _seems_shallow(
        _tags(characters, at, closing, careful=starts > max(limit, HARMLESS)), limit
    ):
        return
    if too_deep(page, limit) or _libxml2_too_deep(page, limit):
        raise ExtractionError("too_deep", f"elements are nested more than {limit:,} deep, or without order")


def _libxml2_too_deep(page: bytes, limit: int) -> bool:
    from lxml import etree

    depth = _Depth()
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, target=depth)
    # In pieces: at each end tag the parser may look through all open elements, so it must stop once too deep.
    for start in range(0, len(page), FED):
        parser.feed(page[start : start + FED])
        if depth.most > limit:
            return True
    return False


def _seems_shallow(tags: _Tags, limit: int) -> bool:
    """Whether elements cannot nest deeper than ``limit``, by counts alone.

    Where start and end tags of each name are paired and no pair crosses another, an element holds at most the
    sum over names of the most elements of that name that are open at once. Each pair that crosses another may
    be one whose end tag closes nothing. Formatting elements that are open are opened again in each block.
    """
    names, closing = tags.names, tags.closing
    if not 0 < len(names) <= _PLACES:
        return not len(names)
    order, first = _grouped(names)
    steps = np.where(closing[order], -1, 1)
    # Each name's running balance lies far below the one before, so that its minimum starts anew.
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    balance = np.cumsum(steps) + group * (-2 * len(order))
    floor = np.minimum.accumulate(np.minimum(balance, balance - steps))
    level = balance - floor
    most = np.maximum.reduceat(level, first)
    nested = ~np.isin(names[order[first]], _VOID)
    bound = int(most[nested].sum())
    if bound > limit or not tags.careful:
        return bound <= limit
    crossing = _crossing(order, group, level, steps)
    again = int(most[np.isin(names[order[first]], _FORMATTING)].sum()) + len(crossing)
    return bound + len(crossing) + tags.inside <= limit and again * len(names) <= MOST_WORK


def _crossing(
    order: NDArray[np.int64], group: NDArray[np.int64], level: NDArray[np.int64], steps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of the end tags whose pair holds one half of another pair.

    ``order`` has the tags by name; for each of them are given its name's number, how many elements of that
    name are open after it, and 1 or -1.
    """
    # An end tag ends the element of its own level: sorted by name, level and place, that stands before it.
    opened = np.where(steps > 0, level, level + 1)
    keys = group * (int(opened.max()) + 1) + opened
    by_level = np.argsort(keys.astype(np.uint16) if int(keys.max()) < 2**16 else keys, kind="stable")
    start, end = by_level[:-1], by_level[1:]
    paired = (steps[start] > 0) & (steps[end] < 0) & (group[start] == group[end])
    paired &= opened[start] == opened[end]
    starts, ends = order[start[paired]], order[end[paired]]
    depth = np.zeros(len(order), np.int64)
    depth[starts] = 1
    depth[ends] = -1
    np.cumsum(depth, out=depth)
    found: NDArray[np.int64] = ends[depth[starts] != depth[ends] + 1]
    return found


@dataclass(frozen=True, slots=True)
class _Tags:
    """A page's tags in order."""

    names: NDArray[np.uint64]
    """The first eight letters of each name, lower-case, as a number."""
    closing: NDArray[np.bool_]
    """Which are end tags."""
    careful: bool
    """Whether it was looked for tags within other tags, as in an attribute's value: such end tags are left
    out."""
    inside: int
    """How many "<" were found there."""


def _tags(
    characters: NDArray[np.uint8], at: NDArray[np.int64], closing: NDArray[np.bool_], *, careful: bool
) -> _Tags:
    """The tags at the places of "<"; NAME bytes and two follow the page's own."""
    eight: NDArray[np.uint64] = np.ndarray((len(characters) - NAME + 1,), "<u8", characters, strides=(1,))
    letters = eight[at + 1 + closing]
    ends = _ENDS[letters.view(np.uint8)].view(letters.dtype)
    names = (letters | _LOWER) & (ends - _ONE) & ~ends  # the bits below the first one set: what stands before
    first = (names & np.uint64(0xFF)).astype(np.uint8)
    tags = (first >= ord("a")) & (first <= ord("z"))  # no "<!" and no "< "
    inside = _may_be_inside(characters) if careful else np.zeros(0, np.bool_)
    if careful:
        tags &= ~(closing & inside)
    return _Tags(names[tags], closing[tags], careful, int(np.count_nonzero(inside)))


def _may_be_inside(characters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """For each "<" whether it may stand within a tag.

    Either no ">" is between it and the "<" before, or the last quote before it is one that opens a value.
    """
    edges = np.flatnonzero((characters | 2) == ord(">"))
    starts = characters[edges] == ord("<")
    inside = np.zeros(len(edges), np.bool_)
    inside[1:] = starts[:-1]
    inside = inside[starts]
    tags = characters == ord("<")
    for quote in b"\"'":
        places = np.flatnonzero((characters == quote) | tags)
        quotes = characters[places] == quote
        opens = np.concatenate(([False], _follows_equals(characters, places[quotes])))
        inside |= opens[np.cumsum(quotes)[~quotes]]
    return np.asarray(inside, np.bool_)


def _follows_equals(characters: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each place whether a "=" stands before it, or so many blanks that one may."""
    before = np.maximum(at - 1, 0)
    for _ in range(MOST_BLANKS):
        blank = np.flatnonzero(_BLANKS[characters[before]])
        if not len(blank):
            break
        before[blank] = np.maximum(before[blank] - 1, 0)
    found = characters[before]
    return np.asarray((found == ord("=")) | _BLANKS[found], np.bool_)


def _grouped(names: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tags ordered by name, those of one name as they stand; and where in that order each name begins."""
    # Hash and place in one number: sorting numbers takes a tenth of sorting stably by name.
    places = np.arange(len(names), dtype=np.uint64)
    keys = np.sort((names * _MIXER & ~_PLACES) | (places & _PLACES))
    hashes, order = keys & ~_PLACES, (keys & _PLACES).astype(np.int64)
    return order, np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))


class _Depth:
    """An lxml parser target that measures how deep elements are nested."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def start(self, tag: str, attributes: object) -> None:
        """One element deeper."""
        self.now += 1
        self.most = max(self.most, self.now)

    def end(self, tag: str) -> None:
        """One element less deep."""
        self.now -= 1

    def data(self, data: str) -> None:
        """Text is at no depth of its own."""

    def close(self) -> None:
        """Nothing is left to do."""
