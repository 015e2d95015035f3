"""What deduplication must know of every document, on disk: records by number, and keys sorted by partition.

Nothing here grows in memory with the corpus: a record is 656 bytes on disk and none in memory, and keys are
spilled into partitions of which one at a time is sorted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from tasks.text.dedup import BINS, band_keys, signatures_from_bytes
from tasks.text.dedup_units import mix

RECORD_FIELDS: list[Any] = [
    ("doc_id", "S64"),
    ("text", "<u8", 4),
    ("url", "<u8", 2),
    ("length", "<i8"),
    ("fetched", "<i8"),  # microseconds since 1970; NEVER where unknown
    ("earlier", "<i8"),  # 1 for a document of an earlier run
    ("digest", "<u8"),  # equal for equal signatures and texts
    ("minhash", "<u4", BINS),
]
RECORD = np.dtype(RECORD_FIELDS)
NEVER = np.iinfo(np.int64).max
BLOCK = 64
"""Records read at a time when some are picked: 42 kB, about what a disk reads anyway."""
KEYED = np.dtype([("key", "<u8"), ("row", "<i8")])
MOST_PARTITIONS = 512
"""Open files a spill uses at most; past this partitions grow."""

Records = NDArray[Any]
"""A structured array of RECORD."""


def records_of(
    doc_ids: Sequence[str],
    urls: Sequence[str],
    text_sha256: Sequence[bytes],
    minhashes: Sequence[bytes],
    lengths: Sequence[int],
    fetched_us: Sequence[int | None],
    *,
    earlier: bool,
) -> Records:
    """Records of some documents, column by column; ``fetched_us`` is in microseconds since 1970.

    A document whose URL names no page has an address of its own.

    Raises ValueError where a column has a value of the wrong size.
    """
    records = np.zeros(len(doc_ids), RECORD)
    if any(len(name) > 64 for name in doc_ids):
        raise ValueError("a doc_id is longer than the 64 hex digits of a sha256")
    records["doc_id"] = [name.encode("ascii") for name in doc_ids]
    records["text"] = np.frombuffer(b"".join(text_sha256), "<u8").reshape(len(doc_ids), 4)
    pairs = zip(urls, doc_ids, strict=True)
    named = [url if names_a_page(url) else f"no address: {doc_id}" for url, doc_id in pairs]
    digests = b"".join(xxhash.xxh3_128_digest(url.encode("utf-8", "surrogatepass")) for url in named)
    records["url"] = np.frombuffer(digests, "<u8").reshape(len(doc_ids), 2)
    records["length"] = lengths
    records["fetched"] = [NEVER if at is None else at for at in fetched_us]
    records["earlier"] = earlier
    records["minhash"] = signatures_from_bytes(minhashes)
    records["digest"] = mix(band_keys(records["minhash"], 1, BINS)[:, 0] + records["text"][:, 0])
    return records


def names_a_page(url: str) -> bool:
    """Whether a URL stands for one page wherever it occurs; a row's or a file's (``file:///data.jsonl#7``) is
    another document's as soon as the file is another one of that name."""
    return bool(url) and not url.startswith("file:///")


class Ledger:
    """Records of all documents, numbered from 0 in the order in which they are added."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = (folder / "records.bin").open("w+b")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, records: Records) -> None:
        """Append records."""
        self._file.write(records.astype(RECORD, copy=False).tobytes())
        self._count += len(records)

    def scan(self, rows: int = 4096) -> Iterator[tuple[int, Records]]:
        """All records in order, as (number of the first, records) of at most ``rows``."""
        self._file.flush()
        for start in range(0, self._count, rows):
            yield start, self._read(start, min(rows, self._count - start))

    def pick(self, numbers: NDArray[np.int64], fields: list[str]) -> Records:
        """These fields of the records of these numbers, in their order."""
        self._file.flush()
        wanted, back = np.unique(numbers, return_inverse=True)
        picked = np.empty(len(wanted), np.dtype([field for field in RECORD_FIELDS if field[0] in fields]))
        cuts = np.flatnonzero(np.diff(wanted // BLOCK)) + 1
        for group in np.split(np.arange(len(wanted)), cuts) if len(wanted) else ():
            first, last = int(wanted[group[0]]), int(wanted[group[-1]])
            block = self._read(first, last - first + 1)[wanted[group] - first]
            for field in fields:
                picked[field][group] = block[field]
        return picked[back]

    def _read(self, start: int, count: int) -> Records:
        data = os.pread(self._file.fileno(), count * RECORD.itemsize, start * RECORD.itemsize)
        return np.frombuffer(data, RECORD)


class Spill:
    """Pairs of key and record number, given back grouped by key, one partition at a time."""

    def __init__(self, folder: Path, expected: int, partition_records: int) -> None:
        count = max(1, min(MOST_PARTITIONS, math.ceil(expected / partition_records)))
        self._paths = [folder / f"spill-{i:03}.bin" for i in range(count)]
        self._files = [path.open("wb") for path in self._paths]

    def add(self, keys: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
        """Append pairs, each to the partition of its key."""
        pairs = np.empty(len(keys), KEYED)
        pairs["key"], pairs["row"] = keys, rows
        if len(self._files) == 1:
            self._files[0].write(pairs.tobytes())
            return
        where = (keys >> np.uint64(32)) % np.uint64(len(self._files))
        order = np.argsort(where, kind="stable")
        bounds = np.searchsorted(where[order], np.arange(len(self._files) + 1))
        for number, file in enumerate(self._files):
            file.write(pairs[order[bounds[number] : bounds[number + 1]]].tobytes())

    def repeated(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
        """For each partition the pairs whose key occurs more than once, sorted by key; files are removed."""
        for file in self._files:
            file.close()
        for path in self._paths:
            pairs = np.fromfile(path, KEYED)
            path.unlink()
            pairs = pairs[np.argsort(pairs["key"], kind="stable")]
            keys = pairs["key"]
            several = np.zeros(len(keys), np.bool_)
            several[1:] = keys[1:] == keys[:-1]
            several[:-1] |= several[1:]
            yield keys[several], pairs["row"][several]
