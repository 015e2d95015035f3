"""A web page's bytes in, its main content and metadata out.

Three modes: ``fast`` takes what the page itself calls its content, else what resiliparse's rules find (the
cheapest good answer); ``best`` is a classifier of the page's blocks; ``quality`` asks trafilatura and the
fast mode too, and takes the text that agrees best with what the classifier expects, several times slower.
Nothing is tuned to a site. Same bytes, same text: no mode depends on time, order or number of workers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tasks.text.charset import CONTROL_SAMPLE, as_utf8, decode, decode_other, refuse_controls
from tasks.text.extract_config import ExtractConfig, Mode
from tasks.text.extract_errors import ExtractionError
from tasks.text.extract_guards import is_crowded, is_plain_text, refuse_deep_nesting, refuse_other_formats
from tasks.text.main_text import SHORT, main_text
from tasks.text.markup import Markup, split_utf8
from tasks.text.metadata import Metadata, read_metadata
from tasks.text.model_errors import WeightsError
from tasks.text.statements import Statements, read_statements
from tasks.text.tidying import tidy

if TYPE_CHECKING:
    from tasks.text.block_extract import JudgedPage

_BOUNDS = ExtractConfig()
MANY_TAGS = 16_000
"""Tags of a page, start and end, from which trafilatura is asked for its own judgement alone."""
_CELL = re.compile(r"<t[dh]\b[^<>]*+>", re.IGNORECASE)
_SPAN = re.compile(r"\b(?:colspan\s*=\s*[\"']?\d{3}|rowspan\s*=\s*[\"']?\d{2})\d*", re.IGNORECASE)
"""Cells that span so much are laid out by trafilatura with an empty one for each place in each row below."""


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
    _refuse_size(html, max_bytes)
    refuse_other_formats(html)
    source = as_utf8(html)
    if source is not None:
        try:
            return _read(source, "utf-8", url, mode, max_depth)
        except UnicodeDecodeError:
            pass
    text, codec = decode_other(html, charset)
    return _read(text.encode("utf-8", "replace"), codec, url, mode, max_depth)


def read_plain(content: bytes, *, charset: str = "", max_bytes: int = _BOUNDS.max_bytes) -> tuple[str, str]:
    """A plain text, in which nothing is a tag, and its charset; raises ExtractionError as extract does."""
    _refuse_size(content, max_bytes)
    refuse_other_formats(content)
    text, codec = decode(content, charset)
    is_plain_text(text.encode("utf-8", "replace"))  # refuses data: JSON, feeds
    return tidy(text), codec


def _refuse_size(content: bytes, max_bytes: int) -> None:
    if len(content) > max_bytes:
        raise ExtractionError("too_large", f"{len(content):,} bytes; the bound is {max_bytes:,}")


def _read(source: bytes, codec: str, url: str, mode: Mode, max_depth: int) -> Extracted:
    """What extract gives for a page in UTF-8; raises UnicodeDecodeError if what is read of it is not."""
    page = source.replace(b"\x00", b"")
    markup = split_utf8(page)
    refuse_controls(source[:CONTROL_SAMPLE].decode("utf-8", "ignore"), codec)
    if is_plain_text(page):
        return Extracted(tidy(markup.page), "", "", "", "", codec)
    refuse_deep_nesting(markup.source, max_depth)
    try:
        stated = read_statements(markup)
        about = read_metadata(markup, stated, url)
        text = tidy(_MODES[mode](Page(markup, stated, about)))
        if len(text.encode()) < SHORT <= len((article := tidy(stated.article())).encode()):
            text = article  # a script builds the page from what is stated
    except (ExtractionError, WeightsError, MemoryError):
        raise
    except Exception as error:
        raise ExtractionError("parser", f"{type(error).__name__}: {error}"[:300]) from error
    return Extracted(text, tidy(about.title), about.date, tidy(about.author), about.language, codec)


@dataclass(frozen=True, slots=True)
class Page:
    """What the modes take a page's text from."""

    markup: Markup
    stated: Statements
    about: Metadata


def _fast(page: Page) -> str:
    return main_text(page.markup)


def _quality(page: Page) -> str:
    judged, source = _judged(page), page.markup.page
    texts = [judged.text(), _fast(page)]
    if not is_crowded(source):
        plain = source.count("<") > MANY_TAGS  # its second opinions compare each paragraph with all others
        source = _CELL.sub(lambda cell: _SPAN.sub("", cell[0]), source)
        scored = _trafilatura()(source, include_comments=True, include_tables=True, fast=plain)
        texts.insert(0, str(scored or ""))
    return max(texts, key=judged.expected_f1)


def _best(page: Page) -> str:
    return _judged(page).text()


def _judged(page: Page) -> JudgedPage:
    from tasks.text.block_extract import judge_page  # costs each worker of the fast mode as much as ten pages

    return judge_page(page.markup, page.stated, page.about.title)


@lru_cache(maxsize=1)
def _trafilatura() -> Callable[..., Any]:
    """Imported when first used: it takes longer to import than most runs need for anything."""
    import logging

    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs every page that it cannot read
    return trafilatura.extract


_MODES: dict[str, Callable[[Page], str]] = {"fast": _fast, "quality": _quality, "best": _best}
