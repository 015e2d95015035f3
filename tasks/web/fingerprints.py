"""Content digests of local files, kept by path, size and time of change, so that they are hashed once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path, PurePath

WRITTEN_AT_ONCE = 512
_TABLE = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INT, changed INT, sha256 TEXT)"
_KNOWN = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND changed = ?"


class Fingerprints:
    """A cache of file digests in a small SQLite file; without a file it hashes every time."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def of_file(self, file: Path) -> str:
        """Hex sha256 of a file's bytes."""
        return self._of([file])[0]

    def _of(self, files: Sequence[Path]) -> list[str]:
        """The files' digests, in order; a cache that is damaged is begun anew."""
        if self._path is None:
            return [hash_file(file) for file in files]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._kept(self._path, files)
        except sqlite3.OperationalError:  # busy, or not to be written to
            raise
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return self._kept(self._path, files)

    def _kept(self, cache: Path, files: Sequence[Path]) -> list[str]:
        """Digests from the cache; those that it does not have are written down some at a time."""
        with closing(sqlite3.connect(cache, timeout=30)) as database:
            database.execute("PRAGMA synchronous = OFF")  # what a power failure damages is begun anew
            with database:
                database.execute(_TABLE)
            digests: list[str] = []
            fresh: list[tuple[str, int, int, str]] = []
            for file in files:
                stat = file.stat()
                key = (spelt(file.resolve()), stat.st_size, stat.st_mtime_ns)
                row = database.execute(_KNOWN, key).fetchone()
                digest = str(row[0]) if row else hash_file(file)
                if not row:
                    fresh.append((*key, digest))
                if len(fresh) >= WRITTEN_AT_ONCE:
                    _write(database, fresh)
                digests.append(digest)
            _write(database, fresh)
        return digests

    def of_folder(self, folder: Path, files: Iterable[Path], unread: Iterable[Path] = ()) -> str:
        """Hex sha256 over the relative names and digests of a folder's files, and the names of the unread."""
        total = hashlib.sha256()
        ordered = sorted(files)
        for file, digest in zip(ordered, self._of(ordered), strict=True):
            total.update(f"{spelt(file.relative_to(folder))}\n{digest}\n".encode())
        for file in sorted(unread):
            total.update(f"{spelt(file.relative_to(folder))}\n".encode())
        return total.hexdigest()


def _write(database: sqlite3.Connection, fresh: list[tuple[str, int, int, str]]) -> None:
    """Keep digests, in a transaction that is over at once, and empty their list."""
    with database:
        database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", fresh)
    fresh.clear()


def spelt(path: PurePath) -> str:
    """A path with slashes; bytes of a name that are no UTF-8, as old archives leave them, as ``\\xc3``."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def hash_file(file: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
