"""What every source yields, whatever its format: a record, or a fault that cost one record alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Record:
    """One page or text of a source, before extraction.

    ``content`` holds a page's bytes as the server meant them (transfer and content encodings undone,
    charset not yet decoded); ``text`` holds ready text, where the source has text and no page. Exactly one of
    the two is set.
    """

    url: str
    content: bytes | None
    text: str | None
    content_type: str
    """Media type without parameters, lower case; empty where the source does not say."""
    charset: str
    """Charset of the Content-Type header, lower case; empty where the source does not say."""
    fetched_at: datetime | None
    source_file: str
    offset: int
    """Where the record starts: the byte in the file where its compressed member starts, or, for the
    second and later records of one member, the byte in the decompressed stream; the row number in row
    formats."""
    title: str = ""
    date: str = ""
    author: str = ""
    cut_short: bool = False
    """Whether the page's end is missing: the connection broke, or the crawler took no more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that could not be had, why, and where it was."""

    url: str
    offset: int
    reason: str
    """A short fixed name, to be counted: ``truncated``, ``bad_compression``, ``http_status``..."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Bounds on what one record may cost, in bytes.

    A record over a bound is a fault; nothing is ever held in memory beyond a few times these.
    """

    record_bytes: int = 16 * 2**20
    """A record, and a page's content after all encodings are undone."""
    header_bytes: int = 64 * 2**10
    """A WARC or HTTP header block."""
    skip_bytes: int = 64 * 2**20
    """A member that inflates this far beyond its last whole record, at more than ``skip_ratio``, is left."""
    skip_ratio: int = 200
    """Decompressed over compressed bytes above which a long member counts as a bomb; gzip's limit is 1032."""
