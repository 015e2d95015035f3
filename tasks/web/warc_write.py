"""WARC 1.1 written one gzip member a record, byte for byte the same for the same responses."""

from __future__ import annotations

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
SAME_PAYLOAD = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"


def sha1_digest(data: bytes) -> str:
    """A digest as WARC headers write it: ``sha1:`` and base32."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def format_date(moment: datetime) -> str:
    """UTC with seconds, as in WARC-Date."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class WarcWriter:
    """Appends records to a .warc.gz file; use as a context manager."""

    def __init__(self, path: Path, *, software: str, date: datetime) -> None:
        self.path = path
        self.offset = 0
        """Where the next record will start."""
        self._file = path.open("wb")
        fields = f"software: {software}\r\nformat: WARC File Format 1.1\r\n".encode()
        self._write("warcinfo", "", date, [("Content-Type", "application/warc-fields")], fields)

    def response(
        self,
        url: str,
        date: datetime,
        head: bytes,
        body: bytes,
        *,
        address: str = "",
        truncated: str = "",
    ) -> int:
        """Write a response (status line and headers with their blank line, then the body); its offset."""
        fields = [("Content-Type", "application/http; msgtype=response")]
        fields += [("WARC-IP-Address", address)] if address else []
        fields += [("WARC-Truncated", truncated)] if truncated else []
        fields.append(("WARC-Payload-Digest", sha1_digest(body)))
        return self._write("response", url, date, fields, head + body)

    def revisit(
        self,
        url: str,
        date: datetime,
        head: bytes,
        *,
        profile: str,
        payload_digest: str,
        first_date: datetime,
    ) -> int:
        """Write that a page is unchanged since ``first_date``, when it was stored; its offset."""
        fields = [
            ("Content-Type", "application/http; msgtype=response"),
            ("WARC-Profile", profile),
            ("WARC-Payload-Digest", payload_digest),
            ("WARC-Refers-To-Target-URI", url),
            ("WARC-Refers-To-Date", format_date(first_date)),
        ]
        return self._write("revisit", url, date, fields, head)

    def _write(
        self, kind: str, url: str, date: datetime, fields: Iterable[tuple[str, str]], block: bytes
    ) -> int:
        record_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} {url} {format_date(date)} {self.offset}")
        lines = ["WARC/1.1", f"WARC-Type: {kind}", f"WARC-Record-ID: <urn:uuid:{record_id}>"]
        lines.append(f"WARC-Date: {format_date(date)}")
        lines += [f"WARC-Target-URI: {url}"] if url else []
        lines += [f"{name}: {value}" for name, value in fields]
        lines += [f"WARC-Block-Digest: {sha1_digest(block)}", f"Content-Length: {len(block)}", "", ""]
        gzip = zlib.compressobj(6, zlib.DEFLATED, 31)
        member = gzip.compress("\r\n".join(lines).encode() + block + b"\r\n\r\n") + gzip.flush()
        offset = self.offset
        self._file.write(member)
        self.offset += len(member)
        return offset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
