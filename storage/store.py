"""What a store of artifacts does, wherever it is, and how to open the one in use.

A committed artifact is the folder ``STORE/<kind>/<key>/`` with a ``manifest.json`` that was written
last: its existence means that the artifact is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from storage.artifacts import Artifact, Parent, Recipe
from storage.errors import StoreUnusableError
from storage.home import store_uri

MANIFEST = "manifest.json"
RECORD = "prefect.json"
"""Prefect's result record, kept inside the artifact's folder so that both live and die together."""
Place = tuple[str, str]
"""An artifact's kind and key."""


@dataclass
class Draft:
    """An artifact being made: its folder, and what the maker says of the files.

    Files and folders whose name starts with a dot are work in progress: they survive a kill -9 and are
    dropped at the commit.
    """

    path: Path
    resumed: bool
    """True where an earlier attempt was cut off and its files are still here."""
    rows: dict[str, int] = field(default_factory=dict)
    volatile: set[str] = field(default_factory=set)
    identity: str | None = None
    """Overrides the content digest where the bytes differ and the meaning does not."""


@dataclass(frozen=True)
class Damage:
    """A committed file that is not what its manifest says."""

    path: str
    problem: str


UNREADABLE = "cannot be read, or only by a later version: its artifact counts as absent"
"""What is wrong with a manifest that is none."""


@dataclass(frozen=True)
class Leftover:
    """Files that nothing needs: what a cut-off upload has left, a local copy out of use, abandoned work."""

    place: str
    """``kind/key/attempt`` in the store, or a folder of this machine."""
    bytes: int
    latest: datetime
    """When something was last added, or the copy last opened."""
    what: str = "of no artifact"
    """For people, after the place."""


class Store(Protocol):
    """What stages and commands need of a store."""

    uri: str

    def records_root(self) -> Path:
        """The local folder under which Prefect's result records are kept as ``kind/key/prefect.json``."""

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact, if it is committed and whole: every part there, with its size."""

    def use(self, kind: str, key: str) -> Artifact | None:
        """As :meth:`find`, for who goes on to rely on it: a sweep does not delete it after that."""

    def uses(self) -> dict[Place, datetime]:
        """When each artifact was last used, or committed where it never was."""

    def open(self, artifact: Artifact) -> Path:
        """A local folder with the artifact's files; raises ArtifactMissingError where they are gone."""

    def make(
        self,
        recipe: Recipe,
        parents: tuple[Parent, ...],
        work: Callable[[Draft], dict[str, Any]],
        *,
        resumable: bool = False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Artifact:
        """Run ``work`` on a draft and commit what it leaves, or adopt what another process committed."""

    def artifacts(self, kind: str | None = None) -> Iterator[Artifact]:
        """Every committed artifact (of one kind), oldest first."""

    def verify(self, artifact: Artifact) -> list[Damage]:
        """Hash every part again; the list is empty where all is as the manifest says, or it was deleted."""

    def unreadable(self) -> list[Damage]:
        """Manifests that cannot be read: their artifacts count as absent, and are made anew when needed."""

    def remove(self, kind: str, key: str, *, unless_used_since: datetime | None = None) -> bool:
        """Delete an artifact, the manifest first, so that no half of it can be found.

        Returns False, and leaves it, where it was used since then.
        """

    def leftovers(self, committed: Iterable[Artifact], before: datetime) -> list[Leftover]:
        """Files that nothing needs, nothing was added to and nobody opened since ``before``.

        ``committed`` is every artifact of the store. Unfinished work, which the next run goes on with, is one
        only after a longer time: see :mod:`storage.leftovers`.
        """

    def partials(self) -> Iterator[Path]:
        """Local folders of work that was cut off and that nobody is busy with."""

    def discard(self, leftover: Leftover) -> None:
        """Delete such files, unless an artifact has come to need them."""

    def read_note(self, name: str) -> dict[str, Any] | None:
        """A small JSON document beside the artifacts (``runs/…``, ``refs/…``), or None."""

    def write_note(self, name: str, value: dict[str, Any], *, only_if_absent: bool = False) -> dict[str, Any]:
        """Write a note whole or not at all; returns what is there afterwards (the first writer's)."""

    def list_notes(self, folder: str) -> list[str]:
        """Names of the notes in a folder, sorted."""

    def remove_note(self, name: str) -> None:
        """Delete a note; nothing happens where it is absent."""


def open_store(uri: str | None = None) -> Store:
    """The store at ``uri``, or at ``MODELMILL_STORE``, or in the home folder.

    Raises StoreUnusableError where an address names none.
    """
    uri = uri or store_uri()
    if re.match(r"\w+:/(?!/)", uri):  # it would be a folder, named so
        raise StoreUnusableError(
            f"MODELMILL_STORE: {uri} names no store. Give a folder or s3://bucket/prefix"
        )
    if "://" in uri and not uri.startswith("file://"):
        from storage.object_store import ObjectStore

        return ObjectStore(uri)
    from storage.local_store import LocalStore

    return LocalStore(Path(uri.removeprefix("file://")))
