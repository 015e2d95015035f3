"""References to what stages produce: frozen, small, and enough to find, check and trace the real thing.

An :class:`Artifact` travels between tasks instead of the data. It is also what ``manifest.json`` holds,
so that an artifact's folder explains itself.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits of sha256, short enough for a folder's name."""


class Part(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Path inside the artifact's folder, with forward slashes."""
    bytes: int
    sha256: str
    rows: int | None = None
    volatile: bool = False
    """True where identical runs may differ (timings, run ids): left out of the artifact's digest."""


class Parent(BaseModel):
    """An artifact that another was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    key: str
    digest: str


class Recipe(BaseModel):
    """Everything that decides what a stage produces; its digest is the artifact's key.

    Never here: device, worker count, paths, log level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    code: dict[str, str]
    """Module name to digest of its code, comments and docstrings left out."""
    inputs: dict[str, Any]
    """Argument name to its canonical value: an artifact's content digest, a config's fields, a number."""

    @property
    def key(self) -> str:
        """The artifact's key: hex digits of a sha256 over the canonical JSON of this recipe."""
        return digest_json(self.model_dump(mode="json"))[:KEY_LENGTH]


class Artifact(BaseModel):
    """What one stage produced: where it is, what it holds, what it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """The stage's name."""
    key: str
    digest: str
    """Content digest: over the names and sha256 of the parts that are not volatile, unless the stage
    states a digest of what the content means (a crawl's, say, which leaves out the time of fetching)."""
    uri: str
    parts: tuple[Part, ...]
    stats: dict[str, Any]
    parents: tuple[Parent, ...]
    recipe: Recipe
    libraries: dict[str, str]
    created: datetime
    seconds: float
    """How long the stage worked on it, in this and (where it was resumed) earlier attempts' last one."""

    def part(self, name: str) -> Part:
        """The part of that name; KeyError names what there is instead."""
        for part in self.parts:
            if part.name == name:
                return part
        names = ", ".join(p.name for p in self.parts)
        raise KeyError(f"{self.kind}/{self.key} has no part {name!r}; it has: {names}")

    @property
    def bytes(self) -> int:
        """Size of all parts."""
        return sum(part.bytes for part in self.parts)

    def as_parent(self) -> Parent:
        """The reference that a child keeps."""
        return Parent(kind=self.kind, key=self.key, digest=self.digest)


def digest_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def content_digest(parts: tuple[Part, ...]) -> str:
    """Hex sha256 over the names and digests of the parts that are not volatile."""
    return digest_json(sorted((part.name, part.sha256) for part in parts if not part.volatile))
