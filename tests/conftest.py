"""What every test shares: a home of its own, and the way to real data where a machine has it."""

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

SHARED_DATA = Path(
    os.environ.get("MODELMILL_TEST_DATA", Path(__file__).resolve().parents[1].parent / "shared/data")
)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Call with a name to get a real data file or folder, or a skip that says what is absent."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"real data {name!r} is not on this machine (set MODELMILL_TEST_DATA to its folder)")
        return path

    return find


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A MODELMILL_HOME that belongs to this test alone."""
    path = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(path))
    monkeypatch.delenv("MODELMILL_STORE", raising=False)
    return path


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server with a database of its own, for every test that runs a flow."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on loopback with an empty bucket; gives the bucket's ``s3://`` address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        httpx.put(f"http://{host}:{port}/modelmill-test").raise_for_status()
        yield "s3://modelmill-test"
    server.stop()


@dataclass
class Page:
    """What a test's site answers at one path."""

    body: bytes | str = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.0
    """Wait before each byte of the body."""


class Site:
    """A web site on loopback: ``pages`` by path, or functions of the request; counts what was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Page | str | Callable[[BaseHTTPRequestHandler], Page]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def asked(self) -> list[str]:
        """Paths in the order in which they were asked for, robots.txt left out."""
        return [path for path, _ in self.requests if path != "/robots.txt"]

    def serve_folder(self, folder: Path, at: str = "") -> None:
        """Serve a folder's files with entity tags and byte ranges."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.pages[f"{at}/{file.relative_to(folder).as_posix()}"] = partial(_file_page, file)

    def _handler(site) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with site._lock:
                    site.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                    site.at_once += 1
                    site.most_at_once = max(site.most_at_once, site.at_once)
                try:
                    self._answer(site.pages.get(self.path, Page("not here", 404)))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with site._lock:
                        site.at_once -= 1

            def _answer(self, found: Any) -> None:
                page = found(self) if callable(found) else found
                page = Page(page) if isinstance(page, str) else page
                body = page.body.encode() if isinstance(page.body, str) else page.body
                self.send_response(page.status)
                for name, value in {"Content-Type": "text/html; charset=utf-8", **page.headers}.items():
                    self.send_header(name, value)
                if page.status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not page.drip_seconds:
                    self.wfile.write(body)
                    return
                for byte in body:
                    time.sleep(page.drip_seconds)
                    self.wfile.write(bytes([byte]))

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def _file_page(file: Path, request: BaseHTTPRequestHandler) -> Page:
    body = file.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if request.headers.get("If-None-Match") == tag:
        return Page(b"", 304, headers)
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not wanted:
        return Page(body, 200, headers)
    start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
    if start >= len(body):
        return Page(b"", 416, headers)
    return Page(body[start : end + 1], 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(body)}"})


@pytest.fixture
def site() -> Iterator[Site]:
    """A real web server on loopback; fill its ``pages``."""
    server = Site()
    yield server
    server.close()


@pytest.fixture
def page() -> type[Page]:
    """The class of a site's answers."""
    return Page
