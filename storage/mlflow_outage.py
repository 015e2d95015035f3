"""An MLflow that does not answer, told as what it is: no missing model, no bug, but a server to start again.

MLflow's client raises the same exception for a server that is gone as for everything else, and says more only
in what caused it. Whoever is told so can try again: a stage's retries do.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from storage.errors import StorageError, chain_of
from storage.home import without_password

BUSY_CODES = frozenset({"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"})
"""MLflow's codes for a database that is locked or gone, and for too many requests."""
BUSY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
NETWORK = frozenset(
    {"ConnectionError", "ConnectTimeout", "ReadTimeout", "RetryError", "ChunkedEncodingError"}
)
"""Of the library requests, which is not imported for their sake."""
DATABASE = frozenset({"OperationalError", "InterfaceError"})
"""Of sqlalchemy, for a database that cannot be reached or does not do its work."""

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
"""Where an address names no port: of MLflow's servers, and of databases in a server's place."""


class MlflowUnreachableError(StorageError, ConnectionError):
    """MLflow did not answer, or its database did not; the message says where, why and what to do."""


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Have whatever shows in the block that MLflow at ``uri`` is away raised as MlflowUnreachableError."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        causes = list(chain_of(error))
        if not any(map(_is_outage, causes)):
            raise
        raise MlflowUnreachableError(
            f"MLflow at {without_password(uri)} does not answer: {first_line(causes[-1])}. Start it again "
            f"(`modelmill status` tells how this machine's is) and run again: what is finished is kept."
        ) from error


def why_away(uri: str, timeout_s: float = 5.0) -> str:
    """Why nothing listens where MLflow should be; empty where something does, or that cannot be told.

    Only a connection is tried: what a login or a certificate needs is MLflow's client's to know. Files have
    no server, and what is behind a proxy is not asked.
    """
    try:
        parts = urlsplit(uri)
        scheme, host = parts.scheme.partition("+")[0], parts.hostname or ""
        port = parts.port or PORTS.get(scheme, 0)
    except ValueError:
        return ""  # no address, which MLflow's client tells
    proxied = scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
    if not host or not port or proxied:
        return ""
    try:
        with socket.create_connection((host, port), timeout_s):
            return ""
    except OSError as error:
        return first_line(error)


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    library, name = type(error).__module__.partition(".")[0], type(error).__name__
    if (library == "requests" and name in NETWORK) or (library == "sqlalchemy" and name in DATABASE):
        return True
    if getattr(error, "error_code", None) in BUSY_CODES:
        return True
    return getattr(getattr(error, "response", None), "status_code", None) in BUSY_STATUSES


def first_line(error: BaseException) -> str:
    """What an error says first, without a password."""
    lines = without_password(str(error)).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
