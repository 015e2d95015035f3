"""The store in an object store (S3 and what speaks it), through obstore.

There is no rename there, so the order does the work of it: parts are uploaded first, each attempt under a
prefix of its own, the manifest last and only if no other writer was faster (create-exclusive); it names the
attempt whose parts it means. Artifacts come down to a local copy before they
are read or memory-mapped. Credentials and the endpoint come from the environment (``AWS_*``).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from pydantic import ValidationError

from storage import leftovers
from storage.artifacts import KEY_LENGTH, Artifact, Parent, Part, Recipe
from storage.errors import ArtifactMissingError, StoreUnusableError, needing_room
from storage.home import home, scratch
from storage.local_store import NOTES
from storage.locks import exclusive
from storage.manifests import hash_file, is_whole, made_in, part_files, read_manifest, write_synced
from storage.store import MANIFEST, UNREADABLE, Damage, Draft, Leftover, Place
from storage.unfinished_uploads import unfinished_uploads

if TYPE_CHECKING:
    from obstore import ObjectMeta

CHUNK_BYTES = 8 * 2**20
TRANSFERS = 8
"""Parts that are uploaded or fetched side by side: a request waits most of its time for an answer."""
USED = "used"
"""An empty object beside the manifest, written anew at each use."""
ATTEMPT = re.compile(rf"(?P<artifact>[^/]+/[0-9a-f]{{{KEY_LENGTH}}})/[0-9a-f]{{12}}/")
"""How the objects of an attempt at uploading an artifact begin; nothing else is taken for one."""


class ObjectStore:
    """A bucket's prefix as a store; see :class:`storage.store.Store` for what each method promises."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        try:
            self._objects = obstore.store.from_url(self.uri)
        except BaseError as error:
            raise StoreUnusableError(
                f"MODELMILL_STORE: {self.uri} names no store ({str(error).splitlines()[0]}). Give a folder "
                f"or s3://bucket/prefix"
            ) from error
        self._scratch = scratch() / hashlib.sha256(self.uri.encode()).hexdigest()[:16]

    def records_root(self) -> Path:
        """A folder of the home: Prefect reads result records from a file system."""
        return home() / "records"

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact, if its manifest and all the objects that it names are there."""
        artifact = self._manifest(kind, key)
        if artifact is None:
            return None
        prefix = self._prefix(artifact)
        sizes = self._sizes(prefix)
        whole = all(sizes.get(f"{prefix}{part.name}") == part.bytes for part in artifact.parts)
        return artifact if whole else None

    def use(self, kind: str, key: str) -> Artifact | None:
        """As :meth:`find`, asked once more after an object beside the manifest was written that says when.

        A deletion takes the manifest first and looks at that object then: one of the two sees the other.
        """
        if self._manifest(kind, key) is None:
            return None
        obstore.put(self._objects, f"{kind}/{key}/{USED}", b"")
        return self.find(kind, key)

    def uses(self) -> dict[Place, datetime]:
        """When each artifact was last used, by the store's own clock."""
        found: dict[Place, datetime] = {}
        for meta in self._list():
            kind, _, rest = meta["path"].partition("/")
            key, _, name = rest.partition("/")
            if name in (MANIFEST, USED):
                found[kind, key] = max(meta["last_modified"], found.get((kind, key), meta["last_modified"]))
        return found

    def open(self, artifact: Artifact) -> Path:
        """A local copy of the artifact, fetched on first use; ArtifactMissingError where parts are gone."""
        folder = self._copy(artifact.kind, artifact.key)
        with exclusive(folder.with_name(f"{folder.name}.lock")):
            local = read_manifest(folder)
            if local is None or local.parts != artifact.parts or not is_whole(folder, local):
                with needing_room(folder, f"bringing {artifact.kind} from {self.uri}"):
                    self._bring(artifact, folder)
            (folder / MANIFEST).touch()  # see leftovers.last_opened
        return folder

    def _bring(self, artifact: Artifact, folder: Path) -> None:
        """Fetch the parts that are not there; what is may be of an artifact that was made anew since."""
        (folder / MANIFEST).unlink(missing_ok=True)
        names = {part.name for part in artifact.parts}
        for path in list(part_files(folder)):
            if path.relative_to(folder).as_posix() not in names:
                path.unlink()
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(lambda part: self._download(artifact, part, folder), artifact.parts))
        write_synced(folder / MANIFEST, artifact.model_dump_json(indent=1).encode())

    def make(
        self,
        recipe: Recipe,
        parents: tuple[Parent, ...],
        work: Callable[[Draft], dict[str, Any]],
        *,
        resumable: bool = False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Artifact:
        """Work locally, upload under the attempt's own prefix, create the manifest last and exclusively.

        What was made and could not be uploaded is kept, and uploaded by the next call.
        """
        partial = self._scratch / "partial" / recipe.stage / recipe.key
        with exclusive(partial.with_name(f"{partial.name}.lock"), on_wait):
            if (found := self.use(recipe.stage, recipe.key)) is not None:
                return found
            uri = f"{self.uri}/{recipe.stage}/{recipe.key}/{uuid.uuid4().hex[:12]}"
            made = made_in(partial, recipe, parents, work, uri, resumable=resumable)
            artifact = self._publish(partial, made)
            shutil.rmtree(partial)
            return artifact

    def _publish(self, folder: Path, artifact: Artifact) -> Artifact:
        """Upload the parts, then the manifest if nobody else did; the other's artifact wins, if whole."""
        prefix = self._prefix(artifact)
        with ThreadPoolExecutor(TRANSFERS) as pool:
            names = [part.name for part in artifact.parts]
            list(pool.map(lambda name: obstore.put(self._objects, f"{prefix}{name}", folder / name), names))
        place = f"{artifact.kind}/{artifact.key}/{MANIFEST}"
        for _ in range(2):
            try:
                self._commit(artifact)
            except AlreadyExistsError:
                if (theirs := self.use(artifact.kind, artifact.key)) is not None:
                    self._delete(list(self._sizes(prefix)))
                    return theirs
                self._delete([place])  # a manifest whose parts are gone
            else:
                return artifact
        raise ArtifactMissingError(f"{place} changes faster than it can be written; run again")

    def _commit(self, artifact: Artifact) -> None:
        """Write the manifest; raises AlreadyExistsError where there is one."""
        content = artifact.model_dump_json(indent=1).encode()
        obstore.put(self._objects, f"{artifact.kind}/{artifact.key}/{MANIFEST}", content, mode="create")

    def _prefix(self, artifact: Artifact) -> str:
        return artifact.uri.removeprefix(self.uri).strip("/") + "/"

    def artifacts(self, kind: str | None = None) -> Iterator[Artifact]:
        """All committed artifacts (of one kind), read from their manifests."""
        found = [self._manifest(*place) for place in self._manifests(f"{kind}/" if kind else "")]
        yield from sorted((a for a in found if a is not None), key=lambda a: (a.created, a.kind, a.key))

    def _manifests(self, prefix: str = "") -> list[Place]:
        """Kind and key of all that has a manifest."""
        names = [name.split("/") for name in self._sizes(prefix)]
        return [(name[0], name[1]) for name in names if len(name) == 3 and name[2] == MANIFEST]

    def verify(self, artifact: Artifact) -> list[Damage]:
        """Fetch and hash every object again and tell of those that differ from the manifest."""
        found = []
        for part in artifact.parts:
            name = f"{self._prefix(artifact)}{part.name}"
            try:
                hashed = hashlib.sha256()
                for chunk in obstore.get(self._objects, name).stream(min_chunk_size=CHUNK_BYTES):
                    hashed.update(chunk)
            except (NotFoundError, FileNotFoundError):
                found.append(Damage(f"{self.uri}/{name}", "is missing"))
                continue
            if hashed.hexdigest() != part.sha256:
                found.append(Damage(f"{self.uri}/{name}", "has other content than when it was committed"))
        if found and self._manifest(artifact.kind, artifact.key) is None:
            return []  # deleted meanwhile, which is no damage
        return found

    def unreadable(self) -> list[Damage]:
        """Manifests that are there and are none."""
        places = [place for place in self._manifests() if self._manifest(*place) is None]
        return [Damage(f"{self.uri}/{kind}/{key}/{MANIFEST}", UNREADABLE) for kind, key in places]

    def remove(self, kind: str, key: str, *, unless_used_since: datetime | None = None) -> bool:
        """Delete the manifest first, so that the artifact is gone, then its own objects.

        One that was used meanwhile gets its manifest back. An upload under the same key, of who makes it
        anew, is left alone.
        """
        place, artifact = f"{kind}/{key}", self._manifest(kind, key)
        if artifact is None or self._is_used(place, unless_used_since):
            return artifact is None
        self._delete([f"{place}/{MANIFEST}"])
        if self._is_used(place, unless_used_since):
            with suppress(AlreadyExistsError):
                self._commit(artifact)
            return False
        self._delete([*self._sizes(self._prefix(artifact)), f"{place}/{USED}"])
        shutil.rmtree(self._copy(kind, key), ignore_errors=True)
        return True

    def _is_used(self, place: str, since: datetime | None) -> bool:
        """Whether an artifact was committed or used since then; never since None."""
        if since is None:
            return False
        for name in (MANIFEST, USED):
            with suppress(NotFoundError, FileNotFoundError):
                told = obstore.head(self._objects, f"{place}/{name}")["last_modified"]
                if told >= since.replace(microsecond=0):  # S3 tells whole seconds
                    return True
        return False

    def leftovers(self, committed: Iterable[Artifact], before: datetime) -> list[Leftover]:
        """Attempts at uploading that no manifest names; this machine's copies out of use, and abandoned work.

        A copy is fetched again when it is needed, and one that is read meanwhile stays readable. Where a
        manifest is one that this version cannot read, all attempts under its key are left.
        """
        found = [(meta["path"], meta["size"], meta["last_modified"]) for meta in self._list()]
        found += [(upload.path, upload.bytes, upload.begun) for upload in unfinished_uploads(self.uri)]
        needed = {f"{artifact.kind}/{artifact.key}": self._prefix(artifact) for artifact in committed}
        manifests = {path.removesuffix(f"/{MANIFEST}") for path, *_ in found if path.endswith(f"/{MANIFEST}")}
        left: dict[str, Leftover] = {}
        for path, size, added in found:
            attempt = ATTEMPT.match(path)
            if attempt is None or needed.get(attempt["artifact"]) == attempt[0]:
                continue
            if attempt["artifact"] in needed or attempt["artifact"] not in manifests:
                former = left.get(attempt[0], Leftover(attempt[0].rstrip("/"), 0, added))
                latest = max(former.latest, added)
                left[attempt[0]] = replace(former, bytes=former.bytes + size, latest=latest)
        here = leftovers.unopened(self._scratch / "copies", before)
        here += leftovers.abandoned(self._partials(), before)
        return [leftover for leftover in left.values() if leftover.latest < before] + here

    def partials(self) -> Iterator[Path]:
        """Folders of work on this machine that was cut off and that nobody is busy with."""
        return leftovers.idle(self._partials())

    def _partials(self) -> Iterator[Path]:
        return (self._scratch / "partial").glob("*/*")

    def _copy(self, kind: str, key: str) -> Path:
        return self._scratch / "copies" / kind / key

    def discard(self, leftover: Leftover) -> None:
        """Delete a copy, or an attempt's objects, and have S3 drop its unfinished ones."""
        if Path(leftover.place).is_absolute():
            leftovers.discard(leftover)
            return
        prefix = f"{leftover.place}/"
        artifact = self._manifest(*leftover.place.split("/")[:2])
        if artifact is None or self._prefix(artifact) != prefix:
            for upload in unfinished_uploads(self.uri, prefix):
                upload.abort()
            self._delete(list(self._sizes(prefix)))

    def read_note(self, name: str) -> dict[str, Any] | None:
        """A note's values, or None where there is no such note."""
        try:
            content = bytes(obstore.get(self._objects, f"{NOTES}/{name}.json").bytes())
        except (NotFoundError, FileNotFoundError):
            return None
        value: dict[str, Any] = json.loads(content)
        return value

    def write_note(self, name: str, value: dict[str, Any], *, only_if_absent: bool = False) -> dict[str, Any]:
        """Write one object, by a create-exclusive put where the first is to win; returns what is there."""
        content = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()
        mode: Literal["create", "overwrite"] = "create" if only_if_absent else "overwrite"
        with suppress(AlreadyExistsError):
            obstore.put(self._objects, f"{NOTES}/{name}.json", content, mode=mode)
        return self.read_note(name) or value

    def list_notes(self, folder: str) -> list[str]:
        """Names of the notes in a folder, sorted."""
        names = self._sizes(f"{NOTES}/{folder}/")
        return sorted(name.removeprefix(f"{NOTES}/").removesuffix(".json") for name in names)

    def remove_note(self, name: str) -> None:
        """Delete a note; one that is not there is no error."""
        self._delete([f"{NOTES}/{name}.json"])

    def _manifest(self, kind: str, key: str) -> Artifact | None:
        try:
            content = bytes(obstore.get(self._objects, f"{kind}/{key}/{MANIFEST}").bytes())
            return Artifact.model_validate_json(content)
        except (NotFoundError, FileNotFoundError, ValidationError):
            return None

    def _sizes(self, prefix: str) -> dict[str, int]:
        return {meta["path"]: meta["size"] for meta in self._list(prefix)}

    def _list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        for batch in obstore.list(self._objects, prefix=prefix or None):
            yield from batch

    def _delete(self, names: list[str]) -> None:
        """Delete objects; those that are not there are no error."""
        with suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._objects, names)

    def _download(self, artifact: Artifact, part: Part, folder: Path) -> None:
        target = folder / part.name
        if target.exists() and target.stat().st_size == part.bytes and hash_file(target) == part.sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        name = f"{self._prefix(artifact)}{part.name}"
        draft, hashed = target.with_name(f".{target.name}.part"), hashlib.sha256()
        try:
            with draft.open("wb") as file:
                for chunk in obstore.get(self._objects, name).stream(min_chunk_size=CHUNK_BYTES):
                    file.write(chunk)
                    hashed.update(chunk)
        except (NotFoundError, FileNotFoundError) as error:
            raise ArtifactMissingError(f"{self.uri}/{name} is missing. Run the pipeline again.") from error
        if hashed.hexdigest() != part.sha256:
            draft.unlink()
            raise ArtifactMissingError(f"{self.uri}/{name} is damaged: its sha256 is not the manifest's.")
        draft.replace(target)
