"""The isolating pool's fork server: a process that imports what workers need, and forks into workers.

An interpreter, its imports and the tables of Unicode take half a second of a processor and tens of megabytes;
a forked worker has them in some milliseconds, and shares their memory with the others. The server has one
thread and runs nothing but imports, so that it can be forked at any time; the process that wants the workers
could not: it has threads.

A request is one message on a socket: names of modules to import first, and with it two handles, which the new
worker's socket and its status pipe arrive as. The server writes the worker's process number to the pipe, and
its exit code once it has ended. It goes when its socket is closed, or nobody has wanted anything for
:data:`~tasks.pool_worker.REST_SECONDS`, but not before its last worker.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NoReturn

from tasks import pool_worker
from tasks.pool_worker import REST_SECONDS

MOST_BYTES = 2**16
"""Of a request."""
PROGRAM = "import sys; sys.path[:] = {path!r}\nimport tasks.pool_fork_server as s; s.serve({handle})"
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Unless the environment says otherwise: what one thread takes another gives back, and a worker has one
processor; a server with OpenBLAS's threads should not be forked either."""


class ForkServer:
    """The server of workers that start in this process's folder, with its module path and environment."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(path=sys.path, handle=theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**ENVIRONMENT, **os.environ},
                stdin=subprocess.DEVNULL,
            )

    def fork(self, modules: Iterable[str]) -> tuple[Connection, Connection]:
        """Ask for a worker: its socket, and the status pipe that brings its process number and exit code.

        Returns at once; both end where no worker comes of it. Raises ConnectionError where no server is left.
        """
        ours, workers = socket.socketpair()
        status, servers = Pipe(duplex=False)
        with workers, servers:
            try:
                handles = [workers.fileno(), servers.fileno()]
                socket.send_fds(self._control, [" ".join(modules).encode() + b"\n"], handles)
            except ConnectionError:
                ours.close()
                status.close()
                raise
        return Connection(ours.detach()), status

    def close(self) -> None:
        """Let it go when its last worker has; does not wait for it."""
        self._control.close()

    def gone(self) -> bool:
        """Whether it has gone, after :meth:`close`."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait until it has gone, after :meth:`close`: its workers' processor time is then counted here."""
        self._process.wait()

    def end(self) -> None:
        """Kill it; its workers go on, but what becomes of them is not told any more."""
        self._process.kill()

    def disown(self) -> None:
        """In a forked child: the server is its parent's; only the copy of its socket is closed."""
        self._control.close()
        self._process.returncode = 0  # not this process's child: nothing to wait for


def serve(handle: int) -> None:
    """Fork workers as they are asked for, until the socket with this handle is closed and all have ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    gc.disable()  # a collection would touch, and so copy, what a worker shares
    _Server(socket.socket(fileno=handle)).run()


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, Connection] = {}
        """Process numbers, and the pipes that say what became of them."""
        self._ended, wake = socket.socketpair()
        self._ended.setblocking(False)
        wake.setblocking(False)
        self._wake = wake  # else it would be closed
        signal.signal(signal.SIGCHLD, lambda *_: None)  # one that is ignored wakes nobody
        signal.set_wakeup_fd(wake.fileno())
        self._events = selectors.DefaultSelector()
        self._events.register(control, selectors.EVENT_READ)
        self._events.register(self._ended, selectors.EVENT_READ)

    def run(self) -> None:
        """Answer requests and tell of workers that have ended, until neither can come any more."""
        reachable = True
        while reachable or self._children:
            ready = [key.fileobj for key, _ in self._events.select(None if self._children else REST_SECONDS)]
            if not ready:
                # What was asked for before this is still read; who asks after it is told that nobody is here.
                self._control.shutdown(socket.SHUT_RD)
            if self._ended in ready:
                self._reap()
            if self._control in ready and not self._answer():
                self._events.unregister(self._control)
                reachable = False

    def _answer(self) -> bool:
        """Fork one worker; false once nobody can ask for any more.

        Requests do not run together: handles that come with a message end what is read at once.
        """
        request, handles, _, _ = socket.recv_fds(self._control, MOST_BYTES, 2)
        if not request:
            return False
        for module in request.decode().split():
            with contextlib.suppress(Exception):  # who needs it says what is wrong
                importlib.import_module(module)
        if len(handles) == 2:
            self._fork(*handles)
        else:  # too many files are open here; that these are closed tells the one who asks
            for handle in handles:
                os.close(handle)
        return True

    def _fork(self, worker: int, status: int) -> None:
        pipe = Connection(status, readable=False)
        gc.freeze()
        try:
            pid = os.fork()
        except OSError:  # no memory, or too many processes: likewise
            os.close(worker)
            pipe.close()
            return
        if pid == 0:
            pipe.close()
            self._become_worker(worker)
        os.close(worker)
        self._children[pid] = pipe
        _tell(pipe, pid)

    def _become_worker(self, handle: int) -> NoReturn:
        """In the forked child: let go of what is the server's, and work until nobody wants it any more."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self._events, self._control, self._ended, self._wake, *self._children.values()):
                each.close()  # type: ignore[attr-defined]
            gc.enable()
            pool_worker.serve(handle)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tell of every worker that has ended."""
        with contextlib.suppress(BlockingIOError):
            self._ended.recv(MOST_BYTES)
        while self._children:
            pid, state = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._children.pop(pid) as pipe:
                _tell(pipe, os.waitstatus_to_exitcode(state))


def _tell(pipe: Connection, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        pipe.send(number)
