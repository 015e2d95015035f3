"""The main content of a page by resiliparse's rules, at the lowest cost.

Resiliparse judges every element by its name, its classes and how much of it is links; its time grows with the
elements that it is given. It is given the page's main element alone where there is one: by the standard that
is the content, without what a site's pages have in common, so that the answer is better, too.
"""

from __future__ import annotations

import re

from tasks.text.markup import Markup

SHORT = 250
"""Characters; a main element with less is filled by a script, or is not what its name says."""
TRIES = 20
"""Places that look like a main element's start and are looked at."""
NEARBY = 10_000
"""Bytes of the longest tag."""
FOOT = 0.6
"""Share of a page's body before which no footer is the page's own."""
_BELOW = b"<body><div><div>"
"""Resiliparse takes lists at the top of the body for navigation; a main element is never at its top."""
_BOXED = b' class="sidebar"'
_BOX = re.compile(r'<(?:div|aside) class="sidebar"(?=[^<>]*>\s*<div class="titlepage")')
"""A box of text as DocBook's stylesheets write it: its class says sidebar, and means no page's side."""


def main_text(markup: Markup) -> str:
    """A page's main content as plain text."""
    begin, end = _main_element(markup)
    if begin < end:
        text = _extracted(_BELOW + markup.source[begin:end])
        if len(text) >= SHORT:
            return text
    return _extracted(_body(markup.source))


def _main_element(markup: Markup) -> tuple[int, int]:
    """Where the page's first main element begins and its last one ends; two zeros if there is none.

    It goes on to the end of the page where there are fewer ends than starts.
    """
    source, starts = markup.source, markup.marks[b"<main"]
    begin = next((start for start in starts[:TRIES] if _is_tag(source, start)), -1)
    if begin < 0:
        return 0, 0
    end = source.rfind(b"</main>", begin)
    whole = end >= 0 and _is_tag(source, end) and source.count(b"</main>") >= len(starts)
    return begin, end if whole else len(source)


def _body(source: bytes) -> bytes:
    """The body without its last footer, which is the page's own unless the page goes on for long after it."""
    begin = max(0, source.find(b"<body"))
    foot = source.rfind(b"<footer", begin + int(FOOT * (len(source) - begin)))
    end = source.find(b"</footer>", foot) if foot >= 0 else -1
    if end < 0 or not (_is_tag(source, foot) and _is_tag(source, end)):
        return source[begin:]
    return source[begin:foot] + source[end + len(b"</footer>") :]


def _is_tag(source: bytes, start: int) -> bool:
    """Whether a tag may start here: not where the last tag has not ended, as in an attribute's value."""
    near = max(0, start - NEARBY)
    return source.rfind(b">", near, start) >= source.rfind(b"<", near, start)


def _extracted(source: bytes) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    html = source.decode("utf-8")
    tree = HTMLTree.parse(_BOX.sub("<div", html) if _BOXED in source else html)
    return str(extract_plain_text(tree, main_content=True, alt_texts=False, list_bullets=False))
