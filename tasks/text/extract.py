"""A web page's bytes in, its main content and metadata out.

Three modes: ``fast`` is resiliparse's rules (the cheapest good answer); ``best`` is a classifier of the
page's blocks; ``quality`` asks trafilatura and resiliparse too, and takes the text that agrees best with what
the classifier expects, an order of magnitude slower. Nothing is tuned to a site. Same bytes, same text: no
mode depends on time, order or number of workers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tasks.text.block_extract import judge_page
from tasks.text.block_model import WeightsError
from tasks.text.charset import decode
from tasks.text.extract_config import ExtractConfig, Mode
from tasks.text.extract_errors import ExtractionError
from tasks.text.extract_guards import is_plain_text, refuse_deep_nesting, refuse_other_formats
from tasks.text.markup import Markup, split_markup
from tasks.text.metadata import Metadata, read_metadata
from tasks.text.statements import Statements, read_statements

_BOUNDS = ExtractConfig()
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t]+\n")
_GAPS = re.compile(r"\n{3,}")
_BOXED = ' class="sidebar"'
_BOX = re.compile(rf'<(?:div|aside){_BOXED}(?=[^<>]*>\s*<div class="titlepage")')
"""A box of text as DocBook's stylesheets write it: its class says sidebar, and means no page's side."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A page's main content as plain text, and what the page says of itself (empty where it says nothing)."""

    text: str
    """Paragraphs, headings and list items on lines of their own; empty where the page has no main content."""
    title: str
    date: str
    """ISO day of publication."""
    author: str
    language_hint: str
    """Lower-case BCP 47 tag."""
    charset: str
    """Name of the Python codec that read the page."""


def extract(
    html: bytes,
    *,
    url: str = "",
    charset: str = "",
    mode: Mode = "fast",
    max_bytes: int = _BOUNDS.max_bytes,
    max_depth: int = _BOUNDS.max_depth,
) -> Extracted:
    """Extract a page's main content and metadata.

    Args:
        html: the page's bytes, transfer and content encodings undone.
        url: its address, used for its date alone.
        charset: the Content-Type header's charset, or empty.
        mode: how; see ExtractConfig.
        max_bytes: bound on the page's size.
        max_depth: bound on how deep elements nest.

    Raises:
        ExtractionError: with the reason ``empty``, ``too_large``, ``too_deep``, ``not_html``, ``binary`` or
            ``parser``. Nothing else is raised, whatever the bytes.
    """
    if len(html) > max_bytes:
        raise ExtractionError("too_large", f"{len(html):,} bytes; the bound is {max_bytes:,}")
    refuse_other_formats(html)
    page, codec = decode(html, charset)
    if is_plain_text(page):
        return Extracted(_tidy(page), "", "", "", "", codec)
    markup = split_markup(page)
    refuse_deep_nesting(markup.page, max_depth)
    try:
        stated = read_statements(markup)
        about = read_metadata(markup, stated, url)
        text = _tidy(_MODES[mode](Page(page, markup, stated, about)))
    except (ExtractionError, WeightsError, MemoryError):
        raise
    except Exception as error:
        raise ExtractionError("parser", f"{type(error).__name__}: {error}"[:300]) from error
    return _assembled(text, about, codec)


@dataclass(frozen=True, slots=True)
class Page:
    """What the modes take a page's text from."""

    source: str
    markup: Markup
    stated: Statements
    about: Metadata


def _assembled(text: str, about: Metadata, codec: str) -> Extracted:
    return Extracted(text, _tidy(about.title), about.date, _tidy(about.author), about.language, codec)


def _fast(page: Page) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    source = page.markup.page
    tree = HTMLTree.parse(_BOX.sub("<div", source) if _BOXED in source else source)
    return str(extract_plain_text(tree, main_content=True, alt_texts=False, list_bullets=False))


def _quality(page: Page) -> str:
    judged = judge_page(page.markup, page.stated, page.about.title)
    scored = str(_trafilatura()(page.source, include_comments=True, include_tables=True) or "")
    return max(scored, judged.text(), _fast(page), key=judged.expected_f1)


def _best(page: Page) -> str:
    return judge_page(page.markup, page.stated, page.about.title).text()


@lru_cache(maxsize=1)
def _trafilatura() -> Callable[..., Any]:
    """Imported when first used: it takes longer to import than most runs need for anything."""
    import logging

    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs every page that it cannot read
    return trafilatura.extract


def _tidy(text: str) -> str:
    """No control characters or lone surrogates, no space at line ends, at most one empty line in a row."""
    text = _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if " \n" in text or "\t\n" in text:  # most texts have none, and the patterns stop at every space
        text = _BLANKS.sub("\n", text)
    if "\n\n\n" in text:
        text = _GAPS.sub("\n\n", text)
    return text.strip()


_MODES: dict[str, Callable[[Page], str]] = {"fast": _fast, "quality": _quality, "best": _best}
