"""MLflow's database in a file of its own, made whole or not at all.

MLflow makes its tables by the migrations of its history: two seconds of statements that sqlite commits one by
one. A process killed among them leaves a file that no later start can go on from (``duplicate column name``).
So they are made in a file beside it, which gets its name by one rename when all of them are there.

MLflow keeps the places of its files as whole addresses, which are wrong where the folder that holds both was
moved or copied: models would be sought, and new ones written, where it was before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from storage.locks import exclusive

SQLITE = "sqlite:///"
FILES = "artifacts"
"""The folder beside an sqlite database in which MLflow's files are."""
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Tables and columns that hold addresses of files."""
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


def follow_files(uri: str) -> None:
    """Have an sqlite database name the files that lie beside it, after both were moved or copied together.

    Files that it keeps elsewhere, as it was told to, stay there: only what is found beside it counts.
    """
    path = Path(uri.removeprefix(SQLITE)).resolve()
    if not uri.startswith(SQLITE) or not _has_content(path):
        return
    here = (path.parent / FILES).as_uri()
    # A database of another kind, of MLflow's later times or not to be written to is for MLflow to judge.
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as database, database:
        for former in _former_places(database, here):
            for table, column in PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = :here || substr({column}, :end + 1) "
                    f"WHERE substr({column} || '/', 1, :end + 1) = :former || '/'",
                    {"here": here, "former": former, "end": len(former)},
                )


def _former_places(database: sqlite3.Connection, here: str) -> Iterator[str]:
    """Addresses of the folder of files that stand in a database, where some of those files are ``here``."""
    rows = database.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    for experiment, location in rows:
        former = location.removesuffix(f"/{experiment}")  # a server gives each experiment a folder of its own
        if not former.startswith("file:///") or not former.endswith(f"/{FILES}") or former == here:
            continue
        query = "SELECT artifact_location FROM logged_models WHERE experiment_id = ?"
        places = [place for (place,) in database.execute(query, (experiment,)) if place.startswith(former)]
        if any(Path(url2pathname(urlsplit(here + p.removeprefix(former)).path)).exists() for p in places):
            yield former


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
