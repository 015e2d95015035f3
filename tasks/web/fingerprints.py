"""Content digests of local files, kept by path, size and time of change, so that they are hashed once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path, PurePath


class Fingerprints:
    """A cache of file digests in a small SQLite file; without a file it hashes every time."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def of_file(self, file: Path) -> str:
        """Hex sha256 of a file's bytes."""
        stat = file.stat()
        key = (spelt(file.resolve()), stat.st_size, stat.st_mtime_ns)
        if self._path is None:
            return hash_file(file)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INT, changed INT, sha256 TEXT)"
            )
            row = database.execute(
                "SELECT sha256 FROM files WHERE path = ? AND size = ? AND changed = ?", key
            ).fetchone()
            if row:
                return str(row[0])
            digest = hash_file(file)
            database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (*key, digest))
        return digest

    def of_folder(self, folder: Path, files: Iterable[Path], unread: Iterable[Path] = ()) -> str:
        """Hex sha256 over the relative names and digests of a folder's files, and the names of the unread."""
        total = hashlib.sha256()
        for file in sorted(files):
            total.update(f"{spelt(file.relative_to(folder))}\n{self.of_file(file)}\n".encode())
        for file in sorted(unread):
            total.update(f"{spelt(file.relative_to(folder))}\n".encode())
        return total.hexdigest()


def spelt(path: PurePath) -> str:
    """A path with slashes; bytes of a name that are no UTF-8, as old archives leave them, as ``\\xc3``."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def hash_file(file: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
