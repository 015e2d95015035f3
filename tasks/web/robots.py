"""robots.txt, read as RFC 9309 asks: 4xx allows all, 5xx and silence forbid all, 500 KiB are enough."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from protego import Protego

from tasks.web.fetch import Fetcher, FetchError, Want, decoded
from tasks.web.payload import PayloadError
from tasks.web.records import ReadLimits
from tasks.web.urls import REDIRECTS, canonical_url, host_of, redirect_target, unique

MAX_ROBOTS_BYTES = 500 * 2**10
MAX_DECODED = ReadLimits(record_bytes=32 * 2**20)
MAX_CRAWL_DELAY_S = 60.0
MAX_SITEMAPS = 50
MAX_REDIRECTS = 5


@dataclass(frozen=True)
class Rules:
    """What one site's robots.txt says to us."""

    parsed: Protego | None
    sitemaps: tuple[str, ...] = ()
    crawl_delay: float = 0.0
    failure: FetchError | None = None
    """Why there is no robots.txt to go by, where nobody said that all is allowed."""

    def allows(self, url: str, agent: str) -> bool:
        """Whether the address may be fetched."""
        return self.parsed is None or bool(self.parsed.can_fetch(url, agent))


class Robots:
    """The rules of every site a crawl meets, each fetched once, when first asked for."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._agent = fetcher.config.user_agent.partition("/")[0].partition(" ")[0]
        self._rules: dict[str, asyncio.Task[Rules]] = {}

    async def refusal(self, url: str) -> FetchError | None:
        """Why the address may not be fetched, if so; never, where the config does not obey robots.txt.

        The reason is ``robots`` where the rules say so, another one where they cannot be had.
        """
        if not self._fetcher.config.robots:
            return None
        rules = await self._of(url)
        if rules.failure is not None:
            return rules.failure
        return None if rules.allows(url, self._agent) else FetchError("robots", "robots.txt forbids it")

    def sitemaps(self, url: str) -> tuple[str, ...]:
        """Sitemaps that the address's site names, once :meth:`refusal` has asked for its rules."""
        task = self._rules.get(_site(url))
        return task.result().sitemaps if task and task.done() else ()

    async def _of(self, url: str) -> Rules:
        site = _site(url)
        if site not in self._rules:
            self._rules[site] = asyncio.create_task(self._load(site))
        rules = await self._rules[site]
        if rules.crawl_delay:
            self._fetcher.gate.ask_delay(host_of(url), rules.crawl_delay)
        return rules

    async def _load(self, site: str) -> Rules:
        url = f"{site}/robots.txt"
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._fetcher.get(url, Want(limit=MAX_ROBOTS_BYTES, cut=True))
                target = redirect_target(answer.headers, url)
                if answer.status not in REDIRECTS or not target:
                    break
                url = target
            if answer.status == 200:
                return read_rules(decoded(answer, MAX_DECODED).body, site, self._agent)
        except (FetchError, PayloadError) as error:
            return Rules(None, failure=FetchError(error.reason, f"{url}: {error.detail}"))
        if 300 <= answer.status < 500 and answer.status != 429:
            return Rules(None)
        return Rules(None, failure=FetchError("no_robots", f"{url} answers {answer.status}"))


def _site(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def read_rules(body: bytes, site: str, agent: str) -> Rules:
    """Parse a robots.txt of any bytes."""
    text = body[:MAX_ROBOTS_BYTES].decode("utf-8", errors="replace").lstrip("\ufeff")
    parsed = Protego.parse(text)
    delay = min(float(parsed.crawl_delay(agent) or 0.0), MAX_CRAWL_DELAY_S)
    sitemaps = unique(canonical_url(str(found), site) for found in parsed.sitemaps)[:MAX_SITEMAPS]
    return Rules(parsed, tuple(sitemaps), max(0.0, delay))
