"""The isolating pool's worker processes: started where none is at rest, kept for what comes next, and shared.

They are forked from a server that has their imports: see :mod:`tasks.pool_fork_server`.

A worker whose map has ended well is kept at rest and gets the next map's function, whichever that is: what
it has loaded on the way is loaded. Never one that died, ran out of memory or was left in the middle of
something, nor one from before the module path, the folder or the environment changed. Those that are kept are
bounded in number, in size and in time, end with this process however it ends (their socket closes), and are
left alone by a child forked from it.

Maps that run side by side share as many workers as there are processors. Each hires one of its own, and
borrows more while there are some to spare; borrowed ones go back when another map waits for its own.
Who knows that work is coming has them started beforehand (:func:`start_workers`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from storage.memory import resident_bytes
from tasks.pool_fork_server import ForkServer
from tasks.processors import processors

START_SECONDS = 120.0
"""A worker that is not ready by then is taken for broken; importing on a loaded machine takes seconds."""
MOST_BYTES = 512 * 2**20
"""Resident size up to which a worker is kept."""
LENDING_SECONDS = 0.05
"""A worker is lent when it has rested for so long: a part that goes on to its next stage finds its own."""
WAITING_SECONDS = 2.0
"""A map waits so long for a borrowed worker to come back: whoever has it may be busy with other things."""


class PoolError(RuntimeError):
    """The workers cannot run at all (the function's module does not import, say): no item is to blame."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do with the items that it is sent; see :func:`tasks.pool.map_isolated`."""

    function: Callable[[Any], Any]
    timeout_s: float
    memory_bytes: int


NOTHING_YET = Job(id, START_SECONDS, 0)
"""Of a worker that is started before there is work: it only says that it is ready."""


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A process that serves jobs, and the socket to it."""

    server: ForkServer
    """What forks it."""
    connection: Connection
    status: Connection
    """Where its process number comes from, and its exit code."""
    surroundings: tuple[object, ...]
    """What of this process it was started with, and would not see a change of."""
    pid: int = 0
    """0 until it is ready."""
    rested_at: float = 0.0

    def is_ready(self) -> bool:
        """Wait until it has loaded the job that it was sent; false where that takes too long.

        Raises EOFError where it has ended, or does not start.
        """
        in_time = self._forked(START_SECONDS) and self.connection.poll(START_SECONDS)
        return in_time and self.connection.recv() is None

    def end(self) -> int:
        """Kill it, if it is alive; its exit code. It holds nothing that could be damaged."""
        with contextlib.suppress(EOFError, ProcessLookupError):
            if not self._forked(0):
                self.server.end()  # it is at an import that makes no end
            elif not self.status.poll():
                os.kill(self.pid, signal.SIGKILL)
        return self.leave()

    def leave(self) -> int:
        """Wait for one that has closed its socket, or was killed, to be gone; its exit code.

        Where that cannot be known, as the server was killed, it counts as killed too.
        """
        self.connection.close()
        with _staff.changed:
            _staff.working.pop(self, None)
        with self.status, contextlib.suppress(EOFError):
            self._forked(None)
            return int(self.status.recv())
        return -signal.SIGKILL

    def _forked(self, timeout_s: float | None) -> bool:
        """Wait for its process number; false where that takes too long. Raises EOFError where none comes."""
        if not self.pid and self.status.poll(timeout_s):
            self.pid = self.status.recv()
        return self.pid > 0


@dataclass(slots=True)
class _Staff:
    """All workers of this process. ``changed`` guards the lists, and tells of a worker that comes to rest."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    resting: list[WorkerProcess] = field(default_factory=list)
    working: dict[WorkerProcess, bool] = field(default_factory=dict)
    """Those that a map has, and whether it gives them back when asked: what it borrowed, what it starts."""
    called: int = 0
    """Those about to be started."""
    waiting: int = 0
    """Maps without a worker of their own while others have borrowed ones."""
    none_before: float = 0.0
    """Until then no further worker is started: the last one could not be made ready."""
    server: ForkServer | None = None
    """The one that workers of these surroundings come from."""
    surroundings: tuple[object, ...] = ()
    former: list[ForkServer] = field(default_factory=list)
    """Servers of other surroundings, which go with their last workers."""

    def full(self, most: int) -> bool:
        """Whether there are as many as can work at the same time, or as one map wants."""
        return len(self.working) + len(self.resting) + self.called >= max(most, processors())


_staff = _Staff()


def hire(job: Job) -> WorkerProcess:
    """A map's own worker, ready for the job's items: at rest, given back by another map, or a new one.

    Raises PoolError where none can be made ready.
    """
    while (rested := _take(time.monotonic()) or _returned()) is not None:
        if not _made_ready(rested, job):
            return rested  # else it had ended of itself, or cannot load the function: then nor can a new one
    worker = _start(job)
    if why := _made_ready(worker, job):
        raise PoolError(f"a worker {why}")
    return worker


def borrow(job: Job, most: int) -> WorkerProcess | None:
    """A further worker for a map that wants ``most``, if there is one to spare; it does not wait for one.

    Where there are fewer workers than processors, one more is started beside; a later call finds it at rest.
    """
    if _staff.waiting:
        return None
    if (rested := _take(time.monotonic() - LENDING_SECONDS, borrowed=True)) is not None:
        return None if _made_ready(rested, job) else rested
    _call(job, most)
    return None


def start_workers(*modules: str) -> None:
    """Start workers beside, as many as there are processors; they import the modules and come to rest."""
    for _ in range(processors()):
        _call(NOTHING_YET, processors(), modules)


def _call(job: Job, most: int, modules: Sequence[str] = ()) -> None:
    """Start a worker beside for whoever borrows it first, unless there are enough."""
    if _count_called(most):
        threading.Thread(target=_recruit, args=(job, modules), daemon=True).start()


def _count_called(most: int) -> bool:
    """Whether there is room for one more worker; it is then counted as about to be started."""
    with _staff.changed:
        if _staff.full(most) or time.monotonic() < _staff.none_before:
            return False
        _staff.called += 1
        return True


def own(worker: WorkerProcess) -> None:
    """A map keeps as its own what it had borrowed."""
    with _staff.changed:
        _staff.working[worker] = False


def wanted() -> bool:
    """Whether a borrowed worker is to be given back: another map has none."""
    return _staff.waiting > 0


def rest(worker: WorkerProcess) -> None:
    """Keep a worker that has answered every item for another job, within the bounds; else end it."""
    with contextlib.suppress(OSError):
        if resident_bytes(worker.pid) <= MOST_BYTES:
            worker.connection.send(None)
            with _staff.changed:
                if len(_staff.resting) < processors():
                    worker.rested_at = time.monotonic()
                    _staff.working.pop(worker, None)
                    _staff.resting.append(worker)
                    _staff.changed.notify()
                    return
    worker.end()


def dismiss() -> None:
    """End every worker at rest, and the server where no other is left."""
    with _staff.changed:
        leaving = _staff.resting[:]
        _staff.resting.clear()
        _close_server()
    for worker in leaving:
        worker.end()
    if not _staff.working:
        for server in _staff.former:
            server.wait()


def _take(rested_by: float, *, borrowed: bool = False) -> WorkerProcess | None:
    """A worker at rest since then or before that sees what this process sees; those that do not are ended."""
    with _staff.changed:
        if not any(worker.rested_at <= rested_by for worker in _staff.resting):
            return None
        now = _surroundings()
        stale = [worker for worker in _staff.resting if worker.surroundings != now]
        for worker in stale:
            _staff.resting.remove(worker)
        ready = [worker for worker in _staff.resting if worker.rested_at <= rested_by]
        found = ready[-1] if ready else None
        if found is not None:
            _staff.resting.remove(found)
            _staff.working[found] = borrowed
    for worker in stale:
        worker.end()
    return found


def _returned() -> WorkerProcess | None:
    """A worker that another map gives back, or that is being started; None where none can come, or does."""
    with _staff.changed:
        if not _staff.full(1) or not (_staff.called or any(_staff.working.values())):
            return None
        _staff.waiting += 1
        try:
            _staff.changed.wait_for(lambda: _staff.resting, WAITING_SECONDS)
        finally:
            _staff.waiting -= 1
    return _take(time.monotonic())


def _recruit(job: Job, modules: Sequence[str]) -> None:
    """Start a worker, which comes to rest once it is ready."""
    worker = _start(job, modules, called=True)
    if _made_ready(worker, job):
        with _staff.changed:
            _staff.none_before = time.monotonic() + START_SECONDS
    else:
        rest(worker)
        worker.rested_at = 0.0  # nobody is about to come back for it


def _made_ready(worker: WorkerProcess, job: Job) -> str:
    """Give a worker its job; empty once it is ready, else what went wrong, and it is ended."""
    try:
        worker.connection.send((job.function, job.timeout_s, job.memory_bytes))
        if worker.is_ready():
            return ""
        why = f"was not ready after {START_SECONDS:g} s"
    except (EOFError, OSError):
        return f"could not load {job.function!r} (exit {worker.leave()}); its traceback is on stderr"
    except BaseException:
        worker.end()
        raise
    worker.end()
    return why


def _surroundings() -> tuple[object, ...]:
    return os.getcwd(), tuple(sys.path), dict(os.environ)  # noqa: PTH109 (a string is compared)


def _start(job: Job, modules: Sequence[str] = (), *, called: bool = False) -> WorkerProcess:
    """Ask for a worker with these modules and the job's; it is not ready yet."""
    modules = (*modules, _module(job))
    with _staff.changed:
        _staff.called -= called
        surroundings = _surroundings()
        server = _server(surroundings)
        try:
            pipes = server.fork(modules)
        except ConnectionError:  # it was killed, or nobody has wanted a worker for long
            _close_server()
            server = _server(surroundings)
            pipes = server.fork(modules)
        worker = WorkerProcess(server, *pipes, surroundings)
        _staff.working[worker] = called
    return worker


def _server(surroundings: tuple[object, ...]) -> ForkServer:
    """The server for workers of these surroundings; called with the lock held."""
    if _staff.server is not None and _staff.surroundings != surroundings:
        _close_server()
    if _staff.server is None:
        _staff.server, _staff.surroundings = ForkServer(), surroundings
    return _staff.server


def _close_server() -> None:
    """Let the server go when its workers have; called with the lock held."""
    _staff.former = [server for server in _staff.former if not server.gone()]
    if _staff.server is not None:
        _staff.server.close()
        _staff.former.append(_staff.server)
        _staff.server = None


def _module(job: Job) -> str:
    function = job.function.func if isinstance(job.function, partial) else job.function
    return str(function.__module__)


def _forget() -> None:
    """In a forked child: the workers are its parent's; only their sockets' copies are closed."""
    global _staff  # noqa: PLW0603
    for worker in _staff.resting:
        worker.connection.close()
        worker.status.close()
    for server in (*_staff.former, *filter(None, [_staff.server])):
        server.disown()
    _staff = _Staff()  # a thread that held the old one's lock was not forked


atexit.register(dismiss)
os.register_at_fork(after_in_child=_forget)
