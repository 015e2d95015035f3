"""The store as a folder on a local disk.

Work happens in ``<key>.partial`` beside the artifact's folder, under a kernel lock, and becomes the
artifact by one rename. Whoever comes second waits for the lock and adopts what the first committed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import Any

from storage import leftovers
from storage.artifacts import Artifact, Parent, Recipe
from storage.errors import ArtifactMissingError, needing_room
from storage.locks import exclusive, is_held
from storage.manifests import damages, is_whole, made_in, read_manifest, sync_folder, write_synced
from storage.store import MANIFEST, UNREADABLE, Damage, Draft, Leftover, Place

NOTES = "notes"


class LocalStore:
    """A folder of artifacts; see :class:`storage.store.Store` for what each method promises."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.uri = str(self.root)

    def folder(self, kind: str, key: str) -> Path:
        """Where an artifact is, or would be."""
        return self.root / kind / key

    def records_root(self) -> Path:
        """The store's folder: each result record lies inside its artifact's."""
        return self.root

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact, if its manifest and all its files are there; anything less counts as absent."""
        folder = self.folder(kind, key)
        artifact = read_manifest(folder)
        return artifact if artifact is not None and is_whole(folder, artifact) else None

    def use(self, kind: str, key: str) -> Artifact | None:
        """As :meth:`find`; the manifest's file time says when. A deletion holds the same lock."""
        if self.find(kind, key) is None:  # whoever makes it may hold the lock for days
            return None
        with exclusive(self._lock(self.folder(kind, key))):
            return self._used(kind, key)

    def _used(self, kind: str, key: str) -> Artifact | None:
        if (artifact := self.find(kind, key)) is not None:
            now = time.time_ns()
            os.utime(self.folder(kind, key) / MANIFEST, ns=(now, now))
        return artifact

    def uses(self) -> dict[Place, datetime]:
        """When each artifact was last used, by its manifest's file time."""
        folders = [path.parent for path in self._manifests()]
        used = {(folder.parent.name, folder.name): _last_use(folder) for folder in folders}
        return {place: at for place, at in used.items() if at is not None}

    def open(self, artifact: Artifact) -> Path:
        """The artifact's own folder: nothing is copied; ArtifactMissingError where it is gone."""
        folder = self.folder(artifact.kind, artifact.key)
        if not is_whole(folder, artifact):
            raise ArtifactMissingError(
                f"{artifact.kind}/{artifact.key} is not whole in {self.root}. Run the pipeline again: "
                f"it makes what is missing."
            )
        return folder

    def make(
        self,
        recipe: Recipe,
        parents: tuple[Parent, ...],
        work: Callable[[Draft], dict[str, Any]],
        *,
        resumable: bool = False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Artifact:
        """Do the work in KEY.partial under a kernel lock, then rename; a second writer adopts the first's."""
        folder = self.folder(recipe.stage, recipe.key)
        with exclusive(self._lock(folder), on_wait):
            if (found := self._used(recipe.stage, recipe.key)) is not None:
                return found
            partial = folder.with_name(f"{folder.name}.partial")
            made = made_in(partial, recipe, parents, work, str(folder), resumable=resumable)
            self._commit(partial, folder)
            return made

    @staticmethod
    def _lock(folder: Path) -> Path:
        return folder.with_name(f"{folder.name}.lock")

    @staticmethod
    def _commit(partial: Path, folder: Path) -> None:
        if folder.exists():  # not whole, or it would have been adopted
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)
        partial.rename(folder)
        sync_folder(folder.parent)

    def artifacts(self, kind: str | None = None) -> Iterator[Artifact]:
        """All committed artifacts (of one kind), read from their manifests."""
        found = [read_manifest(path.parent) for path in self._manifests(kind)]
        yield from sorted((a for a in found if a is not None), key=lambda a: (a.created, a.kind, a.key))

    def _manifests(self, kind: str | None = None) -> Iterator[Path]:
        paths = self.root.glob(f"{escape(kind) if kind else '*'}/*/{MANIFEST}")
        return (path for path in paths if path.parent.suffix == "")

    def verify(self, artifact: Artifact) -> list[Damage]:
        """Hash every file again and tell of those that differ from the manifest."""
        folder = self.folder(artifact.kind, artifact.key)
        found = damages(folder, artifact)
        return found if (folder / MANIFEST).exists() else []  # deleted meanwhile, which is no damage

    def unreadable(self) -> list[Damage]:
        """Manifests that are there and are none."""
        found = [path for path in self._manifests() if read_manifest(path.parent) is None]
        return [Damage(str(path), UNREADABLE) for path in found if path.exists()]  # deleted meanwhile is none

    def remove(self, kind: str, key: str, *, unless_used_since: datetime | None = None) -> bool:
        """Delete an artifact's folder, whole; one that is in work, or was used since, is left."""
        folder = self.folder(kind, key)
        if unless_used_since is not None and is_held(self._lock(folder)):
            return False
        with exclusive(self._lock(folder)):
            used = _last_use(folder)
            if unless_used_since is not None and used is not None and used >= unless_used_since:
                return False
            with suppress(FileNotFoundError):
                (folder / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(folder)
        return True

    def leftovers(self, committed: Iterable[Artifact], before: datetime) -> list[Leftover]:
        """Work that was abandoned; nothing is uploaded."""
        return leftovers.abandoned(self._partials(), before)

    def discard(self, leftover: Leftover) -> None:
        """Delete abandoned work, unless somebody has gone on with it."""
        leftovers.discard(leftover)

    def partials(self) -> Iterator[Path]:
        """Folders of work that was cut off and that nobody is busy with."""
        return leftovers.idle(self._partials())

    def _partials(self) -> Iterator[Path]:
        return self.root.glob("*/*.partial")

    def _note(self, name: str) -> Path:
        return self.root / NOTES / f"{name}.json"

    def read_note(self, name: str) -> dict[str, Any] | None:
        """A note's values, or None where there is no such note."""
        try:
            value: dict[str, Any] = json.loads(self._note(name).read_bytes())
        except FileNotFoundError:
            return None
        return value

    def write_note(self, name: str, value: dict[str, Any], *, only_if_absent: bool = False) -> dict[str, Any]:
        """Write by a temporary file and a rename (a link, if the first is to win); returns what is there."""
        path = self._note(name)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        content = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()
        try:
            with needing_room(self.root, f"writing the note {name}"):
                write_synced(draft, content)
            if only_if_absent:
                with suppress(FileExistsError):
                    path.hardlink_to(draft)
            else:
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return self.read_note(name) or value

    def list_notes(self, folder: str) -> list[str]:
        """Names of the notes in a folder, sorted."""
        names = (self.root / NOTES / folder).glob("[!.]*.json")
        return sorted(f"{folder}/{path.stem}" for path in names)

    def remove_note(self, name: str) -> None:
        """Delete a note; one that is not there is no error."""
        self._note(name).unlink(missing_ok=True)


def _last_use(folder: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
