"""Prefect's own sqlite database: one whose tables were not all made is begun anew.

Prefect makes them by the hundred migrations of its history, which takes seconds, and cannot go on where those
were cut off, by kill -9 or a full disk: no server would ever start on what is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.home import home
from storage.locks import exclusive

DATABASE = "prefect.db"
BESIDE = ("", "-journal", "-wal", "-shm")
"""What sqlite appends to a database's name for the files that it keeps beside it."""


@contextmanager
def starting_server() -> Iterator[None]:
    """Hold off other servers of this home until the block ends, which is when this one answers.

    In a new home each would make the database's tables, and fail at those that the other has made. Where the
    block fails or its process is killed, what was made in it is not kept.
    """
    with exclusive(home() / "locks" / "prefect-starts.lock"):
        folder = Path(os.environ.get("PREFECT_HOME") or home() / "prefect")
        with _being_made(folder / DATABASE):
            yield


@contextmanager
def _being_made(database: Path) -> Iterator[None]:
    """Note, until the block has ended well, that a database is being made, where there is none yet."""
    note = database.with_name(f"{database.name}.being-made")
    if not note.exists() and database.exists() and database.stat().st_size:
        yield
        return
    for suffix in BESIDE:
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
    yield
    note.unlink(missing_ok=True)
