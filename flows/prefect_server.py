"""``python -m flows.prefect_server server start …``: Prefect's server, patient where sqlite is busy.

On sqlite a request that reads before it writes is refused where another one has written in between. Prefect
answers 503 then, and its own clients try again; its pages do not: Submit in a run form fails with "Unknown
error". Here the server itself tries again, as its clients would.
"""

from __future__ import annotations

import asyncio
import random
import runpy
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

WAITS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.6)
"""Before each further try, give or take half. Prefect rolls a refused request's transaction back, so that it
can be repeated."""
BUSY = 503


class TryAgainWhenBusy:
    """Middleware that repeats a request with a body until it is answered other than by 503, or too often."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        for wait in WAITS_S:
            if await self._answered(scope, body, receive, send):
                return
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
        await self.app(scope, _from_start(body, receive), send)

    async def _answered(self, scope: Message, body: bytes, receive: Receive, send: Send) -> bool:
        """Hand the request on once, and its answer back unless it is 503."""
        busy = False

        async def unless_busy(message: Message) -> None:
            nonlocal busy
            busy = busy or message.get("status") == BUSY
            if not busy:
                await send(message)

        try:
            await self.app(dict(scope), _from_start(body, receive), unless_busy)
        except Exception:
            if not busy:  # else it is what the 503 was for: the application raises it after its answer
                raise
        return not busy


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the client has gone in the middle of it."""
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def _from_start(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def main() -> None:
    """Prefect's command line, its server's application with the middleware around it."""
    from prefect.server.api import server

    make = server.create_app

    def create_app(*arguments: Any, **settings: Any) -> Any:
        app = make(*arguments, **settings)
        if settings.get("final"):  # the one that is served; it is made once
            app.add_middleware(TryAgainWhenBusy)
        return app

    server.create_app = create_app
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
