"""Objects in S3 and what speaks its language, by address and glob: ``s3://bucket/prefix/*.warc.gz``.

Credentials, region and endpoint come from the AWS_… environment, as for every other tool.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

PIECE = 8 * 2**20
_ANSWER = re.compile(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>")


class BucketError(ConnectionError):
    """A bucket or object that cannot be had."""


@dataclass(frozen=True)
class BucketObject:
    """One object and what tells whether it changed."""

    uri: str
    key: str
    version: str
    size: int


def list_objects(uri: str) -> list[BucketObject]:
    """The objects that a key, a prefix (all below it) or a glob names, sorted; BucketError else."""
    bucket, pattern = _split(uri)
    magic = glob.has_magic(pattern)
    prefix = pattern[: _first_magic(pattern)].rpartition("/")[0] if magic else pattern.rstrip("/")
    store = _store(bucket)
    try:
        found = [meta for batch in obstore.list(store, prefix) for meta in batch]
        wanted = [meta for meta in found if not magic or fnmatchcase(str(meta["path"]), pattern)]
        if pattern and not wanted:  # a key, which may have a glob's marks in it
            with suppress(FileNotFoundError):
                wanted = [obstore.head(store, pattern.rstrip("/"))]
    except (BaseError, OSError) as error:
        raise BucketError(f"cannot list bucket {bucket!r}: {_said(error)}") from error
    objects = [
        BucketObject(
            f"s3://{bucket}/{m['path']}", m["path"], str(m["e_tag"] or m["last_modified"]), m["size"]
        )
        for m in wanted
    ]
    return sorted(objects, key=lambda found: found.key)


def copy_object(uri: str, path: Path, tell: Callable[[float, float | None, str], None]) -> None:
    """Bring an object to ``path``, piece by piece, whole or not at all; raises BucketError."""
    bucket, key = _split(uri)
    partial = path.with_name(f".{path.name}")
    try:
        found = obstore.get(_store(bucket), key)
        with partial.open("wb") as file:
            for piece in found.stream(min_chunk_size=PIECE):
                file.write(piece)
                tell(file.tell() / 2**20, found.meta["size"] / 2**20, "MB")
    except (BaseError, FileNotFoundError) as error:
        raise BucketError(f"cannot fetch {uri}: {_said(error)}") from error
    partial.rename(path)


def _said(error: Exception) -> str:
    """What the store answered, in its own words where it has some, without the rest of the exchange."""
    answer = _ANSWER.search(str(error))
    return f"{answer[1]}: {answer[2]}" if answer else str(error).partition("\n")[0]


def _first_magic(pattern: str) -> int:
    return min(pattern.find(mark) for mark in "*?[" if mark in pattern)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.partition("://")[2].partition("/")  # where a web address has a query, keys have "?"
    return bucket, key.lstrip("/")


def _store(bucket: str) -> S3Store:
    """A store of a bucket; plain http is allowed where the endpoint says so."""
    options: dict[str, Any] = {}
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options["client_options"] = {"allow_http": True}
    return S3Store(bucket, **options)
