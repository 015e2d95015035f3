"""Which failures can succeed next time, and which never will."""

from __future__ import annotations

import errno
from collections.abc import Iterator

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
TRANSIENT_NAMES = frozenset(
    {
        "ConnectError", "ConnectTimeout", "PoolTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError",
        "WriteError", "WriteTimeout",  # httpx
        "GenericError",  # obstore
    }
)  # fmt: skip
TRANSIENT_ERRNOS = frozenset(
    {errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EPIPE, errno.EAGAIN}
)


def is_transient(error: BaseException) -> bool:
    """Whether an error, or what caused it, is of the kind that goes away: the network, a busy server.

    A wrong value, a missing file or a bug is not retried: it would only fail again, later.
    """
    return any(_transient(link) for link in _chain(error))


def _transient(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in TRANSIENT_NAMES:
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS:
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in TRANSIENT_STATUSES


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
