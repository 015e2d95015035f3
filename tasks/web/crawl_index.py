"""What a crawl holds, page by page: the index that a re-crawl and a reader work from.

``index.jsonl`` has one line a page, in the order of discovery. A page that was unchanged at a re-crawl
points into the earlier crawl's WARC, which the new crawl's folder holds as well (a hard link, no copy).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tasks.web.frames import FrameError, open_frame
from tasks.web.records import Fault, ReadLimits
from tasks.web.warc import WarcRecord, read_record

INDEX = "index.jsonl"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One page of a crawl and where its bytes are."""

    url: str
    status: int
    payload: str
    """Hex sha256 of the body with its encodings undone."""
    date: str
    """When the bytes were fetched (not when they were last seen unchanged), as WARC-Date writes it."""
    file: str
    offset: int
    etag: str = ""
    modified: str = ""
    payload_sha1: str = ""
    """The stored record's WARC-Payload-Digest."""


def write_index(folder: Path, entries: Iterable[IndexEntry]) -> None:
    """Write a crawl's index."""
    lines = [json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries]
    (folder / INDEX).write_text("".join(lines), encoding="utf-8")


def read_index(folder: Path, start: int = 0, end: int | None = None) -> list[IndexEntry]:
    """A crawl's index, or its entries ``start`` to ``end``; empty where the folder has none."""
    path = folder / INDEX
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [IndexEntry(**json.loads(line)) for line in islice(file, start, end)]


def index_length(folder: Path) -> int:
    """How many pages a crawl's index has."""
    path = folder / INDEX
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


def crawl_identity(entries: Iterable[IndexEntry]) -> str:
    """Hex digest of what a crawl found, whenever it was found: sorted (address, status, payload)."""
    pages = sorted((entry.url, entry.status, entry.payload) for entry in entries)
    return hashlib.sha256(json.dumps(pages, ensure_ascii=False).encode()).hexdigest()


def read_entry(folder: Path, entry: IndexEntry, limits: ReadLimits) -> WarcRecord | Fault:
    """The stored response of an entry."""
    try:
        with (folder / entry.file).open("rb") as file:
            found = read_record(open_frame(file, "gzip", entry.offset), limits)
    except OSError as error:
        return Fault(entry.url, entry.offset, "missing_file", str(error))
    except FrameError as error:
        return Fault(entry.url, entry.offset, error.reason, error.detail)
    return found or Fault(entry.url, entry.offset, "not_a_record", f"nothing at {entry.file}:{entry.offset}")


def link_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Have the named files of one folder in another without copying, where the disk allows it."""
    for name in sorted(set(names)):
        if not (target / name).exists():
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copyfile(source / name, target / name)


def next_name(earlier: Iterable[IndexEntry]) -> str:
    """The WARC's name of the crawl that follows: numbers go up, so that names never collide."""
    numbers = [int(entry.file.split("-")[1].split(".")[0]) for entry in earlier]
    return f"crawl-{max(numbers, default=-1) + 1:05}.warc.gz"
