"""A page's source without what never shows: scripts, styles, drawings and comments.

They are half of the bytes of today's pages. Cutting them out by searching for their ends, at memory speed,
is what makes everything after it twice as fast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_START = re.compile(r"<(!--|(?:[sS](?:[cC][rR][iI][pP][tT]|[tT][yY][lL][eE]|[vV][gG])\b))")


@dataclass(frozen=True, slots=True)
class Markup:
    """A decoded page, cut in two."""

    page: str
    """The page's source without scripts, styles, drawings and comments."""
    linked: tuple[str, ...]
    """The JSON-LD scripts' contents."""


def split_markup(page: str) -> Markup:
    """Cut scripts, styles, drawings and comments out of a page's source.

    An element without an end stays, as a parser would take the rest of the page into it.
    """
    kept: list[str] = []
    linked: list[str] = []
    position = start = 0
    without_end: set[str] = set()
    while found := _START.search(page, start):
        kind = found[1].lower()
        stop = -1 if kind in without_end else _end(page, found.end(), kind)
        if stop < 0:
            without_end.add(kind)
            start = found.end()
            continue
        if kind == "script" and "ld+json" in page[found.end() : found.end() + 300]:
            linked.append(page[page.find(">", found.end()) + 1 : page.rfind("</", found.end(), stop)])
        kept.append(page[position : found.start()])
        position = start = stop
    kept.append(page[position:])
    return Markup(" ".join(kept), tuple(linked))


def _end(page: str, start: int, kind: str) -> int:
    """Where the element that starts here has ended, or -1."""
    if kind == "!--":
        stop = page.find("-->", start)
        return stop + 3 if stop >= 0 else -1
    stop = page.find(f"</{kind}", start)
    if stop < 0:
        stop = page.find(f"</{kind.upper()}", start)
    stop = page.find(">", stop) if stop >= 0 else -1
    return stop + 1 if stop >= 0 else -1
