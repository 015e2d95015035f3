"""A Prefect server that does not answer, told as what it is, with what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flows.failures import explain_failure
from storage.errors import chain_of
from storage.home import EMBEDDED, home, without_password


class PrefectAwayError(ConnectionError):
    """Prefect's server did not answer, so that it does not know how a run went on; the message says more."""


@contextmanager
def answering() -> Iterator[None]:
    """Have whatever shows in the block that Prefect's server is away raised as PrefectAwayError.

    A failure that has another reason, which then could not be told to the server, stays what it is.
    """
    try:
        yield
    except Exception as error:
        cause = next((link for link in chain_of(error) if _asked_prefect(link)), None)
        if cause is None or explain_failure(error) is not None:
            raise
        api = without_password(os.environ["PREFECT_API_URL"])
        mend = "Start it again (`modelmill status` tells how this machine's is) and run again"
        if os.environ.get(EMBEDDED):
            mend = f"Its log is {home() / 'logs' / 'prefect.log'}. Run again, which starts another"
        raise PrefectAwayError(
            f"Prefect's server at {api} does not answer: {cause}. {mend}: what is finished is kept."
        ) from error


def _asked_prefect(error: BaseException) -> bool:
    """Whether an error is that of a request to Prefect's server which was not answered."""
    import httpx

    if not isinstance(error, httpx.TransportError):
        return False
    with suppress(RuntimeError):  # an error that knows no request
        return str(error.request.url).startswith(os.environ.get("PREFECT_API_URL", "(none)"))
    return False
