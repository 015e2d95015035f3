"""The worker half of the isolating pool: one process that runs a function on the items it is sent.

It is started as ``python -c`` with a socket's number, so that it imports this module, the functions' own
modules and nothing else. A function that does not end is stopped by the kernel: before each item two timers
are armed whose signals have their default action, which is death. So neither a loop that holds the
interpreter's lock nor a parent that was killed leaves a process behind.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import resource
import signal
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from storage.memory import give_back

CLOCK_FACTOR = 4
"""An item may take this many times its processor seconds on the clock: a loaded machine is no fault of it."""
REST_SECONDS = 20.0
"""A worker that nobody wants for so long ends: the stages that follow each other closely are served."""


def serve(handle: int) -> None:
    """Run until the parent closes the socket, or has no job for :data:`REST_SECONDS`.

    A job is a message (function, timeout in processor seconds, address-space bound in bytes or 0), answered
    by None. Then come lists of (index, item), each item answered by (index, value, None) or
    (index, None, (reason, detail)), in order; and None where the job has ended.
    """
    connection = Connection(handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    inbox = Inbox(connection)
    with contextlib.suppress(EOFError, TimeoutError):
        while True:
            _work(inbox.next(REST_SECONDS), connection, inbox)
            gc.collect()
            give_back()


def _work(job: tuple[Callable[[Any], Any], float, int], connection: Connection, inbox: Inbox) -> None:
    """Do one job to its end; nothing of it is left but what was imported for it."""
    function, timeout_s, memory_bytes = job
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [bound for bound in (memory_bytes, most) if bound > 0]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds, default=resource.RLIM_INFINITY), most))
    try:
        connection.send(None)
        gc.freeze()
        while (entries := inbox.next()) is not None:
            for index, item in entries:
                reply = answer(function, index, item, timeout_s)
                try:
                    connection.send(reply)
                except (pickle.PicklingError, TypeError, AttributeError) as error:
                    detail = f"its value cannot be sent: {error}"[:500]
                    connection.send((index, None, ("raised", detail)))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def answer(
    function: Callable[[Any], Any], index: int, item: Any, timeout_s: float
) -> tuple[int, Any, tuple[str, str] | None]:
    """The function's value for one item, or the reason why there is none.

    An exception that carries a ``reason`` of its own is counted under it; any other as ``raised``.
    """
    signal.setitimer(signal.ITIMER_PROF, timeout_s)
    signal.setitimer(signal.ITIMER_REAL, timeout_s * CLOCK_FACTOR)
    try:
        return index, function(item), None
    except MemoryError:
        return index, None, ("out_of_memory", f"{getattr(function, '__name__', function)} ran out of memory")
    except Exception as error:
        reason = getattr(error, "reason", "")
        if isinstance(reason, str) and reason:
            return index, None, (reason, str(getattr(error, "detail", error))[:500])
        return index, None, ("raised", f"{type(error).__name__}: {error}"[:500])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


class Inbox:
    """What has arrived; a thread takes it off the socket, so that the parent never waits to send."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: deque[bytes | None] = deque()
        self._arrived = threading.Semaphore(0)
        threading.Thread(target=self._fill, daemon=True).start()

    def next(self, timeout_s: float | None = None) -> Any:
        """The next message; EOFError once the parent has closed the socket, TimeoutError where none comes."""
        if not self._arrived.acquire(timeout=timeout_s):
            raise TimeoutError
        message = self._messages.popleft()
        if message is None:
            raise EOFError
        return pickle.loads(message)

    def _fill(self) -> None:
        message: bytes | None = b""
        while message is not None:
            try:
                message = self._connection.recv_bytes()
            except (EOFError, OSError, MemoryError):
                message = None
            self._messages.append(message)
            self._arrived.release()
