"""Parquet parts of documents, rejects and signatures: written in bounded row groups, read as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_BYTES = 4 * 2**20
"""Characters of text in a row group at most: with the bound on rows, it bounds what a writer holds."""
ROW_GROUP_ROWS = 512


class PartWriter:
    """Writes rows (dicts) of one schema to one Parquet file; use as a context manager.

    Rows are buffered up to a row group. Output is deterministic: the same rows give the same bytes.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.rows = 0
        self._buffer: list[Mapping[str, Any]] = []
        self._buffered_bytes = 0
        self._file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; columns that are absent become null (or fail, where null is not allowed)."""
        self._buffer.append(row)
        self._buffered_bytes += len(row.get("text") or "")
        self.rows += 1
        if len(self._buffer) >= ROW_GROUP_ROWS or self._buffered_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def write_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append many rows."""
        for row in rows:
            self.write(row)

    def _flush(self) -> None:
        if self._buffer:
            self._file.write_table(pa.Table.from_pylist(self._buffer, schema=self.schema))
            self._buffer, self._buffered_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._file.close()


def read_rows(
    path: Path, columns: list[str] | None = None, batch_rows: int = 512
) -> Iterator[dict[str, Any]]:
    """Stream a Parquet part's rows as dicts; maps come as dicts of name to value."""
    for batch in read_batches(path, columns, batch_rows):
        yield from batch.to_pylist(maps_as_pydicts="strict")


def read_batches(
    path: Path, columns: list[str] | None = None, batch_rows: int = 512
) -> Iterator[pa.RecordBatch]:
    """Stream a Parquet part as record batches of at most ``batch_rows`` rows."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=columns)


def count_rows(path: Path) -> int:
    """Rows of a Parquet part, from its footer alone."""
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)
