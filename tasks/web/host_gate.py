"""Turns at hosts: so many requests at once, so long between their starts, for all that this process fetches.

Parts that crawl one host side by side, each in a thread with an event loop of its own, are one visitor to it:
what a host is asked by one of them counts for the others too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Lock
from weakref import WeakValueDictionary

SLOWEST_S = 10.0
"""Seconds between requests to a host up to which its answers slow us down."""
LOOK_S = 0.02
"""Seconds after which one looks again whether another part has given a turn back."""


class _Host:
    """A host's turns, shared by the gates that lead to it; forgotten with the last of them."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.running = 0
        self.next_start = 0.0
        self.slower = 0.0
        self.slowed_at = 0.0
        self.asked_delay = 0.0
        """Seconds between requests that robots.txt asks for."""

    def enter(self, most: int) -> bool:
        """Take a turn, if fewer than ``most`` are taken."""
        with self.lock:
            free = self.running < most
            self.running += free
            return free

    def leave(self) -> None:
        """Give a turn back."""
        with self.lock:
            self.running -= 1

    def wait(self, delay: float) -> float:
        """Seconds until one's request may start; the next may ``delay`` seconds after it."""
        with self.lock:
            now = time.monotonic()
            start = max(now, self.next_start)
            self.next_start = start + self.delay(delay)
            return start - now

    def delay(self, own: float) -> float:
        """Seconds between two requests, where the config asks for ``own`` of them."""
        return max(own, self.asked_delay, self.slower)


_hosts: WeakValueDictionary[str, _Host] = WeakValueDictionary()
_hosts_lock = Lock()


class HostGate:
    """One fetcher's way to its turns; its requests and delay are those that its config allows."""

    def __init__(self, concurrency: int, delay: float) -> None:
        """``concurrency``: requests at once to a host. ``delay``: seconds between the starts of two."""
        self._concurrency, self._delay = concurrency, delay
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._known: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait for a turn at the host and hold it."""
        shared = self._host(host)
        async with self._slots.setdefault(host, asyncio.Semaphore(self._concurrency)):
            while not shared.enter(self._concurrency):  # noqa: ASYNC110 (turns come back in other loops)
                await asyncio.sleep(LOOK_S)
            try:
                if wait := shared.wait(self._delay):
                    await asyncio.sleep(wait)
                yield
            finally:
                shared.leave()

    def ask_delay(self, host: str, seconds: float) -> None:
        """Take up the seconds between requests that a host's robots.txt asks for."""
        self._host(host).asked_delay = seconds

    def heed(self, host: str, asked: float | None, started: float, *, too_fast: bool) -> None:
        """Take up what a host's answer says of our pace, which it says to us and not of one page.

        No request begins for as long as it ``asked`` us to wait, up to ``SLOWEST_S``: longer waits are the
        page's own, as it may be busy alone. An answer that we are ``too_fast`` doubles the delay between
        requests, once for all that ``started`` before the last doubling; others let it shrink.
        """
        shared = self._host(host)
        with shared.lock:
            now = time.monotonic()
            if not too_fast:
                shared.slower *= 0.9
            elif started >= shared.slowed_at:
                shared.slower = min(max(2 * shared.delay(self._delay), 0.25), SLOWEST_S)
                shared.slowed_at = now
            if asked:
                shared.next_start = max(shared.next_start, now + min(asked, SLOWEST_S))

    def _host(self, host: str) -> _Host:
        if host not in self._known:
            with _hosts_lock:
                shared = _hosts.get(host)
                if shared is None:
                    _hosts[host] = shared = _Host()
            self._known[host] = shared
        return self._known[host]
