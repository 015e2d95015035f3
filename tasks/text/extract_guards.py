"""What is refused before it is parsed: other formats served as HTML, and pages made to break parsers."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from tasks.text.extract_errors import ExtractionError

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
FED = 2**14
"""Bytes that the event parser is fed at a time."""
SHORTEST_TAG = 3
"""Bytes of the shortest tag."""
NAME = 8
"""Bytes of a tag's name that are compared."""
_ENDS = np.isin(np.arange(256), list(b"\0\t\n\f\r />"))
"""Bytes that end a tag's name."""
_LOWER = np.uint64(0x2020202020202020)
_LEADING = np.array([(1 << 8 * length) - 1 for length in range(NAME + 1)], np.uint64)
_VOID = np.array(
    [
        int.from_bytes(name, "little")
        for name in b"area base br col embed hr img input link meta param source track wbr".split()
    ],
    np.uint64,
)
"""Names of elements that hold nothing."""
_PLACES = np.uint64(2**24 - 1)
"""Bits for a tag's place among all; a page of more than 16 million tags is left to the event parser."""
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


def refuse_deep_nesting(page: bytes, limit: int) -> None:
    """Raise ExtractionError ``too_deep`` if elements are nested deeper than ``limit``.

    Tree parsers need time, and some need stack, that grows with the depth or its square. Counting tags clears
    nearly every page at memory speed; the rest is measured by an event parser, which keeps no tree.
    """
    if len(page) <= SHORTEST_TAG * limit or _depth_bound(page) <= limit:
        return
    from lxml import etree

    depth = _Depth()
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, target=depth)
    # In pieces: at each end tag the parser may look through all open elements, so it must stop once too deep.
    for start in range(0, len(page), FED):
        parser.feed(page[start : start + FED])
        if depth.most > limit:
            raise ExtractionError("too_deep", f"elements are nested more than {limit:,} deep")


def _depth_bound(page: bytes) -> int:
    """How deep elements nest at most: the sum over names of the most elements that are open at once.

    An end tag closes at most one element, of its own name, and none where none is open. (One that is written
    in an attribute's value counts here as well; a page full of these costs its worker's time limit.)
    """
    names, closing = _tags(page)
    if not 0 < len(names) <= _PLACES:
        return len(names)
    order, first = _grouped(names)
    steps = np.where(closing[order], -1, 1)
    # Each name's running balance lies far below the one before, so that its minimum starts anew.
    apart = np.repeat(np.arange(len(first)) * (-2 * len(order)), np.diff(first, append=len(order)))
    balance = np.cumsum(steps) + apart
    floor = np.minimum.accumulate(np.minimum(balance, balance - steps))
    most = np.maximum.reduceat(balance - floor, first)
    return int(most[~np.isin(names[order[first]], _VOID)].sum())


def _tags(page: bytes) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The first eight letters of each tag's name, lower-case, as a number, and whether it is an end tag."""
    characters = np.frombuffer(page + bytes(NAME + 2), np.uint8)
    at = np.flatnonzero(characters[: len(page)] == ord("<"))
    closing = characters[at + 1] == ord("/")
    eight: NDArray[np.uint64] = np.ndarray((len(page) + 3,), "<u8", characters, strides=(1,))
    letters = eight[at + 1 + closing]
    ends = _ENDS[letters.view(np.uint8)].reshape(-1, NAME)
    length = np.where(ends.any(1), ends.argmax(1), NAME)
    names = (letters | _LOWER) & _LEADING[length]
    first = (names & np.uint64(0xFF)).astype(np.uint8)
    tags = (first >= ord("a")) & (first <= ord("z"))  # no "<!" and no "< "
    return names[tags], closing[tags]


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
