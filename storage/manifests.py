"""From a folder of files to a manifest: hashing, fsync, and the checks that make an artifact whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from storage.artifacts import Artifact, Parent, Part, Recipe, content_digest
from storage.errors import needing_room
from storage.libraries import library_versions
from storage.store import MANIFEST, RECORD, Damage, Draft


def part_files(folder: Path) -> Iterator[Path]:
    """The files that become parts, sorted by name: not the manifest, not the record, nothing with a dot."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if relative.as_posix() in (MANIFEST, RECORD) or any(
            piece.startswith(".") for piece in relative.parts
        ):
            continue
        if path.is_file():
            yield path


def drop_scratch(folder: Path) -> None:
    """Remove work in progress: everything whose name starts with a dot."""
    for path in sorted(folder.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


def hash_file(path: Path, *, sync: bool = False) -> str:
    """Hex sha256 of a file's bytes; with ``sync``, force it to the disk first."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def made_in(
    folder: Path,
    recipe: Recipe,
    parents: tuple[Parent, ...],
    work: Callable[[Draft], dict[str, Any]],
    uri: str,
    *,
    resumable: bool,
) -> Artifact:
    """What ``work`` leaves in a folder, hashed and with its manifest there: all that is left is to commit it.

    What an earlier call made, and was cut off before it could commit it, is taken as it is. A failure empties
    the folder, unless the work is ``resumable``; raises DiskFullError where no room is left.
    """
    if (made := read_manifest(folder)) is not None and is_whole(folder, made):
        return made
    if folder.exists() and not resumable:
        shutil.rmtree(folder)
    draft, started = Draft(path=folder, resumed=folder.exists()), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    try:
        with needing_room(folder, f"making {recipe.stage}"):
            stats = work(draft)
            made = describe(draft, recipe, parents, stats, uri, time.monotonic() - started)
            write_synced(folder / MANIFEST, made.model_dump_json(indent=1).encode())
    except BaseException:
        if not resumable:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return made


def describe(
    draft: Draft, recipe: Recipe, parents: tuple[Parent, ...], stats: dict[str, Any], uri: str, seconds: float
) -> Artifact:
    """Hash and fsync a draft's files into the artifact that its manifest will hold."""
    drop_scratch(draft.path)
    parts = tuple(
        Part(
            name=(name := path.relative_to(draft.path).as_posix()),
            bytes=path.stat().st_size,
            sha256=hash_file(path, sync=True),
            rows=draft.rows.get(name),
            volatile=name in draft.volatile,
        )
        for path in part_files(draft.path)
    )
    return Artifact(
        kind=recipe.stage,
        key=recipe.key,
        digest=draft.identity or content_digest(parts),
        uri=uri,
        parts=parts,
        stats=stats,
        parents=parents,
        recipe=recipe,
        libraries=library_versions(),
        created=datetime.now(UTC),
        seconds=round(seconds, 3),
    )


def read_manifest(folder: Path) -> Artifact | None:
    """The artifact that a folder's manifest describes, or None where there is none or it is broken."""
    try:
        return Artifact.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def is_whole(folder: Path, artifact: Artifact) -> bool:
    """Whether every part is there with its size: what a cache hit costs to check (``verify`` hashes)."""
    for part in artifact.parts:
        try:
            if (folder / part.name).stat().st_size != part.bytes:
                return False
        except OSError:
            return False
    return True


def damages(folder: Path, artifact: Artifact) -> list[Damage]:
    """Every part of a folder that differs from the manifest, by its bytes' digest."""
    found = []
    for part in artifact.parts:
        path = folder / part.name
        if not path.exists():
            found.append(Damage(str(path), "is missing"))
        elif (size := path.stat().st_size) != part.bytes:
            found.append(Damage(str(path), f"has {size:,} bytes, the manifest says {part.bytes:,}"))
        elif hash_file(path) != part.sha256:
            found.append(Damage(str(path), "has other content than when it was committed"))
    return found


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and force it, and its folder's entry for it, to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, so that a rename survives a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
