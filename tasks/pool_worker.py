"""The worker half of the isolating pool: one process that runs one function on the items it is sent.

It is started as ``python -c`` with a socket's number, so that it imports this module, the function's own
module and nothing else. A function that does not end is stopped by the kernel: before each item two timers
are armed whose signals have their default action, which is death. So neither a loop that holds the
interpreter's lock nor a parent that was killed leaves a process behind.
"""

from __future__ import annotations

import gc
import pickle
import resource
import signal
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

CLOCK_FACTOR = 4
"""An item may take this many times its processor seconds on the clock: a loaded machine is no fault of it."""


def serve(handle: int) -> None:
    """Run until the parent closes the socket.

    First message: (function, timeout in processor seconds, address-space bound in bytes or 0); answered by
    None. Then lists of (index, item), each item answered by (index, value, None) or
    (index, None, (reason, detail)), in order.
    """
    connection = Connection(handle)
    function, timeout_s, memory_bytes = connection.recv()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    connection.send(None)
    gc.freeze()
    inbox = Inbox(connection)
    while (entry := inbox.next()) is not None:
        index, item = entry
        reply = answer(function, index, item, timeout_s)
        try:
            connection.send(reply)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            connection.send((index, None, ("raised", f"its value cannot be sent: {error}"[:500])))


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
    """Items that have arrived; a thread takes them off the socket, so that the parent never waits to send."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._entries: deque[tuple[int, Any] | None] = deque()
        self._arrived = threading.Semaphore(0)
        threading.Thread(target=self._fill, daemon=True).start()

    def next(self) -> tuple[int, Any] | None:
        """The next (index, item), or None once the parent has closed the socket."""
        self._arrived.acquire()
        return self._entries.popleft()

    def _fill(self) -> None:
        while True:
            try:
                entries = self._connection.recv()
            except (EOFError, OSError):
                entries = [None]
            for entry in entries:
                self._entries.append(entry)
                self._arrived.release()
            if entries[-1:] == [None]:
                return
