"""The isolating pool's worker processes: started where none is at rest, and kept for whatever comes next.

A start costs more than the cleaning of a hundred pages: an interpreter, its imports, the tables of Unicode.
So a worker whose map has ended well is kept at rest and gets the next map's function, whichever that is.
Never one that died, ran out of memory or was left in the middle of something, nor one from before the module
path, the folder or the environment changed. Those that are kept are bounded in number, in size and in time,
end with this process however it ends (their socket closes), and are left alone by a child forked from it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

START_SECONDS = 120.0
"""A worker that is not ready by then is taken for broken; importing on a loaded machine takes seconds."""
MOST_KEPT = os.cpu_count() or 1
"""Workers at rest at most: more cannot work at the same time."""
MOST_BYTES = 512 * 2**20
"""Resident size up to which a worker is kept."""
WORKER_PROGRAM = "import sys; sys.path[:] = {path!r}\nfrom tasks.pool_worker import serve\nserve({handle})"


class PoolError(RuntimeError):
    """The workers cannot run at all (the function's module does not import, say): no item is to blame."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do with the items that it is sent; see :func:`tasks.pool.map_isolated`."""

    function: Callable[[Any], Any]
    timeout_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process that serves jobs, and the socket to it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    surroundings: tuple[object, ...]
    """What of this process it was started with, and would not see a change of."""

    def end(self) -> int:
        """Kill it, if it is alive; its exit code. It holds nothing that could be damaged."""
        self.process.kill()
        self.connection.close()
        return self.process.wait()


_kept: list[WorkerProcess] = []
_lock = threading.Lock()


def hire(job: Job) -> WorkerProcess:
    """A worker that is ready for the job's items: one at rest if there is one, else a new one.

    Raises PoolError where none can be made ready.
    """
    while (rested := _take()) is not None:
        if not _why_unready(rested, job):
            return rested
        rested.end()  # it had ended of itself, or cannot load the function: then nor can a new one
    worker = _start()
    try:
        why = _why_unready(worker, job)
        if not why:
            return worker
    except BaseException:
        worker.end()
        raise
    worker.end()
    raise PoolError(f"a worker {why}")


def rest(worker: WorkerProcess) -> None:
    """Keep a worker that has answered every item for another job, within the bounds; else end it."""
    with contextlib.suppress(OSError):
        if _resident_bytes(worker.process.pid) <= MOST_BYTES:
            worker.connection.send(None)
            with _lock:
                if len(_kept) < MOST_KEPT:
                    _kept.append(worker)
                    return
    worker.end()


def dismiss() -> None:
    """End every worker at rest."""
    with _lock:
        leaving = _kept[:]
        _kept.clear()
    for worker in leaving:
        worker.end()


def _take() -> WorkerProcess | None:
    """A worker at rest that sees what this process sees; those that do not are ended."""
    now = _surroundings()
    with _lock:
        stale = [worker for worker in _kept if worker.surroundings != now]
        for worker in stale:
            _kept.remove(worker)
        found = _kept.pop() if _kept else None
    for worker in stale:
        worker.end()
    return found


def _surroundings() -> tuple[object, ...]:
    return os.getcwd(), tuple(sys.path), dict(os.environ)  # noqa: PTH109 (a string is compared)


def _start() -> WorkerProcess:
    ours, theirs = socket.socketpair()
    surroundings = _surroundings()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER_PROGRAM.format(path=sys.path, handle=theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={"MALLOC_ARENA_MAX": "1", **os.environ},  # what one thread takes, another gives back
            stdin=subprocess.DEVNULL,
        )
    return WorkerProcess(process, Connection(ours.detach()), surroundings)


def _why_unready(worker: WorkerProcess, job: Job) -> str:
    """Give a worker its job; empty once it is ready, else what went wrong."""
    try:
        worker.connection.send((job.function, job.timeout_s, job.memory_bytes))
        if not worker.connection.poll(START_SECONDS):
            return f"was not ready after {START_SECONDS:g} s"
        worker.connection.recv()
    except (EOFError, OSError):
        code = worker.process.wait()
        return f"could not load {job.function!r} (exit {code}); its traceback is on stderr"
    return ""


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from None


def _forget() -> None:
    """In a forked child: the workers are its parent's; only their sockets' copies are closed."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # a thread that held it was not forked
    for worker in _kept:
        worker.connection.close()
        worker.process.returncode = 0  # not this process's child: nothing to wait for
    _kept.clear()


atexit.register(dismiss)
os.register_at_fork(after_in_child=_forget)
