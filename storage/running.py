"""Runs that are under way, so that a sweep of the store spares what they rely on.

A run keeps a note while it lasts and renews it: whatever was used since the oldest of them began (see
:meth:`storage.store.Store.use`) may still be needed. The note of a run that was killed is not renewed, and
counts for nothing an hour later.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from storage.errors import StoreUnusableError
from storage.store import Store

FOLDER = "running"
RENEWED_EVERY = timedelta(minutes=10)
TRUSTED_FOR = timedelta(hours=1)
"""Also how far the clocks of the machines that share a store may differ."""


@contextmanager
def under_way(store: Store) -> Iterator[None]:
    """Let sweeps know of a run while the block lasts.

    Raises StoreUnusableError, before the block, where the store's folder cannot be written to.
    """
    place, ended = f"{FOLDER}/{uuid.uuid4().hex}", threading.Event()
    started = datetime.now(UTC).isoformat()

    def renew() -> None:
        store.write_note(place, {"started": started, "renewed": datetime.now(UTC).isoformat()})

    def keep_renewing() -> None:
        while not ended.wait(RENEWED_EVERY.total_seconds()):
            with suppress(Exception):  # a store that is away for a while must not end the thread
                renew()

    try:
        renew()
    except OSError as error:
        raise StoreUnusableError(
            f"Nothing can be kept in the store {store.uri}: {error.strerror}. Name one that you may write to "
            f"with MODELMILL_STORE."
        ) from error
    thread = threading.Thread(target=keep_renewing, name="run-under-way", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # how the run ended matters more; the note soon counts for nothing
            store.remove_note(place)


def needed_since(store: Store, now: datetime) -> datetime:
    """From when on whatever was used may still be needed by a run that is under way; ``now`` where none is.

    The notes of runs that were killed are deleted.
    """
    starts = [now]
    for name in store.list_notes(FOLDER):
        if (note := store.read_note(name)) is None:
            continue
        if datetime.fromisoformat(note["renewed"]) > now - TRUSTED_FOR:
            starts.append(datetime.fromisoformat(note["started"]) - TRUSTED_FOR)
        else:
            store.remove_note(name)
    return min(starts)
