"""One way to read every kind of source: an iterator of records and faults, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tasks.web.config import IngestConfig
from tasks.web.crawl_index import INDEX, index_length, read_entry, read_index
from tasks.web.fingerprints import spelt
from tasks.web.payload import PayloadError, begins_as_page, checked_type, to_record
from tasks.web.records import Fault, ReadLimits, Record
from tasks.web.rows import parquet_groups, read_dataset, read_jsonl, read_parquet
from tasks.web.sitemaps import unpacked
from tasks.web.warc import WarcRecord, read_warc, units

FILES_A_UNIT = 512
MOST_UNITS = 64
"""Units of a folder or a crawl at most: each lists it anew, which for a million pages takes many seconds."""
LOOKED_INTO = 4096
"""Bytes at a file's start that tell whether it is a page, where its name does not."""
KIND_OF_SUFFIX = {
    ".warc": "warc",
    ".wet": "wet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}


def kind_of(name: str) -> str:
    """The kind of a file by its name (``page.warc.gz`` is ``warc``), or an empty string."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-3:]]
    for suffix in reversed(suffixes):
        if suffix not in (".gz", ".zst"):
            return KIND_OF_SUFFIX.get(suffix, "")
    return ""


def file_kind(file: Path) -> str:
    """As :func:`kind_of`, and ``html`` for what begins as a page: ``index``, ``a.php?id=3``, ``b.aspx``."""
    kind = kind_of(file.name)
    if kind or not file.is_file():
        return kind
    with file.open("rb") as opened:
        return "html" if begins_as_page(opened.read(LOOKED_INTO)) else ""


def work_units(path: Path, kind: str, config: IngestConfig) -> list[tuple[int, int | None]]:
    """Ranges of a source that :func:`read_records` can read one by one, in order, in any process."""
    if kind in ("warc", "wet"):
        return list(units(path, config.unit_bytes))
    if kind == "parquet":
        return [(group, group + 1) for group in range(parquet_groups(path))]
    if kind in ("crawl", "html"):
        count = index_length(path) if kind == "crawl" else len(site_files(path))
        size = max(FILES_A_UNIT, -(-count // MOST_UNITS))
        return [(i, i + size) for i in range(0, max(1, count), size)]
    return [(0, None)]


def read_records(
    path: Path, kind: str, config: IngestConfig, start: int = 0, end: int | None = None, name: str = ""
) -> Iterator[Record | Fault]:
    """Every record of a source, or of one of its :func:`work_units`, with faults where they occur.

    ``name`` stands as ``source_file`` in the records; the file's own name where it is empty. Raises
    ValueError for a kind that is not known and OSError where the source itself cannot be read.
    """
    name = name or path.name
    limits = config.limits
    if kind in ("warc", "wet"):
        yield from _warc(path, name, limits, start, end)
    elif kind == "crawl":
        yield from _crawl(path, name, limits, start, end)
    elif kind == "html":
        yield from _html(path, name, limits, start, end)
    elif kind == "jsonl":
        yield from read_jsonl(path, name, config)
    elif kind == "parquet":
        yield from read_parquet(path, name, config, start, end)
    else:
        kinds = ", ".join(sorted(set(KIND_OF_SUFFIX.values())))
        raise ValueError(f"{path} cannot be read as {kind!r}; what can be read: {kinds}, crawl")


def read_source(
    path: Path, uri: str, kind: str, config: IngestConfig, start: int, end: int | None, name: str
) -> Iterator[Record | Fault]:
    """As :func:`read_records`, and Hugging Face datasets, which have an address and no path."""
    if kind == "hf":
        return read_dataset(uri, name, config)
    return read_records(path, kind, config, start, end, name)


def _warc(path: Path, name: str, limits: ReadLimits, start: int, end: int | None) -> Iterator[Record | Fault]:
    for found in read_warc(path, limits, start, end):
        record = to_record(found, name, limits) if isinstance(found, WarcRecord) else found
        if record is not None:
            yield record


def _crawl(
    folder: Path, name: str, limits: ReadLimits, start: int, end: int | None
) -> Iterator[Record | Fault]:
    """A crawl's pages in the order of discovery, unchanged ones from the earlier crawl that stored them."""
    if not (folder / INDEX).exists():
        yield Fault("", 0, "missing_file", f"{folder} has no {INDEX}")
    for entry in read_index(folder, start, end):
        found = read_entry(folder, entry, limits)
        record = to_record(found, f"{name}/{entry.file}", limits) if isinstance(found, WarcRecord) else found
        if record is not None:
            yield record


def site_files(path: Path) -> list[Path]:
    """A folder's pages and what lies with them (or the one file), sorted; not files that are sources of
    their own, and nothing hidden."""
    if path.is_file():
        return [path]
    return [found for found in files_below(path) if kind_of(found.name) in ("", "html")]


def files_below(folder: Path) -> list[Path]:
    """A folder's files, sorted: nothing hidden, as are what editors and macOS leave beside files, and not
    what lies in folders that are only linked to."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [os.path.join(place, name) for name in names if not name.startswith(".")]  # noqa: PTH118 (speed)
        found += [Path(path) for path in paths if os.path.isfile(path)]  # noqa: PTH113 (speed)
    return sorted(found)


def _html(path: Path, name: str, limits: ReadLimits, start: int, end: int | None) -> Iterator[Record | Fault]:
    """Each file as a page, or a fault; its address is ``file:///NAME/PATH``, wherever the folder lies."""
    for number, file in enumerate(site_files(path)[start:end], start):
        inside = "" if path.is_file() else f"/{spelt(file.relative_to(path))}"
        url = f"file:///{name}{inside}"
        try:
            content = _page_bytes(file, limits)
            yield Record(url, content, None, checked_type("text/html", content), "", None, name, number)
        except PayloadError as error:
            yield Fault(url, number, error.reason, error.detail)
        except OSError as error:
            yield Fault(url, number, "unreadable", str(error))


def _page_bytes(file: Path, limits: ReadLimits) -> bytes:
    if not file_kind(file):
        raise PayloadError("not_html", "a file beside pages that does not begin as one")
    size = file.stat().st_size
    if size > limits.record_bytes:
        raise PayloadError("too_large", f"{size} bytes, {limits.record_bytes} allowed")
    return unpacked(file.read_bytes(), limits.record_bytes)
