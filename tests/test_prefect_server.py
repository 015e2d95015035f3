"""Prefect's server tries a request again where sqlite was busy."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from flows import prefect_server
from flows.prefect_server import Message, Receive, Send, TryAgainWhenBusy


class Server:
    """Answers 503 for a while, then 201 with the body that it was sent."""

    def __init__(self, busy: int) -> None:
        self.busy, self.asked = busy, 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.asked += 1
        body = (await receive())["body"]
        status = 503 if self.asked <= self.busy else 201
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})
        if status == 503:
            raise ConnectionError("database is locked")  # as Prefect's application does after its answer


LAST_PIECE = {"type": "http.request", "body": b"cd", "more_body": False}


def ask(server: Server, method: str = "POST", last: Message = LAST_PIECE) -> list[dict[str, Any]]:
    """Send a request in two pieces; gives what comes back."""
    pieces = [{"type": "http.request", "body": b"ab", "more_body": True}, last]
    sent: list[dict[str, Any]] = []

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        sent.append(dict(message))

    with suppress(ConnectionError):
        asyncio.run(TryAgainWhenBusy(server)({"type": "http", "method": method}, receive, send))
    return sent


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "WAITS_S", (0.0,) * 5)


@pytest.mark.parametrize("busy", [0, 1, 5])
def test_a_request_is_repeated_with_its_whole_body_and_answered_once(busy: int) -> None:
    server = Server(busy)
    start, body = ask(server)
    assert (start["status"], body["body"], server.asked) == (201, b"abcd", busy + 1)


def test_a_server_that_stays_busy_says_so_in_the_end() -> None:
    server = Server(100)
    assert [message.get("status") for message in ask(server)] == [503, None]
    assert server.asked == 6


def test_what_only_reads_goes_straight_through() -> None:
    server = Server(1)
    assert ask(server, "GET")[0]["status"] == 503
    assert server.asked == 1


def test_a_request_whose_client_went_away_in_the_middle_is_not_acted_upon() -> None:
    server = Server(0)
    assert ask(server, last={"type": "http.disconnect"}) == []
    assert server.asked == 0
