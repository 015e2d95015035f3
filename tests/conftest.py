"""What every test shares: a home of its own, and the way to real data where a machine has it."""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are shared out among the test processes
# The same examples every time, so that a change is judged by what it changes; FUZZ=1 seeks new ones.
hypothesis.settings.register_profile("stable", derandomize=not os.environ.get("FUZZ"), deadline=None)
hypothesis.settings.load_profile("stable")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # threads that wait for each other leave the cores to others

SHARED_DATA = Path(
    os.environ.get("MODELMILL_TEST_DATA", Path(__file__).resolve().parents[1].parent / "shared/data")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process is left with a long one while the others idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=300):
            yield


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Call with a folder that is not there to make it a home whose Prefect database has its tables.

    Prefect makes them by the hundred migrations of its history, a good ten seconds for each database.
    """
    made = tmp_path_factory.mktemp("migrated")
    database = made / "prefect.db"
    settings = {
        "PREFECT_HOME": str(made),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
    }

    def make(home: Path) -> Path:
        if not database.exists():
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            subprocess.run(command, check=True, env=os.environ | settings, stdout=subprocess.DEVNULL)
        (home / "prefect").mkdir(parents=True)
        shutil.copy(database, home / "prefect/prefect.db")
        return home

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: two wait on each other for ever on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_log() -> Iterator[list[logging.LogRecord]]:
    """What is written to the log of runs, whatever Prefect does to the handlers that pytest installs."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger("modelmill")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


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


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, home: Path) -> Any:
    """An empty store on the disk, and one in a bucket."""
    from storage.store import open_store

    bucket = request.param == "s3"
    return open_store(f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}" if bucket else None)


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
        """Stop serving."""
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


@dataclass(frozen=True)
class RunningStack:
    """A stack that answers: Prefect, MLflow, a worker and the deployments of tests/data/stack_flows.py."""

    home: Path
    process: "subprocess.Popen[bytes]"
    environment: dict[str, str]
    prefect_port: int
    mlflow_port: int
    seconds_to_ready: float
    output: Path

    @property
    def api(self) -> str:
        """Address of the stack's Prefect API."""
        return f"http://127.0.0.1:{self.prefect_port}/api"

    def state(self) -> dict[str, Any]:
        """What the stack has written down about itself."""
        return dict(json.loads((self.home / "stack/state.json").read_text(encoding="utf-8")))


def start_stack(home: Path, **more: str) -> RunningStack:
    """Start a stack of its own on free ports and wait until it is ready; the caller stops it."""
    ports = []
    with contextlib.ExitStack() as held:
        for _ in range(2):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    data = Path(__file__).parent / "data"
    code = (
        "from rich.console import Console; from flows.commands.stack import up_command; "
        "from flows.stack_options import StackOptions; up_command(Console(), StackOptions("
        f"prefect_port={ports[0]}, mlflow_port={ports[1]}, deployments='stack_flows.specs'))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "MODELMILL"))}
    environment = {**kept, "MODELMILL_HOME": str(home), "PYTHONPATH": str(data), **more}
    home.mkdir(parents=True, exist_ok=True)
    output, started = home / "up.log", time.monotonic()
    with output.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=log, stderr=log, cwd=home
        )
    while True:
        text = output.read_text(encoding="utf-8")
        if "Ready in" in text:
            break
        if process.poll() is not None or time.monotonic() - started > 400:
            process.kill()
            raise RuntimeError(f"the stack did not start:\n{text}")
        time.sleep(0.1)
    return RunningStack(home, process, environment, *ports, time.monotonic() - started, output)


@pytest.fixture(scope="session")
def stack_starter() -> Callable[..., RunningStack]:
    """Starts further stacks: call with a home and environment variables, and stop what it gives."""
    return start_stack


@pytest.fixture(scope="session")
def running_stack(
    tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Path]
) -> Iterator[RunningStack]:
    """One stack for every test that looks at one."""
    soon = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2"}
    stack = start_stack(new_home(tmp_path_factory.mktemp("stack") / "home"), **soon)
    yield stack
    stack.process.terminate()
    stack.process.wait(60)
