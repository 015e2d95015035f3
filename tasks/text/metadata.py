"""A page's title, date, author and language, from what the page says of itself.

Read by patterns from the page's source, not from a parsed tree, so that every extraction mode gets the same
at the same small cost. Order of trust: JSON-LD, Open Graph and meta elements, then the visible heading.
"""

from __future__ import annotations

import datetime
import html as entities
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.text.addresses import language_in
from tasks.text.markup import Markup
from tasks.text.statements import Statements

LONGEST = 500
TITLE_KEYS = ("og:title", "twitter:title", "dc.title", "headline")
AUTHOR_KEYS = (
    "author",
    "article:author",
    "dc.creator",
    "parsely-author",
    "sailthru.author",
    "byl",
    "authors",
)
DATE_KEYS = (
    "article:published_time",
    "datepublished",
    "og:published_time",
    "date",
    "dc.date",
    "dc.date.issued",
    "dcterms.date",
    "parsely-pub-date",
    "sailthru.date",
    "pubdate",
    "publishdate",
    "publish-date",
    "publication_date",
    "citation_publication_date",
    "article.published",
    "datecreated",
)

_TITLE = re.compile(rb"<title\b[^>]{0,2000}>([^<]{1,8000})", re.IGNORECASE)
_H1 = re.compile(r"<h1\b[^>]*>(.{1,2000}?)</h1", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_LANG = re.compile(
    rb"<html\b[^>]{0,1000}?\s(?:xml:)?lang\s*=\s*[\"']?([a-zA-Z]{2,3}(?:[-_][a-zA-Z0-9]+)*)", re.I
)
_INNER_LANG = re.compile(
    rb"<(?:body|main|article|section|div)\b[^>]{0,500}?\s(?:xml:)?lang\s*=\s*[\"']?"
    rb"([a-zA-Z]{2,3}(?:[-_][a-zA-Z0-9]+)*)",
    re.I,
)
_CANONICAL = re.compile(
    rb"<link\b(?=[^>]{0,500}?\srel\s*=\s*[\"']?canonical)[^>]{0,500}?\shref\s*=\s*[\"']?([^\"'\s>]{1,2000})",
    re.I,
)
_TIME = re.compile(r"<time\b[^>]{0,300}?\bdatetime\s*=\s*[\"']([^\"']{8,40})[\"']", re.IGNORECASE)
_NUMERIC_DATE = re.compile(
    r"(?<!\d)(19[89]\d|20\d\d)(?:(?:-|/|\.|\s*年\s*)(\d{1,2})(?:-|/|\.|\s*月\s*)(\d{1,2})|(\d\d)(\d\d))(?!\d)"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED_DATE = re.compile(
    r"\b(?:(\d{1,2})(?:st|nd|rd|th)?\.?\s+)?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,?\s+"
    r"(?:(\d{1,2})(?:st|nd|rd|th)?,?\s+)?(19[89]\d|20\d\d)\b",
    re.IGNORECASE,
)
_DATED = re.compile(
    r"<[a-z]+\b[^>]{0,300}?(?:class|id|itemprop|datetime)\s*=\s*[\"'][^\"'>]{0,200}?(?:date|pub(?:lish|time)|posted)[^>]*>(.{1,200})",
    re.IGNORECASE | re.DOTALL,
)
_BYLINE = re.compile(
    # Atomic: wherever in the tag the word is, what follows is the same, and is looked through once.
    r"(?><[a-z]+\b[^>]{0,300}?(?:rel|itemprop|class)\s*=\s*[\"'][^\"'>]{0,200}?(?:author|byline)[^>]*>)"
    r"(?:\s*<[^>]*>){0,4}\s*(?:(?:written |posted )?by:?\s+)?(?:\s*<[^>]*>){0,3}\s*([^<>\d|@]{2,60})<",
    re.IGNORECASE,
)
_UNSPACED_NAME = re.compile(
    r"(?:((?:本文)?作者|撰文|文|记者|記者|執筆者?|著者)\s*[:：/／]\s*)?([\u3041-\u30fe\u3400-\u9fff\uac00-\ud7a3·・]{2,15})"
)
"""A name in a script without capitals or spaces, and what it may be announced by."""
_OF_AUTHORS = re.compile(r"\b(?:rel|itemprop)\s*=\s*[\"']?author\b", re.IGNORECASE)
HEAD_BYTES = 400_000
NEAR_TOP = 50_000
"""Bytes in which a page's outer elements begin."""
UPPER = 200_000
"""Bytes in which an article's byline and date stand, if not in its head."""
NEARBY = 400
WINDOW = 6000
"""Bytes in which an element and what is looked for in it end."""
HEADINGS = TIMES = 200
"""First-level headings and times that are looked at."""
MENTIONS = 12
"""Elements named like a byline or a date that are looked at; articles have theirs near the top."""
_URL_DATE = re.compile(r"/(19[89]\d|20[0-4]\d)[/-](0[1-9]|1[0-2])[/-](0[1-9]|[12]\d|3[01])(?!\d)")
_SEPARATOR = re.compile(r"\s+[|·•–—»:\-]+\s+|\s*[|｜_]\s*")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a page says of itself; empty strings where it says nothing."""

    title: str = ""
    date: str = ""
    """ISO 8601 day, such as 2025-09-04."""
    author: str = ""
    language: str = ""
    """Lower-case BCP 47 tag, such as zh-cn: a hint, sometimes wrong. Stated by the root element, else by a
    meta element, else by the first large element that states one, else by the canonical address's locale."""


def read_metadata(markup: Markup, stated: Statements, url: str = "") -> Metadata:
    """Title, date of publication, author and language hint of a page."""
    metas, linked = stated.metas, stated.linked
    return Metadata(
        title=_title(markup, metas),
        date=_date(markup, metas, linked, url),
        author=_author(markup, metas, linked),
        language=_language(markup.source, metas),
    )


def _clean(text: str) -> str:
    return " ".join(entities.unescape(_TAG.sub(" ", text)).split())[:LONGEST]


def _title(markup: Markup, metas: dict[str, str]) -> str:
    """The heading the reader sees, or the head's title without the site's name."""
    found = _TITLE.search(markup.source, 0, HEAD_BYTES)
    title = _clean(found[1].decode("utf-8", "ignore")) if found else ""
    shared = next((_clean(metas[key]) for key in TITLE_KEYS if metas.get(key)), "")
    first = ""
    for heading in _headings(markup):
        if heading in title or heading in shared:
            return heading
        first = first or heading
    if shared and len(shared) < len(title) and shared in title:
        return shared
    return _without_site(title or shared, metas.get("og:site_name", "")) or first


def _headings(markup: Markup) -> Iterator[str]:
    for position in markup.marks[b"<h1"][:HEADINGS]:
        found = _H1.match(markup.text_at(position, WINDOW))
        if found and (text := _clean(found[1])):
            yield text


def _without_site(title: str, site: str) -> str:
    """The longest part of ``Article - Section | Site``; the whole where no part is long enough."""
    if site and title.casefold().endswith(_clean(site).casefold()):
        title = title[: len(title) - len(_clean(site))].rstrip(" |·•–—»:-_") or title
    parts = _SEPARATOR.split(title)
    longest = max(parts, key=len)
    return longest if len(parts) > 1 and len(longest) >= len(title) / 2 else title


def _author(markup: Markup, metas: dict[str, str], linked: list[dict[str, Any]]) -> str:
    known = {thing.get("@id"): thing.get("name") for thing in linked if isinstance(thing.get("@id"), str)}
    for thing in linked:
        if names := _names(thing.get("author"), known):
            return ", ".join(dict.fromkeys(names))[:LONGEST]
    for key in AUTHOR_KEYS:
        name = _clean(metas.get(key, ""))
        if name and not name.lower().startswith(("http:", "https:", "www.", "@")):
            return name
    for found in _elements_named(markup, (b"author", b"byline"), (b"rel", b"itemprop", b"class"), _BYLINE):
        name = _clean(found[1])
        if 2 <= len(name.split()) <= 5 and name[0].isupper():
            return name
        # What a class calls an author may as well be a button; an announced name, or a link to one, is none.
        unspaced = _UNSPACED_NAME.fullmatch(name)
        if unspaced and (unspaced[1] or _OF_AUTHORS.search(found[0].partition(">")[0])):
            return unspaced[2]
    return ""


def _elements_named(
    markup: Markup, words: tuple[bytes, ...], attributes: tuple[bytes, ...], pattern: re.Pattern[str]
) -> Iterator[re.Match[str]]:
    """Matches of a pattern at elements one of whose attributes holds one of the words, near the page's top.

    Words are found at memory speed; running the pattern over whole pages would cost more than parsing them.
    """
    source = markup.source
    for word in words:
        position = 0
        for _ in range(MENTIONS):
            position = source.find(word, position + 1, UPPER)
            if position < 0:
                break
            start = source.rfind(b"<", max(0, position - NEARBY), position)
            equals = source.rfind(b"=", start, position) if start >= 0 else -1
            if equals < 0 or not source[start:equals].rstrip().lower().endswith(attributes):
                continue  # the word is in what the reader sees, or in an address
            if found := pattern.match(markup.text_at(start, WINDOW)):
                yield found


def _names(author: Any, known: dict[Any, Any]) -> list[str]:
    """Names out of a JSON-LD author: a string, a person, a reference to one, or a list of these."""
    if isinstance(author, str):
        return [] if author.startswith("http") or not author.strip() else [_clean(author)]
    if isinstance(author, dict):
        return _names(author.get("name") or known.get(author.get("@id")) or "", {})
    if isinstance(author, list):
        return [name for each in author[:10] for name in _names(each, known)]
    return []


def _date(markup: Markup, metas: dict[str, str], linked: list[dict[str, Any]], url: str) -> str:
    stated = [str(thing[key]) for thing in linked for key in ("datePublished", "uploadDate") if key in thing]
    stated += [metas[key] for key in DATE_KEYS if key in metas]
    for text in stated:
        if day := _day(text):
            return day
    in_url = _URL_DATE.search(url)
    if in_url:
        return "-".join(in_url.groups())
    times = (_TIME.match(markup.text_at(position, WINDOW)) for position in markup.marks[b"<time"][:TIMES])
    seen = next(filter(None, times), None)
    if seen and (day := _day(seen[1])):
        return day
    dated = _elements_named(
        markup,
        (b"date", b"publish", b"posted", b"pubtime"),
        (b"class", b"id", b"itemprop", b"datetime"),
        _DATED,
    )
    return next((day for found in dated if (day := _day(_TAG.sub(" ", found[1])))), "")


def _day(text: str) -> str:
    """The first whole date in a text as an ISO day; empty if there is none."""
    if found := _NUMERIC_DATE.search(text):
        year, month, day = found[1], int(found[2] or found[4]), int(found[3] or found[5])
    elif (found := _NAMED_DATE.search(text)) and (found[1] or found[3]):
        year, month, day = found[4], _MONTHS.index(found[2].lower()) + 1, int(found[3] or found[1])
    else:
        return ""
    try:
        return datetime.date(int(year), month, day).isoformat()
    except ValueError:
        return ""


def _language(source: bytes, metas: dict[str, str]) -> str:
    found = _LANG.search(source, 0, NEAR_TOP)
    stated = found[1].decode() if found else metas.get("content-language") or metas.get("og:locale") or ""
    top = b"" if stated else source[:NEAR_TOP].lower()
    if b"lang" in top:
        inner = _INNER_LANG.search(source, 0, NEAR_TOP)
        stated = inner[1].decode() if inner else ""
    if not stated and b"canonical" in top:
        canonical = _CANONICAL.search(source, 0, NEAR_TOP)
        stated = language_in(canonical[1].decode("utf-8", "ignore")) if canonical else ""
    tag = stated.split(",")[0].strip().replace("_", "-").lower()
    return tag if re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{1,8})*", tag) else ""
