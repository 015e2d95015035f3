"""One address fetched politely and within bounds: deadlines, sizes, retries, a turn at the host."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpcore

from tasks.web.config import CrawlConfig
from tasks.web.guard import GuardedBackend, RefusedAddressError, Routes
from tasks.web.host_gate import HostGate
from tasks.web.payload import HttpResponse, decoded_body
from tasks.web.records import ReadLimits
from tasks.web.urls import host_of

RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
PASSING = frozenset({"network", "timed_out", "no_robots"})
"""Reasons of failures that may be gone next time."""
TOO_MANY_REQUESTS = 429
LONGEST_WAIT_S = 60.0
CONNECT_S = 10.0
HOP_HEADERS = frozenset({"transfer-encoding", "connection", "keep-alive"})

Accept = Callable[[int, dict[str, str]], bool]
"""Whether a body is wanted, from the status and the headers (names in lower case)."""


_REASONS = (
    (RefusedAddressError, "refused_address"),
    (httpcore.TimeoutException, "timed_out"),
    ((httpcore.NetworkError, httpcore.ProtocolError, OSError), "network"),
    ((httpcore.UnsupportedProtocol, ValueError), "bad_url"),
)


class FetchError(Exception):
    """A fetch that got no usable response; ``reason`` is a short fixed name to be counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it came, but for the chunking, which is undone."""

    url: str
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    """Headers in the order they came."""
    body: bytes
    """As sent: content encoding still there."""
    date: datetime
    body_left: bool = False
    """True where the body was not wanted."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name, the first of each."""
        found: dict[str, str] = {}
        for name, value in self.fields:
            found.setdefault(name.lower(), value)
        return found

    @property
    def head(self) -> bytes:
        """Status line and headers as a WARC record holds them.

        Headers that speak of the connection get a prefix, since the body is stored without chunking.
        """
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        for name, value in self.fields:
            prefix = "X-Crawl-" if name.lower() in HOP_HEADERS else ""
            lines.append(f"{prefix}{name}: {value}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def decoded(response: Response, limits: ReadLimits) -> HttpResponse:
    """A response with its content encoding undone; raises PayloadError where that cannot be within bounds."""
    headers = {name: value for name, value in response.headers.items() if name not in HOP_HEADERS}
    message = HttpResponse(response.status, headers, response.body)
    return replace(message, body=decoded_body(message, limits).content)


@dataclass(frozen=True, slots=True)
class Want:
    """What is wanted of a response."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent beside, or instead of, the usual ones."""
    accept: Accept = lambda _status, _headers: True
    limit: int = 0
    """Bytes of the body, as sent; 0 for the config's bound on pages."""
    cut: bool = False
    """Whether a longer body is cut at the limit; else it is a FetchError."""
    sink: Path | None = None
    """File that takes the body of a 200 piece by piece, without a limit."""


WANT = Want()
_HEADERS = {
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8,application/xml;q=0.7,*/*;q=0.1",
    "Accept-Encoding": "gzip, deflate, br",
}


class Fetcher:
    """Fetches addresses over one pool of guarded connections; use as an async context manager."""

    def __init__(self, config: CrawlConfig, routes: Routes | None = None) -> None:
        self.config = config
        self.gate = HostGate(config.host_concurrency, config.host_delay_seconds)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=config.concurrency,
            max_keepalive_connections=config.concurrency,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(config.allow_hosts, routes),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def get(self, url: str, want: Want = WANT) -> Response:
        """Fetch one address without following redirects.

        Tried again, with growing waits, where that can help. Raises FetchError: ``refused_address``,
        ``timed_out``, ``network``, ``tls``, ``bad_url``, ``too_large``.
        """
        last: Response | FetchError = FetchError("network", "not tried")
        for attempt in range(self.config.retries + 1):
            if attempt:
                await asyncio.sleep(self._wait(attempt, last))
            async with self.gate.turn(host_of(url)):
                started = time.monotonic()
                last = await self._attempt(url, want)
                if isinstance(last, Response):
                    asked = _asked_to_wait(last) if last.status in RETRY_STATUSES else None
                    too_fast = last.status == TOO_MANY_REQUESTS
                    self.gate.heed(host_of(url), asked, started, too_fast=too_fast)
            if isinstance(last, Response) and last.status not in RETRY_STATUSES:
                return last
            if isinstance(last, FetchError) and last.reason not in ("network", "timed_out"):
                raise last
        if isinstance(last, FetchError):
            raise last
        return last

    async def _attempt(self, url: str, want: Want) -> Response | FetchError:
        try:
            async with asyncio.timeout(self.config.page_seconds) as deadline:
                return await self._once(url, want, deadline)
        except FetchError as error:
            return error
        except TimeoutError:
            return FetchError("timed_out", f"no whole response within {self.config.page_seconds:g} s")
        except Exception as error:
            cause = _tls_error(error)
            if cause is not None and not isinstance(cause, ssl.SSLEOFError):  # that is a broken connection
                return FetchError("tls", _why_not_secure(cause))
            for kind, reason in _REASONS:
                if isinstance(error, kind):
                    return FetchError(reason, f"{type(error).__name__} {error}".strip())
            raise

    async def _once(self, url: str, want: Want, deadline: asyncio.Timeout) -> Response:
        headers = {"User-Agent": self.config.user_agent, **_HEADERS, **want.headers}
        seconds = self.config.page_seconds
        wait = {"connect": min(CONNECT_S, seconds), "read": seconds, "write": seconds}
        fields_sent = [(name.encode("ascii"), _on_the_wire(value)) for name, value in headers.items()]
        request = self._pool.stream("GET", url, headers=fields_sent, extensions={"timeout": wait})
        async with request as answer:
            fields = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in answer.headers)
            reason = bytes(answer.extensions.get("reason_phrase", b"")).decode("latin-1")
            found = Response(url, answer.status, reason, fields, b"", datetime.now(UTC))
            if not want.accept(found.status, found.headers):
                return replace(found, body_left=True)
            if want.sink is not None and found.status == 200:
                deadline.reschedule(asyncio.get_running_loop().time() + self.config.max_seconds)
                with want.sink.open("wb") as file:
                    async for piece in answer.aiter_stream():
                        file.write(piece)
                return replace(found, body_left=True)
            return replace(
                found, body=await _body(answer, want.limit or self.config.max_page_bytes, want.cut)
            )

    def _wait(self, attempt: int, last: Response | FetchError) -> float:
        if isinstance(last, Response):
            asked = _asked_to_wait(last)
            if asked is not None:
                return asked
        longest = min(self.config.backoff_seconds * 2 ** (attempt - 1), LONGEST_WAIT_S)
        return float(longest * random.uniform(0.5, 1.0))


def _on_the_wire(value: str) -> bytes:
    """A header's value as it is sent: what a server called its version goes back to it byte for byte."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8")


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """What went wrong with TLS, if that was behind an error."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, ssl.SSLError):
        link = link.__cause__ or link.__context__
    return link


def _why_not_secure(error: ssl.SSLError) -> str:
    """Why there is no secure connection, and the mend."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error}; if you trust it, name a file with its issuer's certificate in SSL_CERT_FILE"
    return f"{error}; it may be that the server speaks http:// at this address"


async def _body(answer: httpcore.Response, limit: int, cut: bool) -> bytes:
    pieces, size = [], 0
    async for piece in answer.aiter_stream():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            if cut:
                break
            raise FetchError("too_large", f"the body is over {limit} bytes")
    return b"".join(pieces)[:limit]


def _asked_to_wait(response: Response) -> float | None:
    asked = retry_after(response.headers.get("retry-after", ""))
    return None if asked is None else min(asked, LONGEST_WAIT_S)


def retry_after(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None where it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
