"""The main content of a page at the lowest cost: by what the page itself calls its content, or by rules.

By the standard, ``<main>`` and a page's only ``<article>`` are its content, without what a site's pages have
in common. Where a page has one of them, its text is taken as it is, less the parts that the standard gives
to other purposes. Elsewhere resiliparse judges every element by its name, its classes and how much of it is
links; that takes three times as long, and finds less.
"""

from __future__ import annotations

import re

from tasks.text.markup import Markup

SHORT = 400
"""Bytes of text; an element with less is filled by a script, or is not what its name says."""
TRIES = 20
"""Places that look like an element's start and are looked at."""
NEARBY = 10_000
"""Bytes of the longest tag."""
FOOT = 0.6
"""Share of a page's body before which no footer is the page's own."""
ASIDE = (
    *("nav", "aside", "footer", "button", "select", "noscript", "dialog", "template", "[hidden]"),
    *("[role=navigation]", "[role=complementary]", "[role=dialog]", "[aria-hidden=true]"),
)
"""Selectors of what is not content wherever it stands. What a style hides may be content: scripts open tabs
and lists, and without what they show the texts agree no better with the gold ones."""
RUBY = ("rt", "rp")
"""Selectors of readings beside characters."""
_BOXED = b' class="sidebar"'
_BOX = re.compile(r'<(?:div|aside) class="sidebar"(?=[^<>]*>\s*<div class="titlepage")')
"""A box of text as DocBook's stylesheets write it: its class says sidebar, and means no page's side."""

_NOSCRIPT = re.compile(rb"</?noscript\b[^<>]*+>", re.IGNORECASE)
"""Tags around what is for readers without scripts: all there is, where a script would build the page."""
_BESIDE = (b"aside", b"footer", b"nav")
"""Elements in which an article is not the page's."""
BESIDE_NEARBY = 4000
"""Bytes before an article in which such an element begins."""
MANY_OPTIONS = 1000
"""Entries of a page's selection lists from which they are taken out before it is parsed: the parser looks at
all of a list's for each new one."""
_OPTION = re.compile(r"</?option\b[^<>]*>", re.IGNORECASE)

Span = tuple[int, int]
"""Where a part of the source begins and ends."""


def main_text(markup: Markup) -> str:
    """A page's main content as plain text."""
    source = markup.source
    main = _element(markup, b"main", (0, len(source)))
    within = main or (0, len(source))
    for span in (_only(markup, b"article", within), main):
        if span is not None:
            text = _taken(source[slice(*span)])
            if len(text.encode()) >= SHORT:
                return text
    text = _judged(_body(source))
    if len(text.encode()) < SHORT and b"<noscript" in source:
        text = max(text, _judged(_NOSCRIPT.sub(b" ", _body(source))), key=len)
    return text if len(text.encode()) >= SHORT else _if_longer(text, _taken(_body(source)))


def _if_longer(text: str, whole: str) -> str:
    """What was judged to be content, or all text, where that is so much more that the judgement missed it:
    of pages made of lists, of forms, or of elements for every few letters the rules leave nothing."""
    size = len(whole.encode())
    return whole if size >= SHORT and size > 2 * len(text.encode()) else text


def _element(markup: Markup, name: bytes, within: Span) -> Span | None:
    """Where the first element of a name begins and the last one ends.

    It goes on to the end of the range where there are fewer ends than starts.
    """
    source, end_tag, (first, last) = markup.source, b"</%s>" % name, within
    starts = [start for start in markup.marks[b"<%s" % name] if first <= start < last]
    begin = next((start for start in starts[:TRIES] if _is_tag(source, start)), -1)
    if begin < 0:
        return None
    end = source.rfind(end_tag, begin, last)
    whole = end >= 0 and _is_tag(source, end) and source.count(end_tag, first, last) >= len(starts)
    return begin, end if whole else last


def _only(markup: Markup, name: bytes, within: Span) -> Span | None:
    """As _element, where there is no second one, and where it does not stand beside the content."""
    several = sum(within[0] <= start < within[1] for start in markup.marks[b"<%s" % name]) > 1
    found = None if several else _element(markup, name, within)
    return None if found and _is_beside(markup.source, found[0]) else found


def _is_beside(source: bytes, place: int) -> bool:
    """Whether the last element of _BESIDE that begins before here has not ended."""
    near = source[max(0, place - BESIDE_NEARBY) : place]
    return any(near.rfind(b"<%s" % name) > near.rfind(b"</%s>" % name) for name in _BESIDE)


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


def _taken(source: bytes) -> str:
    """All text but that of ASIDE."""
    return _text(source.decode("utf-8"), (*ASIDE, *RUBY) if b"<ruby" in source else ASIDE)


def _judged(source: bytes) -> str:
    """The text that resiliparse's rules take for the main content."""
    html = source.decode("utf-8")
    return _text(_BOX.sub("<div", html) if _BOXED in source else html)


def _text(html: str, skipped: tuple[str, ...] = ()) -> str:
    """The text of a page without some elements, or, where none are named, what is judged to be content."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    if html.count("<option") > MANY_OPTIONS:
        html = _OPTION.sub(" ", html)
    found = extract_plain_text(
        HTMLTree.parse(html),
        main_content=not skipped,
        alt_texts=False,
        list_bullets=False,
        skip_elements=skipped or None,
    )
    return str(found)
