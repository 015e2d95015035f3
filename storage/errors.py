"""What can go wrong between stages, each with what, where and the mend."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system says where no room is left, on the disk or of what a user may have of it."""


class StorageError(Exception):
    """Base of everything the store refuses or cannot do."""


class StoreUnusableError(StorageError):
    """Nothing can be kept in the store, or its address names none."""


class ArtifactMissingError(StorageError):
    """An artifact is not in the store, or not whole."""


class ArtifactDamagedError(StorageError):
    """A committed file differs from what its manifest says."""


class UnstableInputError(StorageError):
    """A stage's input cannot be fingerprinted deterministically."""


class DiskFullError(StorageError):
    """No room was left while an artifact was written; nothing half-written can be found."""


@contextmanager
def needing_room(place: Path, what: str) -> Iterator[None]:
    """Have a full disk told as DiskFullError: where room is missing, and what is being made or brought."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError(
            f"No room left under {place} while {what}. Free some space (`modelmill gc` lists what can go) "
            f"and run again: it goes on from there."
        ) from error


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, what caused that, and so on; each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
