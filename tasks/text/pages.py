"""One record of a source turned into a document's text: what ingestion's workers run."""

from __future__ import annotations

from typing import Protocol

from tasks.text.extract import Extracted, extract, read_plain
from tasks.text.extract_config import ExtractConfig
from tasks.text.tidying import nfc


class PageLike(Protocol):
    """What of a record extraction needs; either ``content`` or ``text`` is set."""

    @property
    def url(self) -> str:
        """The page's address."""

    @property
    def content(self) -> bytes | None:
        """Its bytes as fetched, or None where ``text`` is set."""

    @property
    def text(self) -> str | None:
        """Ready text, or None where ``content`` is set."""

    @property
    def content_type(self) -> str:
        """Its media type; empty where the source does not say."""

    @property
    def charset(self) -> str:
        """The charset that the server stated; empty where it stated none."""


def extract_page(page: PageLike, config: ExtractConfig) -> Extracted:
    """The main text and metadata of a record, in Unicode NFC.

    Raises ExtractionError with the reason where there is none; ready text is only made clean.
    """
    if page.text is not None:
        return Extracted(clean_text(page.text), "", "", "", "", "utf-8")
    if page.content_type == "text/plain":
        text, codec = read_plain(page.content or b"", charset=page.charset, max_bytes=config.max_bytes)
        return Extracted(nfc(text), "", "", "", "", codec)
    found = extract(
        page.content or b"",
        url=page.url,
        charset=page.charset,
        mode=config.mode,
        max_bytes=config.max_bytes,
        max_depth=config.max_depth,
    )
    return Extracted(
        nfc(found.text),
        nfc(found.title),
        found.date,
        nfc(found.author),
        found.language_hint,
        found.charset,
    )


def clean_text(text: str) -> str:
    """Text as documents hold it: NFC, plain line ends, no control characters or lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_DROPPED)
    return nfc(text.encode("utf-8", "ignore").decode("utf-8")).strip()


_DROPPED = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 65279, 65534, 65535])
