"""What lies on this machine and nobody needs: work that was cut off for good, and copies out of use."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.locks import exclusive, is_held
from storage.manifests import read_manifest
from storage.store import MANIFEST, Leftover

KEPT = timedelta(days=7)
"""Work to which nothing was added for so long is taken to be abandoned: it may be days of training, which are
worth more than a sweep's grace period.
"""
COPY, WORK = "a local copy", "unfinished work"


def idle(folders: Iterable[Path]) -> Iterator[Path]:
    """The folders of work that nobody is busy with, by path."""
    return (folder for folder in sorted(folders) if folder.is_dir() and not is_held(_lock(folder)))


def abandoned(folders: Iterable[Path], before: datetime) -> list[Leftover]:
    """Work that nobody is busy with and to which nothing was added since ``before``, nor for :data:`KEPT`."""
    limit, found = min(before, datetime.now(UTC) - KEPT), []
    for folder in idle(folders):
        with suppress(FileNotFoundError):  # somebody goes on with it now
            if (latest := _last_addition(folder)) < limit:
                found.append(Leftover(str(folder), _bytes(folder), latest, WORK))
    return found


def unopened(copies: Path, before: datetime) -> list[Leftover]:
    """The copies of artifacts in a folder (``kind/key``) that nobody opened since ``before``."""
    found = []
    for path in copies.glob(f"*/*/{MANIFEST}"):
        artifact, latest = read_manifest(path.parent), last_opened(path.parent)
        if artifact is not None and latest < before:
            found.append(Leftover(str(path.parent), artifact.bytes, latest, COPY))
    return found


def discard(leftover: Leftover) -> None:
    """Delete a copy or abandoned work, unless somebody has come to need it since."""
    folder = Path(leftover.place)
    used = last_opened if leftover.what == COPY else _last_addition
    with exclusive(_lock(folder)), suppress(FileNotFoundError):
        if used(folder) == leftover.latest:
            shutil.rmtree(folder)


def last_opened(copy: Path) -> datetime:
    """When a local copy was last opened: its manifest is touched then."""
    return datetime.fromtimestamp((copy / MANIFEST).stat().st_mtime, UTC)


def _lock(folder: Path) -> Path:
    """The lock that whoever works in a folder holds: ``KEY.lock`` for ``KEY`` or ``KEY.partial``."""
    return folder.with_suffix(".lock")


def _last_addition(folder: Path) -> datetime:
    times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    return datetime.fromtimestamp(max(times), UTC)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
