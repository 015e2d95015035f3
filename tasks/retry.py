"""Which failures can succeed next time, and which never will."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from storage.errors import chain_of

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun

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


def can_succeed_next_time(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether Prefect is to try a failed task again."""
    error = state.data if isinstance(state.data, BaseException) else None
    if error is None:
        try:
            state.result()
        except Exception as raised:
            error = raised
    return error is not None and is_transient(error)


def is_transient(error: BaseException) -> bool:
    """Whether an error, or what caused it, is of the kind that goes away: the network, a busy server.

    A wrong value, a missing file or a bug is not retried: it would only fail again, later.
    """
    return any(_transient(link) for link in chain_of(error))


def _transient(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in TRANSIENT_NAMES:
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS:
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in TRANSIENT_STATUSES
