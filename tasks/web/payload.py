"""From a WARC record to a page: the HTTP message parsed, its encodings undone within bounds."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NamedTuple

from fastwarc.stream_io import BrotliReader, ZstdReader

from tasks.web.records import Fault, ReadLimits, Record
from tasks.web.warc import Headers, WarcRecord, content_length, parse_headers

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPES = frozenset({"text/plain"})
XML_TYPES = frozenset({"text/xml", "application/xml"})
PASSED_OVER = frozenset({"warcinfo", "request", "metadata"})
"""Record types that never hold a page: not read, not counted."""

_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})\b")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LINE_END = re.compile(rb"(?:\r?\n)?")
_CUT_SIZE = re.compile(rb"\r|[0-9A-Fa-f]{0,8}[ \t]*(?:;[^\r\n]*)?\r?")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_OTHER_PROTOCOLS = ("dns:", "whois:", "ftp:")
_TEXTS_OF_PAGES = ("urn:text:", "urn:textfinal:")
"""What browsertrix calls the words that it saw on a page, menus and all."""
_DOCUMENT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*+-->\s*)*+<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
"""How a page begins that is served as a plain text or as XML, and is shown as a page all the same."""
_UTF16_TAG = re.compile(rb"<\0[^\0]\0|\0<\0[^\0]")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+")
_CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1f]")
"""Bytes that text does not have, and compressed bytes have before long."""
_LOOKED_AT = 1024
_PIECE = 4096
"""Bytes decoded at a time: as many may be lost of a body that was cut off."""
_MARKUP = re.compile(rb"<(?:!doctype|html|head|body|title|meta|div|p|article|script|\?xml)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The parts of a stored HTTP response."""

    status: int
    headers: Headers
    body: bytes


class Body(NamedTuple):
    """The content of a response."""

    content: bytes
    cut: bool
    """Whether its end is missing."""


class PayloadError(Exception):
    """A payload that cannot be had; ``reason`` is the fault's name."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def to_record(warc: WarcRecord, source_file: str, limits: ReadLimits) -> Record | Fault | None:
    """The page or text of a WARC record; a fault where it has none; None for types that never hold one.

    A page without an address goes under its record's id: it is a page all the same.
    """
    if warc.type in PASSED_OVER or warc.url.startswith("metadata:"):  # wget's own log
        return None
    try:
        return _page(warc, source_file, limits)
    except PayloadError as error:
        return Fault(warc.url, warc.offset, error.reason, error.detail)


def _page(warc: WarcRecord, source_file: str, limits: ReadLimits) -> Record:
    if not warc.url:
        raise PayloadError("no_url", f"a {warc.type or 'nameless'} record without WARC-Target-URI or id")
    if warc.type == "conversion" and _is_text(warc.headers.get("content-type", "")):
        text = warc.block.decode("utf-8", errors="replace")
        return _record(warc, source_file, None, text, "text/plain", "utf-8", cut=False)
    if warc.type == "resource" and warc.url.lower().startswith(_TEXTS_OF_PAGES):
        raise PayloadError("record_type", "the text of a page that has a record of its own")
    if warc.type in ("resource", "conversion"):
        content_type, content, cut = warc.headers.get("content-type", ""), warc.block, False
    elif warc.type == "response" and warc.url.startswith(_OTHER_PROTOCOLS):
        raise PayloadError("record_type", f"{warc.url[:40]} was not fetched by HTTP")
    elif warc.type == "response":
        response = parse_response(warc.block, limits)
        if response.status != 200:
            raise PayloadError("http_status", str(response.status))
        content_type = response.headers.get("content-type", "")
        content, cut = decoded_body(response, limits)
    else:
        raise PayloadError("record_type", f"{warc.type or 'no type'} holds no page")
    media_type, charset = parse_content_type(content_type)
    media_type = checked_type(media_type, content)
    return _record(warc, source_file, content, None, media_type, charset, cut=cut)


def _is_text(content_type: str) -> bool:
    """Whether what something was converted to is text, as is that which has no type: no image, no page."""
    media_type, _ = parse_content_type(content_type)
    return not media_type or (media_type.startswith("text/") and media_type not in HTML_TYPES)


def _record(
    warc: WarcRecord,
    source_file: str,
    content: bytes | None,
    text: str | None,
    media_type: str,
    charset: str,
    *,
    cut: bool,
) -> Record:
    fetched_at = parse_date(warc.headers.get("warc-date", ""))
    cut = cut or "warc-truncated" in warc.headers
    return Record(
        warc.url, content, text, media_type, charset, fetched_at, source_file, warc.offset, cut_short=cut
    )


def parse_response(block: bytes, limits: ReadLimits) -> HttpResponse:
    """Split a stored HTTP response; PayloadError ``bad_http`` where it is none."""
    status = _STATUS_LINE.match(block)
    if not status:
        raise PayloadError("bad_http", f"no HTTP status line but {block[:32]!r}")
    end = _BLANK_LINE.search(block, 0, limits.header_bytes)
    if not end:
        raise PayloadError("bad_http", f"no end of the HTTP header within {limits.header_bytes} bytes")
    return HttpResponse(int(status[1]), parse_headers(block[: end.end()]), block[end.end() :])


def decoded_body(response: HttpResponse, limits: ReadLimits) -> Body:
    """The body with chunking and content encoding undone, where they are still there.

    Crawlers differ: some store the bytes as sent, some decode them and leave the headers. So a header is
    believed only where the bytes agree, and so is one that names no encoding (``UTF-8``). Of a body that was
    cut off there is what came, however it is packed.
    Raises PayloadError ``too_large`` over the bound and ``bad_encoding`` where the bytes are broken.
    """
    body, cut = response.body, False
    chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
    if chunked and _CHUNK_SIZE.match(body):
        body, cut = _unchunked(body, limits)
    stated = response.headers.get("content-encoding", "").lower().replace(" ", "").split(",")
    encodings = [name for name in stated if name not in ("", "identity")]
    for encoding in reversed(encodings):
        if not _MARKUP.match(body[:64].lstrip(_BLANK)):
            body, short = _decode(encoding, body, limits)
            cut = cut or short
    if not chunked and not encodings:
        cut = len(body) < (content_length(response.headers) or 0)
    return Body(body, cut)


def _decode(encoding: str, body: bytes, limits: ReadLimits) -> Body:
    try:
        return _undone(encoding, body, limits)
    except PayloadError as error:
        if error.reason == "bad_encoding" and not _CONTROLS.search(body, 0, _LOOKED_AT):
            return Body(body, cut=False)  # text already
        raise


def _undone(encoding: str, body: bytes, limits: ReadLimits) -> Body:
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(body, limits) if body.startswith(b"\x1f\x8b") else Body(body, cut=False)
    if encoding == "deflate":
        return _deflated(body, limits, wbits=15 if body[:1] == b"\x78" else -15)
    if encoding == "zstd":
        zstd = body.startswith(b"\x28\xb5\x2f\xfd")
        return _inflate(ZstdReader, body, limits) if zstd else Body(body, cut=False)
    if encoding == "br":
        return _inflate(BrotliReader, body, limits)
    raise PayloadError("bad_encoding", f"unknown content encoding {encoding[:40]!r}")


def _unchunked(body: bytes, limits: ReadLimits) -> Body:
    """The content of a body in chunks, as much of it as there is."""
    pieces, size, at, cut = [], 0, 0, False
    while size <= limits.record_bytes and (head := _CHUNK_SIZE.match(body, at)):
        at = head.end() + int(head[1], 16)
        if at == head.end():  # the last chunk; fields may follow
            break
        pieces.append(body[head.end() : at])
        size += len(pieces[-1])
        if line_end := _LINE_END.match(body, at):
            at = line_end.end()
    else:
        cut = True
        if size <= limits.record_bytes and not _CUT_SIZE.fullmatch(body, at):
            raise PayloadError("bad_encoding", f"no size of a chunk but {body[at : at + 16]!r}")
    return _bounded(b"".join(pieces), cut, limits)


def _gunzip(body: bytes, limits: ReadLimits) -> Body:
    """The content of a gzip body, as much of it as there is; bytes after it that are none are ignored, as
    browsers ignore them."""
    pieces: list[bytes] = []
    left, cut = limits.record_bytes + 1, False
    while left > 0 and body.startswith(b"\x1f\x8b"):
        engine = zlib.decompressobj(wbits=31)
        try:
            pieces.append(engine.decompress(body, left))
        except zlib.error as error:
            if not pieces:
                raise PayloadError("bad_encoding", str(error)) from None
            break
        left -= len(pieces[-1])
        body, cut = engine.unused_data, not engine.eof
    return _bounded(b"".join(pieces), cut, limits)


def _deflated(body: bytes, limits: ReadLimits, wbits: int) -> Body:
    engine = zlib.decompressobj(wbits=wbits)
    try:
        data = engine.decompress(body, limits.record_bytes + 1)
    except zlib.error as error:
        raise PayloadError("bad_encoding", str(error)) from None
    return _bounded(data, not engine.eof, limits)


def _inflate(reader: Callable[[BytesIO], Any], body: bytes, limits: ReadLimits) -> Body:
    """What a body decodes to, up to where it is cut off or broken, which these decoders do not tell apart."""
    source = reader(BytesIO(body))
    pieces: list[bytes] = []
    size, cut = 0, False
    try:
        while body and size <= limits.record_bytes and (piece := source.read(_PIECE)):
            pieces.append(piece)
            size += len(piece)
    except OSError as error:
        if not pieces:
            raise PayloadError("bad_encoding", str(error)) from None
        cut = True
    return _bounded(b"".join(pieces), cut, limits)


def _bounded(data: bytes, cut: bool, limits: ReadLimits) -> Body:
    if len(data) > limits.record_bytes:
        raise PayloadError("too_large", f"the content decodes to more than {limits.record_bytes} bytes")
    return Body(data, cut)


def checked_type(media_type: str, content: bytes) -> str:
    """The media type of a page, from what was said and, where that is nothing or a lie, from the bytes.

    Raises PayloadError ``empty`` for no content and ``not_html`` for what is no web page or plain text.
    """
    if not content.strip() and media_type in ("", *HTML_TYPES, *TEXT_TYPES):
        raise PayloadError("empty", "the response has no content")
    if content.startswith(b"%PDF-") or _is_binary(content):
        raise PayloadError("not_html", f"binary content under the type {media_type or 'unknown'!r}")
    if media_type in (*TEXT_TYPES, *XML_TYPES) and begins_as_page(content):
        return "text/html"
    if media_type in HTML_TYPES or media_type in TEXT_TYPES:
        return media_type
    if media_type in ("", "application/octet-stream", "unknown/unknown") and _MARKUP.search(content, 0, 2048):
        return "text/html"
    raise PayloadError("not_html", media_type or "no content type and no markup")


def begins_as_page(content: bytes) -> bool:
    """Whether the bytes begin as a whole page does, which tells one whatever it is called."""
    return _DOCUMENT.match(content) is not None


def _is_binary(content: bytes) -> bool:
    """Whether null bytes show that this is no text; browsers ignore those in what begins as a page."""
    head = content[:1024]
    return b"\0" in head and not _is_utf16(head) and not _MARKUP.match(head.lstrip(_BLANK))


def _is_utf16(content: bytes) -> bool:
    if _UTF16_TAG.match(content):
        return True
    even, odd = content[0:1024:2].count(0), content[1:1024:2].count(0)
    return content[:2] in (b"\xff\xfe", b"\xfe\xff") or (min(even, odd) == 0 and max(even, odd) > 128)


def parse_content_type(value: str) -> tuple[str, str]:
    """``text/html; charset=GBK`` as ``("text/html", "gbk")``; the type is empty where it is none."""
    found, charset = _MEDIA_TYPE.match(value.strip()), _CHARSET.search(value)
    return found[0].lower() if found else "", charset[1].lower() if charset else ""


def parse_date(value: str) -> datetime | None:
    """A WARC-Date (W3C profile of ISO 8601) in UTC, or None where it is no date."""
    try:
        moment = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # such as the first hours of the year 1, elsewhere
        return None
