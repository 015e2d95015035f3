"""An ordered process pool in which a crash or an endless loop costs one item, not the run.

The standard pools break as a whole when a worker dies (``BrokenProcessPool``) or wait for it for ever. Here
each worker is a process of its own behind a socket; when one dies, the item it was at is known, another
worker takes over the rest, and everything comes out in the order it went in.

A crashed item is tried once more in another worker, and one whose worker was killed from outside (by hand,
for memory) four times more, so that this changes nothing in the result; an item that goes on killing its
workers is given up. An item that used up its processor seconds is given up at once: that does not depend on
how busy the machine is.

Workers that have come to the end of a map well serve the next one: see :mod:`tasks.pool_processes`.
"""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Generic, TypeVar

from tasks.pool_processes import Job, PoolError, WorkerProcess, borrow, hire, own, rest, wanted

__all__ = ["Failure", "Outcome", "PoolError", "map_isolated"]

T = TypeVar("T")
R = TypeVar("R")

CHUNKS_AHEAD = 2
"""Chunks a worker holds: one at work, one waiting, so that it never idles while the consumer is busy."""
WINDOW = 8
"""Chunks a worker may be ahead of the oldest unfinished item, so that memory stays bounded."""
ATTEMPTS = 2
"""Tries for an item at which a worker crashes."""
KILLED_ATTEMPTS = 5
"""Tries where it was killed with SIGKILL: that comes from outside, not from the item, unless for memory."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no value."""

    reason: str
    """``crashed``, ``timed_out``, ``out_of_memory``, ``raised``, or the ``reason`` its exception carried."""
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """What became of one item: a value, or a failure."""

    index: int
    item: T
    value: R | None
    error: Failure | None


def map_isolated(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int = 1,
    timeout_s: float = 20.0,
    chunk: int = 8,
    memory_bytes: int = 0,
) -> Iterator[Outcome[T, R]]:
    """Apply a function to each item in worker processes; outcomes come in the order of the items.

    Args:
        function: importable by name (or a ``functools.partial`` of such); it and the items are pickled.
        items: taken lazily, a bounded number ahead of the consumer.
        workers: processes at most, at least 1; also 1 isolates. Maps that run side by side share as many as
            there are processors (or as one of them asks for, if that is more); each has at least one.
        timeout_s: processor seconds an item may take, and four times as many on the clock.
        chunk: items sent to a worker at a time.
        memory_bytes: bound on a worker's address space; 0 for none.

    Raises:
        ValueError: workers, chunk or timeout_s is not positive.
        PoolError: a worker cannot start.
    """
    if workers < 1 or chunk < 1 or timeout_s <= 0:
        raise ValueError(f"workers={workers}, chunk={chunk}, timeout_s={timeout_s}: each must be positive")
    pool: _Pool[T, R] = _Pool(Job(function, timeout_s, memory_bytes), iter(items), workers, chunk)
    try:
        yield from pool.run()
    finally:
        pool.close()


@dataclass
class _Task(Generic[T]):
    index: int
    item: T
    crashes: int = 0


@dataclass
class _Worker(Generic[T]):
    process: WorkerProcess
    held: deque[_Task[T]] = field(default_factory=deque)
    sound: bool = True
    """Whether nothing happened in it that could tell on the next item."""
    leaving: bool = False
    """Whether it gets no more items, and goes when it is done with those it holds."""


class _Pool(Generic[T, R]):
    def __init__(self, job: Job, items: Iterator[T], count: int, chunk: int) -> None:
        self._job = job
        self._items = items
        self._count = count
        self._chunk = chunk
        self._workers: list[_Worker[T]] = []
        self._waiting: deque[_Task[T]] = deque()
        self._done: dict[int, Outcome[T, R]] = {}
        self._taken = 0
        self._next = 0
        self._exhausted = False

    def run(self) -> Iterator[Outcome[T, R]]:
        """Outcomes in the order of the items, as soon as each may come."""
        while True:
            self._feed()
            while self._next in self._done:
                yield self._done.pop(self._next)
                self._next += 1
                self._feed()
            if not any(worker.held for worker in self._workers):
                return
            self._collect()

    def close(self) -> None:
        """Let the workers rest that are done; end those that are in the middle of something."""
        for worker in self._workers:
            self._release(worker)
        self._workers.clear()

    def _feed(self) -> None:
        """Give every worker with room a chunk; get workers only while items wait for one."""
        self._give_back()
        for worker in self._workers:
            if not worker.leaving:
                self._fill(worker)
        if not self._workers and self._items_wait():
            self._engage(hire(self._job))
        while (
            len(self._workers) < self._count
            and self._items_wait()
            and (borrowed := borrow(self._job, self._count)) is not None
        ):
            self._engage(borrowed)

    def _engage(self, process: WorkerProcess) -> None:
        self._workers.append(_Worker(process))
        self._fill(self._workers[-1])

    def _fill(self, worker: _Worker[T]) -> None:
        while len(worker.held) <= self._chunk * (CHUNKS_AHEAD - 1) and self._items_wait():
            self._send(worker, [self._waiting.popleft() for _ in range(min(self._chunk, len(self._waiting)))])

    def _give_back(self) -> None:
        """Where another map has no worker, let the last borrowed one finish what it holds and go."""
        last = self._workers[-1] if len(self._workers) > 1 else None
        if last is not None and (last.leaving or wanted()):
            last.leaving = True
            if not last.held:
                self._workers.pop()
                self._release(last)

    def _release(self, worker: _Worker[T]) -> None:
        if worker.held or not worker.sound:
            worker.process.end()
        else:
            rest(worker.process)

    def _items_wait(self) -> bool:
        """Whether there is an item that no worker has; takes a chunk of items where none waits."""
        bound = self._next + WINDOW * self._chunk * self._count
        while not self._exhausted and len(self._waiting) < self._chunk and self._taken < bound:
            try:
                self._waiting.append(_Task(self._taken, next(self._items)))
            except StopIteration:
                self._exhausted = True
                break
            self._taken += 1
        return bool(self._waiting)

    def _send(self, worker: _Worker[T], tasks: list[_Task[T]]) -> None:
        worker.held.extend(tasks)
        # Where it has died, _collect finds its end of file, with these tasks still held.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.process.connection.send([(task.index, task.item) for task in tasks])

    def _collect(self) -> None:
        busy = {worker.process.connection: worker for worker in self._workers if worker.held}
        for ready in wait(list(busy)) if len(busy) > 1 else list(busy):
            worker = busy[ready]  # type: ignore[index]
            try:
                _, value, error = worker.process.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            task = worker.held.popleft()
            worker.sound &= error is None or error[0] != "out_of_memory"
            self._settle(task, value, Failure(*error) if error else None)

    def _settle(self, task: _Task[T], value: R | None, error: Failure | None) -> None:
        self._done[task.index] = Outcome(task.index, task.item, value, error)

    def _bury(self, worker: _Worker[T]) -> None:
        """A worker died: its first held item is to blame, the others go to the next worker."""
        code = worker.process.leave()
        task = worker.held.popleft()
        task.crashes += 1
        if code == -signal.SIGPROF:
            self._settle(task, None, Failure("timed_out", f"over {self._job.timeout_s:g} processor seconds"))
        elif task.crashes >= (KILLED_ATTEMPTS if code == -signal.SIGKILL else ATTEMPTS):
            self._settle(task, None, _post_mortem(code))
        else:
            self._waiting.append(task)
        self._waiting.extend(worker.held)
        self._waiting = deque(sorted(self._waiting, key=lambda waiting: waiting.index))
        self._workers.remove(worker)
        if self._workers:
            own(self._workers[0].process)
            self._workers[0].leaving = False


def _post_mortem(code: int) -> Failure:
    if code == -signal.SIGALRM:
        return Failure("timed_out", "made no end, and used no processor time")
    if code < 0:
        return Failure("crashed", f"the worker died of {signal.Signals(-code).name}")
    return Failure("crashed", f"the worker left with exit code {code}")
