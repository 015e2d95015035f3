"""A page's tags, read as the HTML standard reads them, and none that stands in a script or an attribute.

A page takes time in proportion to its length, whatever is in it (WHATWG HTML, 13.2.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

RAW = frozenset(("script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"))
"""Elements that hold text alone: what looks like a tag in them is none."""
_TAG = re.compile(
    rb"<(?:(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+'|(?![\s\"'])))*+)>|[!?/][^>]*+>|(?![a-zA-Z!?/]))"
)
_ATTRIBUTE = re.compile(rb"[^\s/=\"'][^\s/=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'][^\s]*+)?)?")
LONG_TAG = 8000
"""Bytes of a tag whose attributes are counted."""
MOST_ATTRIBUTES = 2000
"""Attributes of one element at most: parsers compare each with all before it."""


def tags(page: bytes) -> Iterator[tuple[bool, str, bytes, bool]]:
    """Each tag: whether it is an end tag, its name, its attributes, and whether text stands before it.

    Quoted attribute values are read as such; what scripts, titles and their like hold is passed over. Where
    the page ends within a tag, that comes last, without a name.
    """
    position = 0
    while (start := page.find(b"<", position)) >= 0:
        found = _TAG.match(page, start)
        text = start > position
        if not found:
            yield False, "", page[start:], text
            return
        position = max(found.end(), start + 1)
        if found[2] is None:
            continue
        name = found[2].decode("latin-1").lower()
        if name == "plaintext" and not found[1]:
            return
        yield found[1] == b"/", name, found[3], text
        if name in RAW and not found[1]:
            end = re.compile(rb"</%s(?=[\s/>])" % found[2], re.IGNORECASE).search(page, position)
            if not end:
                return
            position = end.start()


def any_overloaded(page: bytes, starts: Iterable[int]) -> bool:
    """Whether one of the tags that start at these places has more attributes than MOST_ATTRIBUTES."""
    end = 0
    for start in starts:
        if start >= end:
            found = _TAG.match(page, start)
            if overloaded((found[3] or b"") if found else page[start:]):
                return True
            end = found.end() if found else len(page)
    return False


def overloaded(attributes: bytes) -> bool:
    """Whether these attributes of a tag are more than MOST_ATTRIBUTES."""
    if len(attributes) < LONG_TAG:
        return False
    return any(number >= MOST_ATTRIBUTES for number, _ in enumerate(_ATTRIBUTE.finditer(attributes)))
