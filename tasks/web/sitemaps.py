"""Addresses listed in sitemaps and feeds, found by a scan that no XML bomb can touch."""

from __future__ import annotations

import html
import re
import zlib

from tasks.web.urls import canonical_url, unique

MAX_LISTED = 50_000
"""Addresses taken from one file: the sitemap protocol's own bound."""

XML_TYPES = frozenset({"text/xml", "application/xml", "application/rss+xml", "application/atom+xml"})
GZIP_TYPES = frozenset({"application/gzip", "application/x-gzip"})

_ROOT = re.compile(rb"<(?:\w+:)?(urlset|sitemapindex|rss|feed|RDF)[\s>]")
_CHARSET = re.compile(rb"\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{2,40})", re.ASCII)
_LISTED = re.compile(
    rb"<(?!image:)(?:\w+:)?(?:loc|link)\s*>\s*(?:<!\[CDATA\[)?\s*([^<\]\s]{1,2048})|<(?:\w+:)?link\s([^<>]{1,4096})>"
)
_HREF = re.compile(rb"""\bhref\s*=\s*["']([^"']{1,2048})["']""")


def unpacked(content: bytes, limit: int) -> bytes:
    """The bytes, or what is in them where they are gzip: at most ``limit``, so that no bomb goes off."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return zlib.decompressobj(wbits=31).decompress(content, limit)
    except zlib.error:
        return b""


def is_listing(content: bytes) -> bool:
    """Whether the bytes are a sitemap, a sitemap index, an RSS or an Atom feed."""
    return bool(_ROOT.search(content, 0, 4096))


def is_index(content: bytes) -> bool:
    """Whether the bytes are a sitemap index: all that it lists are sitemaps, whatever they are called."""
    root = _ROOT.search(content, 0, 4096)
    return root is not None and root[1] == b"sitemapindex"


def listed_addresses(content: bytes, url: str) -> list[str]:
    """The pages (and further sitemaps) that a sitemap or feed lists, canonical, in order, each once.

    The images that a sitemap lists with its pages are none.
    """
    found: list[str] = []
    for match in _LISTED.finditer(_as_utf8(content)):
        raw = match[1]
        if raw is None:
            href = _HREF.search(match[2])
            if href is None or b'"self"' in match[2]:
                continue
            raw = href[1]
        found.append(canonical_url(html.unescape(raw.decode("utf-8", "replace")), url))
        if len(found) >= MAX_LISTED:
            break
    return unique(found)


def _as_utf8(content: bytes) -> bytes:
    """The bytes in UTF-8, where they say that they are in something else."""
    stated = _CHARSET.match(content)
    if stated is None or stated[1].lower() == b"utf-8":
        return content
    try:
        return content.decode(stated[1].decode("ascii"), "replace").encode("utf-8", "replace")
    except (LookupError, ValueError):  # no such charset, or none of texts
        return content
