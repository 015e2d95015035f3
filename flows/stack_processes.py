"""Processes that do not outlive the stack: started, watched, stopped, and found again by their mark.

Three nets, one under the other: a child is told to stop when its parent dies (PR_SET_PDEATHSIG), a child's
orphans become the stack's own children (PR_SET_CHILD_SUBREAPER), and every process of a stack carries the
stack's mark in its environment, by which ``down`` and the next ``up`` find what is left after a kill -9.
Where there is no prctl (macOS), the mark alone does it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

MARK = "MODELMILL_STACK"
"""Environment variable that every process of a stack carries."""
LOG_BYTES = 20_000_000
"""A log file over this size is moved aside (one such copy is kept)."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Service:
    """A process that the stack keeps running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    """Whether it answers now."""
    directory: Path


@dataclass
class Child:
    """A running (or ended) service."""

    service: Service
    process: subprocess.Popen[bytes]
    created: float
    """Start time in seconds since the epoch: with the process id it names a process for good."""
    ends: list[float] = field(default_factory=list)
    """Monotonic times of earlier ends."""
    last_end: str = ""

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None


def start(service: Service) -> Child:
    """Start a service in a session of its own, its output going to its log."""
    trim_log(service.log)
    with service.log.open("ab") as log:
        stamp = f"\n--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: starting {service.name}\n"
        log.write(stamp.encode())
        log.flush()
        process = subprocess.Popen(
            list(service.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(service.environment),
            cwd=service.directory,
            start_new_session=True,  # a terminal's Ctrl-C reaches the stack alone
            preexec_fn=_in_child,  # noqa: PLW1509 (the stack has one thread)
        )
    return Child(service, process, created_at(process.pid) or time.time())


def _in_child() -> None:
    # A shell's background job ignores SIGINT, and so would its children: the worker stops by it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies (Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(own: Iterable[subprocess.Popen[bytes]]) -> None:
    """Collect the exit of adopted processes, so that they do not stay as zombies."""
    mine = {process.pid for process in own}
    with suppress(psutil.Error):
        for child in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if child.pid not in mine and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)


def end_of(process: subprocess.Popen[bytes]) -> str:
    """How an ended process ended, for people."""
    status = process.returncode
    if status is not None and status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def created_at(pid: int) -> float | None:
    """A living process's start time, or None where there is none (a zombie does not live)."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_alive(pid: int, created: float) -> bool:
    """Whether the very process that was started then still runs, and not another with its number."""
    found = created_at(pid)
    return found is not None and abs(found - created) < 2.0


def marked(mark: str) -> Iterator[psutil.Process]:
    """Every living process, but this one, that carries a stack's mark."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            lives = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if lives and process.environ().get(MARK) == mark:
                yield process


def flow_runs(mark: str) -> list[psutil.Process]:
    """The processes of a stack that each execute one flow run."""
    return [process for process in marked(mark) if "prefect.engine" in _command(process)]


def flow_run_ids(mark: str) -> set[str]:
    """Prefect's ids of the runs whose processes live."""
    ids = set()
    for process in flow_runs(mark):
        with suppress(psutil.Error):
            ids.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
    return ids


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def ask_to_stop(processes: Iterable[psutil.Process]) -> None:
    """SIGTERM to each that still lives."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()


def end_orphans(own: Iterable[subprocess.Popen[bytes]]) -> None:
    """SIGKILL to adopted processes, whose service is gone, and what is below them; flow runs go on."""
    mine = {process.pid for process in own}
    with suppress(psutil.Error):
        for orphan in psutil.Process().children():
            if orphan.pid in mine or "prefect.engine" in _command(orphan):
                continue
            with suppress(psutil.Error):
                for process in (*orphan.children(recursive=True), orphan):
                    process.kill()


def kill_marked(mark: str, wait_s: float = 10.0) -> int:
    """SIGKILL whatever carries the mark until nothing does; gives how many there were."""
    killed: set[int] = set()
    deadline = time.monotonic() + wait_s
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
                killed.add(process.pid)
        psutil.wait_procs(left, timeout=1.0)
    return len(killed)


def trim_log(path: Path) -> None:
    """Move a log that has grown too large aside; what appends to it goes on at its beginning."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            older = path.with_suffix(path.suffix + ".1")
            older.write_bytes(path.read_bytes())
            os.truncate(path, 0)


def last_lines(path: Path, count: int = 8) -> str:
    """The end of a log, for an error message."""
    try:
        text = path.read_bytes()[-8000:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line for line in text.splitlines()[-count:] if line.strip())
