"""What is refused before it is parsed: other formats served as HTML, and pages made to break parsers."""

from __future__ import annotations

import re

import numpy as np

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
    if page.count(b"<") <= limit or _depth_bound(page) <= limit:
        return
    from lxml import etree

    etree.fromstring(page, etree.HTMLParser(encoding="utf-8", huge_tree=True, target=_Depth(limit)))


def _depth_bound(page: bytes) -> int:
    """About how deep elements nest at most: start tags less end tags, of which none counts below zero.

    Names are not compared, which would take longer than the parse: a page whose end tags close nothing can
    pass for shallow, and costs its worker's time limit then.
    """
    characters = np.frombuffer(page, np.uint8)
    tags = np.flatnonzero(characters[:-1] == ord("<"))
    depths = np.cumsum(np.where(characters[tags + 1] == ord("/"), -1, 1))
    return int((depths - np.minimum.accumulate(np.minimum(depths, 0))).max(initial=0))


class _Depth:
    """An lxml parser target that gives up on a page where elements are nested deeper than a bound."""

    def __init__(self, limit: int) -> None:
        self.now = 0
        self.limit = limit

    def start(self, tag: str, attributes: object) -> None:
        self.now += 1
        if self.now > self.limit:
            raise ExtractionError("too_deep", f"elements are nested more than {self.limit:,} deep")

    def end(self, tag: str) -> None:
        self.now -= 1

    def data(self, data: str) -> None:
        pass

    def close(self) -> None:
        pass
