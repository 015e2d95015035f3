"""A polite crawl, breadth first, written to WARC in the order of discovery whatever answers first.

Requests run at once, but responses are taken up in the order in which their addresses were found: so the
same site gives the same WARC records in the same order with 1 or 500 connections. The price is that one
slow page can hold the next ones back, up to ``WINDOW`` of them; its deadline bounds that.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.web.config import CrawlConfig
from tasks.web.crawl_index import crawl_identity
from tasks.web.crawl_store import CrawlStore
from tasks.web.fetch import PASSING, RETRY_STATUSES, Fetcher, FetchError, Response, Want
from tasks.web.guard import Routes
from tasks.web.payload import HTML_TYPES, TEXT_TYPES, HttpResponse, PayloadError, parse_content_type
from tasks.web.records import ReadLimits
from tasks.web.robots import Robots
from tasks.web.sitemaps import GZIP_TYPES, XML_TYPES, is_index, is_listing, listed_addresses, unpacked
from tasks.web.urls import REDIRECTS, Scope, canonical_url, find_links, host_of, redirect_target

WANTED_TYPES = HTML_TYPES | TEXT_TYPES | XML_TYPES | GZIP_TYPES | {""}
WINDOW = 4
"""Requests on their way or waiting for their turn to be written, for each allowed connection."""
MAX_WAITING = 2_000_000
"""Addresses in the queue at most; further ones are counted and dropped."""

ProgressReport = Callable[[float, float | None, str], None]
Ended = Literal["complete", "max_pages", "max_bytes", "max_seconds"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An address that gave no response, or none that could be used."""

    url: str
    reason: str
    detail: str
    kept: bool = False
    """Whether the page of the earlier crawl stands in for it."""


@dataclass
class CrawlReport:
    """What a crawl did."""

    pages: int = 0
    """Responses stored, unchanged ones included."""
    unchanged: int = 0
    bytes: int = 0
    """Bytes of bodies, as sent."""
    statuses: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """Addresses that were found and not asked for, by reason."""
    failures: list[Failure] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    """Addresses that robots.txt forbids."""
    ended: Ended = "complete"
    seconds: float = 0.0
    identity: str = ""
    """Digest of what was found: equal for two crawls of an unchanged site."""


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    depth: int
    redirects: int = 0
    seed: bool = False
    listing: bool = False
    """A sitemap or feed: let through whatever the scope's path."""


def crawl(
    seeds: Sequence[str],
    config: CrawlConfig,
    out: Path,
    progress: ProgressReport = lambda _done, _total, _unit: None,
    previous: Path | None = None,
    routes: Routes | None = None,
    left: Sequence[Path] = (),
) -> CrawlReport:
    """Crawl from ``seeds`` into the folder ``out``: a WARC 1.1 file and ``index.jsonl``.

    With ``previous`` (an earlier crawl's folder) only what changed is asked for and stored; the rest become
    WARC revisit records. ``left`` are WARC files of attempts at this same crawl that were cut off: what they
    hold is not asked for again. ``routes`` gives, by host name, the loopback ports of servers of our own. A
    page that fails costs itself and is in the report. Raises ValueError where a seed is no http(s) address.
    """
    limits = ReadLimits(record_bytes=config.max_page_bytes)
    canonical = [canonical_url(seed) for seed in seeds]
    if not canonical or not all(canonical):
        raise ValueError(f"a crawl starts from http:// or https:// addresses; found {list(seeds)}")
    work = _Crawl(canonical, config, CrawlStore(out, previous, limits, left), progress)
    return asyncio.run(work.run(routes or {}))


class _Crawl:
    def __init__(
        self, seeds: list[str], config: CrawlConfig, store: CrawlStore, progress: ProgressReport
    ) -> None:
        self.config, self.store, self.progress = config, store, progress
        include, exclude = (tuple(map(re.compile, found)) for found in (config.include, config.exclude))
        self.scope = Scope(config.scope, tuple(seeds), include, exclude)
        self.queue: deque[_Target] = deque()
        self.seen: set[str] = set()
        self.sites: set[str] = set()
        self.report = CrawlReport()
        for seed in seeds:
            self._enqueue(_Target(seed, 0, seed=True))

    async def run(self, routes: Routes) -> CrawlReport:
        """Crawl until nothing is left or a bound is met."""
        started = time.monotonic()
        async with Fetcher(self.config, routes) as self.fetcher:
            self.robots = Robots(self.fetcher)
            with self.store:
                await self._work(started + self.config.max_seconds)
        self.report.pages = len(self.store.entries)
        self.report.unchanged = self.store.unchanged
        self.report.identity = crawl_identity(self.store.entries)
        self.report.seconds = time.monotonic() - started
        return self.report

    async def _work(self, deadline: float) -> None:
        """Launch in order, take up in order."""
        running: deque[tuple[_Target, asyncio.Task[Response | FetchError]]] = deque()
        launched = 0
        try:
            while True:
                while (
                    self.queue
                    and launched < self.config.max_pages
                    and len(running) < self.config.concurrency * WINDOW
                ):
                    target = self.queue.popleft()
                    running.append((target, asyncio.create_task(self._fetch(target))))
                    launched += 1
                if not running:
                    break
                target, task = running[0]
                await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
                if not task.done() or self.report.bytes >= self.config.max_bytes:
                    self.report.ended = "max_seconds" if not task.done() else "max_bytes"
                    return
                running.popleft()
                self._take_up(target, task.result())
                total = min(self.config.max_pages, launched + len(self.queue))
                self.progress(launched - len(running), total, "pages")
            self.report.ended = "max_pages" if self.queue else "complete"
        finally:
            self.report.skipped["not_reached"] += len(self.queue) + len(running)
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    async def _fetch(self, target: _Target) -> Response | FetchError:
        try:
            if (refusal := await self.robots.refusal(target.url)) is not None:
                return refusal
            if (again := self.store.left(target.url)) is not None:
                return again
            accept = _anything if target.listing else _wanted
            want = Want(headers=self.store.conditions(target.url), accept=accept)
            return await self.fetcher.get(target.url, want)
        except FetchError as error:
            return error

    def _take_up(self, target: _Target, outcome: Response | FetchError) -> None:
        self._take_up_page(target, outcome)
        site = host_of(target.url)
        if target.seed and self.config.sitemaps and site not in self.sites:
            self.sites.add(site)
            for url in map(self.scope.secured, self.robots.sitemaps(target.url)):
                self._enqueue(_Target(url, target.depth + 1, listing=True))

    def _take_up_page(self, target: _Target, outcome: Response | FetchError) -> None:
        if isinstance(outcome, FetchError):
            if outcome.reason == "robots":
                self.report.skipped["robots"] += 1
                self.report.forbidden.append(target.url)
            elif outcome.reason not in PASSING or not self._keep(target, outcome.reason, outcome.detail):
                self.report.failures.append(Failure(target.url, outcome.reason, outcome.detail))
            return
        self.report.statuses[str(outcome.status)] += 1
        self.report.bytes += len(outcome.body)
        if outcome.status in RETRY_STATUSES and self._keep(target, "http_status", str(outcome.status)):
            return
        try:
            message = self.store.take(outcome)
        except PayloadError as error:
            self.report.failures.append(Failure(target.url, error.reason, error.detail))
            return
        self._follow(target, message)

    def _keep(self, target: _Target, reason: str, detail: str) -> bool:
        """Take over the earlier crawl's page where there is one and the server cannot give it now: an hour's
        trouble is no reason to lose it and what lies behind it."""
        message = self.store.keep(target.url)
        if message is None:
            return False
        self.report.failures.append(Failure(target.url, reason, detail, kept=True))
        self._follow(target, message)
        return True

    def _follow(self, target: _Target, message: HttpResponse) -> None:
        """Queue what a page points to."""
        depth = target.depth + 1
        if message.status in REDIRECTS:
            location = redirect_target(message.headers, target.url)
            if target.redirects >= self.config.max_redirects:
                self.report.failures.append(Failure(target.url, "too_many_redirects", location))
            elif location:
                if target.seed:
                    self.scope = self.scope.widened(location)
                step = _Target(location, target.depth, target.redirects + 1, target.seed, target.listing)
                self._enqueue(step)
            return
        if message.status != 200:
            return
        media_type, charset = parse_content_type(message.headers.get("content-type", ""))
        is_page = media_type in HTML_TYPES or not media_type
        if target.listing or not is_page:  # which servers give any type: nginx has none for .gz
            body = unpacked(message.body, self.config.max_page_bytes)
            if is_listing(body):
                self._follow_listing(target, body)
                return
        if is_page:
            links = find_links(message.body, target.url, charset)
            for url in map(self.scope.secured, links.pages):
                self._enqueue(_Target(url, depth))
            for url in map(self.scope.secured, links.feeds if self.config.sitemaps else ()):
                self._enqueue(_Target(url, depth, listing=host_of(url) == host_of(target.url)))

    def _follow_listing(self, target: _Target, content: bytes) -> None:
        index = is_index(content)
        for url in map(self.scope.secured, listed_addresses(content, target.url)):
            nested = (index or url.endswith((".xml", ".xml.gz"))) and host_of(url) == host_of(target.url)
            self._enqueue(_Target(url, target.depth + 1, listing=nested))

    def _enqueue(self, target: _Target) -> None:
        if target.url in self.seen:
            return
        reason = ""
        if target.depth > self.config.max_depth:
            reason = "max_depth"
        elif not (target.seed or target.listing) and not self.scope.allows(target.url):
            reason = "out_of_scope"
        elif len(self.queue) >= MAX_WAITING:
            reason = "queue_full"
        if reason:
            self.report.skipped[reason] += 1
            return
        self.seen.add(target.url)
        self.queue.append(target)


def _anything(_status: int, _headers: dict[str, str]) -> bool:
    return True


def _wanted(status: int, headers: dict[str, str]) -> bool:
    media_type, _ = parse_content_type(headers.get("content-type", ""))
    return media_type in WANTED_TYPES
