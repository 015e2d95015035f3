"""Files that a user names in a configuration, known by what is in them."""

from __future__ import annotations

import glob
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from tasks.settings import StageConfig


class FilesConfig(StageConfig):
    """Files by path or glob. Their contents decide a result, not their paths: an edited file counts as
    another configuration, a moved one does not."""

    paths: tuple[str, ...] = Field(
        (),
        title="Files",
        description="Paths, globs or folders (all files in them); none switches this off.",
        json_schema_extra={"affects_result": False},
    )
    digest: SkipJsonSchema[str] = Field(  # nobody can set it: in a cache key, and in no form and no file
        "",
        title="Digest",
        description="Of the contents, computed when the configuration is read; whatever stands here is "
        "replaced. 0 to 64 characters.",
        max_length=64,
        exclude=True,
    )

    @field_validator("paths")
    @classmethod
    def _exist(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not _found(path):
                raise ValueError(f"there is no file {path!r}; name a file, a glob or a folder that has files")
        return paths

    @model_validator(mode="after")
    def _know_contents(self) -> Self:
        object.__setattr__(self, "digest", _digest(self.files) if self.paths else "")
        return self

    @property
    def files(self) -> list[Path]:
        """The files, each once, sorted by name and path, so that the order of naming does not count."""
        return sorted({file for path in self.paths for file in _found(path)}, key=lambda f: (f.name, str(f)))


def _found(path: str) -> list[Path]:
    named = Path(path).expanduser()
    if named.is_dir():
        return [file for file in named.rglob("*") if file.is_file()]
    if named.is_file():
        return [named]
    return [Path(match) for match in glob.glob(str(named), recursive=True) if Path(match).is_file()]  # noqa: PTH207


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}\n".encode())
        digest.update(_content(file.resolve(), status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _content(file: Path, _size: int, _mtime_ns: int) -> bytes:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
