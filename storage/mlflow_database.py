"""MLflow's database in a file of its own, made whole or not at all.

MLflow makes its tables by the migrations of its history: two seconds of statements that sqlite commits one by
one. A process killed among them leaves a file that no later start can go on from (``duplicate column name``).
So they are made in a file beside it, which gets its name by one rename when all of them are there.
"""

from __future__ import annotations

from pathlib import Path

from storage.locks import exclusive

SQLITE = "sqlite:///"
_BESIDE = ("", "-journal", "-wal", "-shm")
"""What sqlite appends to a database's name for the files that it keeps beside it."""


def make_database(uri: str) -> None:
    """Make the sqlite database that an address names, with MLflow's tables, where it is not there.

    A file that has anything in it is left as it is, and so is an address of another kind.
    """
    if not uri.startswith(SQLITE):
        return
    path = Path(uri.removeprefix(SQLITE))
    if _has_content(path):
        return
    with exclusive(path.with_name(f"{path.name}.lock")):
        if _has_content(path):
            return
        draft = path.with_name(f"{path.name}.partial")
        for suffix in _BESIDE:
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
        _make_tables(f"{SQLITE}{draft}")
        draft.replace(path)


def _has_content(path: Path) -> bool:
    """An empty file is what a look at a database that is not there leaves behind."""
    return path.exists() and path.stat().st_size > 0


def _make_tables(uri: str) -> None:
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    try:
        utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
