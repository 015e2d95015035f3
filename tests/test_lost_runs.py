"""Runs whose process is gone are told as ended where the server has taken it, and only there."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.lost_runs import end_lost_runs


class Prefect(BaseHTTPRequestHandler):
    """Three unfinished runs, of which one cannot be changed."""

    def do_POST(self) -> None:
        """Answer as Prefect's API does."""
        self.rfile.read(int(self.headers["content-length"]))
        found = [{"id": name, "name": f"run {name}"} for name in ("alive", "dead", "stuck")]
        answer = found if self.path.endswith("/filter") else {"status": "ACCEPT"}
        self.send_response(500 if "stuck" in self.path else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
        pass


@pytest.fixture
def api() -> Iterator[str]:
    """The address of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Prefect) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_only_what_the_server_has_marked_is_told_as_ended(api: str) -> None:
    assert end_lost_runs(api, "modelmill", {"alive"}) == ["run dead"]
