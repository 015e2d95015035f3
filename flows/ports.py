"""Whose port it is: a taken port is refused with its owner's name, before anything is started."""

from __future__ import annotations

import errno
import socket

import psutil

from flows.stack_errors import PortTakenError, StackError

ANY = ("0.0.0.0", "::", "")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def require_free(host: str, port: int, option: str) -> None:
    """Raise PortTakenError, naming the owner, where ``host:port`` cannot be listened on.

    ``option`` is the command-line option that chooses another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _refusal(error, host, port, option) from None


def _refusal(error: OSError, host: str, port: int, option: str) -> StackError:
    if error.errno == errno.EADDRINUSE:
        holder = owner(port)
        return PortTakenError(
            f"Port {port} is taken by {holder}. Stop that, or choose another with {option}."
        )
    if error.errno == errno.EACCES:
        return PortTakenError(f"Port {port} needs rights that you lack. Choose one over 1024 with {option}.")
    return StackError(
        f"Cannot listen on {host}:{port}: {error.strerror}. Is --host an address of this machine?"
    )


def owner(port: int) -> str:
    """The program that listens on a TCP port, as people know it: name, process id, command line, user."""
    pid = _listener(port)
    if pid is None:
        return "another program (of another user, or in another container)"
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            command = " ".join(process.cmdline())
            words = f"{process.name()} (process {pid}, user {process.username()}"
    except psutil.Error:
        return f"process {pid}"
    return f"{words}: {command[:120]})"


def _listener(port: int) -> int | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS shows other users' sockets to root alone
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return connection.pid
    return None


def reachable_name(host: str) -> str:
    """The name under which a browser finds a server that listens on ``host``."""
    return socket.getfqdn() if host in ANY else host


def local_name(host: str) -> str:
    """The address under which this machine itself finds a server that listens on ``host``."""
    if host in ANY:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
