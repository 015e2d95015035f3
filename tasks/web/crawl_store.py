"""Where a crawl puts its responses: WARC records and the index, with what is unchanged stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.web.crawl_index import IndexEntry, link_files, next_name, read_entry, read_index, write_index
from tasks.web.fetch import RETRY_STATUSES, Response, decoded
from tasks.web.frames import open_frame
from tasks.web.payload import HttpResponse, PayloadError, decoded_body, parse_date, parse_response
from tasks.web.records import Fault, ReadLimits
from tasks.web.warc import WarcRecord, read_record, read_warc
from tasks.web.warc_write import NOT_MODIFIED, SAME_PAYLOAD, WarcWriter, format_date, sha1_digest

SOFTWARE = "modelmill"
NOTHING = hashlib.sha256(b"").hexdigest()


class CrawlStore:
    """A crawl's folder being written, with an earlier crawl's beside it; use as a context manager."""

    def __init__(
        self, out: Path, previous: Path | None, limits: ReadLimits, left: Sequence[Path] = ()
    ) -> None:
        self._left = {url: place for path in left for url, place in _responses(path, limits)}
        self.entries: list[IndexEntry] = []
        self.unchanged = 0
        self._out, self._previous, self._limits = out, previous, limits
        self._known = {entry.url: entry for entry in read_index(previous)} if previous else {}
        self._warc = WarcWriter(
            out / next_name(self._known.values()), software=SOFTWARE, date=datetime.now(UTC)
        )

    def left(self, url: str) -> Response | None:
        """The response that an attempt of this same crawl stored before it was cut off, if one worth having:
        a server that was busy then is asked again."""
        if url not in self._left:
            return None
        path, offset = self._left[url]
        with path.open("rb") as file:
            found = read_record(open_frame(file, "gzip", offset), self._limits)
        sent = _as_sent(found) if isinstance(found, WarcRecord) else None
        return None if sent is None or sent.status in RETRY_STATUSES else sent

    def conditions(self, url: str) -> dict[str, str]:
        """Headers that ask for the page only if it is not the one stored; none where nothing of it was."""
        entry = self._known.get(url)
        if entry is None or entry.payload == NOTHING:
            return {}
        named = {"If-None-Match": entry.etag, "If-Modified-Since": entry.modified}
        return {name: value for name, value in named.items() if value}

    def keep(self, url: str) -> HttpResponse | None:
        """The page as the earlier crawl has it, taken over into this one; None where it has none."""
        known = self._known.get(url)
        if known is None or known.status in RETRY_STATUSES:
            return None
        try:
            message = self._stored(known)
        except PayloadError:
            return None
        self.entries.append(known)
        return message

    def take(self, response: Response) -> HttpResponse:
        """Store a response, as a revisit where its page is the one stored earlier; the page, decoded.

        Raises PayloadError where the body cannot be decoded within bounds; nothing is stored then.
        """
        known = self._known.get(response.url)
        if response.status == 304 and known:
            return self._revisit(response, known, NOT_MODIFIED, self._stored(known))
        message = decoded(response, self._limits)
        payload = hashlib.sha256(message.body).hexdigest()
        if known and (known.status, known.payload) == (response.status, payload):
            return self._revisit(response, known, SAME_PAYLOAD, message)
        self.entries.append(self._write(response, payload))
        return message

    def _write(self, response: Response, payload: str) -> IndexEntry:
        offset = self._warc.response(
            response.url,
            response.date,
            response.head,
            response.body,
            truncated="unspecified" if response.body_left else "",
        )
        return IndexEntry(
            response.url,
            response.status,
            payload,
            format_date(response.date),
            self._warc.path.name,
            offset,
            *_validators(response),
            sha1_digest(response.body),
        )

    def _stored(self, known: IndexEntry) -> HttpResponse:
        """The page as stored by the earlier crawl."""
        found = read_entry(self._previous or self._out, known, self._limits)
        if isinstance(found, Fault):
            raise PayloadError(found.reason, f"as stored earlier: {found.detail}")
        message = parse_response(found.block, self._limits)
        return HttpResponse(message.status, message.headers, decoded_body(message, self._limits).content)

    def _revisit(
        self, response: Response, known: IndexEntry, profile: str, message: HttpResponse
    ) -> HttpResponse:
        self._warc.revisit(
            response.url,
            response.date,
            response.head,
            profile=profile,
            payload_digest=known.payload_sha1,
            first_date=parse_date(known.date) or response.date,
        )
        etag, modified = _validators(response)
        if profile == NOT_MODIFIED:  # which need not name the version again
            etag, modified = etag or known.etag, modified or known.modified
        self.entries.append(replace(known, etag=etag, modified=modified))
        self.unchanged += 1
        return message

    def __enter__(self) -> Self:
        self._warc.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._warc.__exit__(kind, error, trace)
        if kind is None:
            if self._previous:
                earlier = (entry.file for entry in self.entries if entry.file != self._warc.path.name)
                link_files(self._previous, self._out, earlier)
            write_index(self._out, self.entries)


def _validators(response: Response) -> tuple[str, str]:
    """What the server calls this version of a page: it may call it otherwise though nothing changed."""
    headers = response.headers
    return headers.get("etag", ""), headers.get("last-modified", "")


def _responses(path: Path, limits: ReadLimits) -> Iterator[tuple[str, tuple[Path, int]]]:
    for record in read_warc(path, limits):
        if isinstance(record, WarcRecord) and record.type == "response":
            yield record.url, (path, record.offset)


def _as_sent(record: WarcRecord) -> Response | None:
    """A stored response as the fetch gave it, so that storing it again gives the same bytes."""
    head, blank, body = record.block.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    _, code, reason = [*status.split(" ", 2), "", ""][:3]
    date = parse_date(record.headers.get("warc-date", ""))
    if not (blank and code.isdigit() and date):
        return None
    fields = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    left_out = "warc-truncated" in record.headers
    return Response(record.url, int(code), reason, fields, body, date, body_left=left_out)
