"""A Prefect server of the run's own, where the user has none: it starts and ends with the run.

Prefect can start one by itself, but imports the whole server into the client first and only then waits for
the other process to import it again. Started here, before anything else is imported, it gets ready while
this process does its own imports, which saves a third of a run in which everything is cached.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from flows.prefect_database import starting_server
from storage.errors import DiskFullError
from storage.home import EMBEDDED, home

READY_S = 120.0
NEEDED = 2 * 2**20
"""Bytes of disk, about, for Prefect's database."""
LONGEST_LOG = 1_000_000
"""Bytes of the servers' log from which it begins anew."""
PR_SET_PDEATHSIG = 1


class PrefectStartError(RuntimeError):
    """The embedded Prefect server ended, or did not answer; the message names its log."""


class EmbeddedPrefect:
    """The server's process, and the wait until it answers."""

    def __init__(
        self, process: subprocess.Popen[bytes] | None, url: str, log: Path, starting: ExitStack
    ) -> None:
        self._process, self._url, self._log, self._starting = process, url, log, starting

    def wait(self) -> None:
        """Return when the server answers.

        Raises PrefectStartError where it ended or never does, DiskFullError where that is why.
        """
        with self._starting:
            self._answers()

    def _answers(self) -> None:
        deadline = time.monotonic() + READY_S
        while self._process is not None:
            try:
                with urllib.request.urlopen(f"{self._url}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                if shutil.disk_usage(home()).free < NEEDED:
                    raise DiskFullError(
                        f"No room left under {home()} while Prefect's server was started. Free some space "
                        f"and run again."
                    )
                raise PrefectStartError(f"The embedded Prefect server did not start; its log: {self._log}")
            time.sleep(0.05)


def embedded_prefect() -> EmbeddedPrefect:
    """Start a server unless ``PREFECT_API_URL`` names one; it stops when this process ends.

    Call it before Prefect is imported: the address goes into the environment, and what Prefect still has to
    send at the process's end is sent before the server stops (exit functions run last in, first out). Servers
    of one home start one after the other.
    """
    log, starting = home() / "logs" / "prefect.log", ExitStack()
    if url := os.environ.get("PREFECT_API_URL"):
        return EmbeddedPrefect(None, url, log, starting)
    starting.enter_context(starting_server())
    port = _free_port()
    process = _start(port, log)
    atexit.register(_stop, process)
    os.environ["PREFECT_API_URL"] = url = f"http://127.0.0.1:{port}/api"
    os.environ[EMBEDDED] = "1"
    return EmbeddedPrefect(process, url, log, starting)


def _start(port: int, log: Path) -> subprocess.Popen[bytes]:
    spec = find_spec("prefect")
    folder = Path(spec.origin).parents[1] if spec and spec.origin else Path()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder)]
    command += ["--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    own = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    short = log.exists() and log.stat().st_size < LONGEST_LOG
    with log.open("ab" if short else "wb") as output:  # another run's server may be writing to it
        return subprocess.Popen(
            command,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a terminal's Ctrl-C is for the run, which then stops its server
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads yet)
        )


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
