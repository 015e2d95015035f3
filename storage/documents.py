"""Parquet parts of documents, rejects and signatures: written in bounded row groups, read as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from storage.columns import batch_of, rows_of
from storage.memory import give_back

ROW_GROUP_BYTES = 4 * 2**20
"""Characters of text in a row group at most: with the bound on rows, it bounds what a writer holds."""
ROW_GROUP_ROWS = 512
READ_BYTES = 2**16
"""Of a column that are read at a time."""


class PartWriter:
    """Writes rows (dicts) of one schema to one Parquet file; use as a context manager.

    Rows are buffered up to a row group. Output is deterministic: the same rows give the same bytes, however
    they are handed over.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.rows = 0
        self._batches: list[pa.RecordBatch] = []
        self._buffer: list[Mapping[str, Any]] = []
        self._buffered_rows = self._buffered_bytes = 0
        self._file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row; columns that are absent become null (or fail, where null is not allowed)."""
        self._buffer.append(row)
        if self._is_full(len(row.get("text") or "")):
            self._flush()

    def write_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append many rows."""
        for row in rows:
            self.write(row)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch of this schema: no Python object is made of a row."""
        import pyarrow.compute as pc  # here: it would take a twentieth of a second of every start

        self._gather()
        texts = batch.schema.get_field_index("text")
        sizes = pc.utf8_length(batch.column(texts)).to_pylist() if texts >= 0 else [0] * batch.num_rows
        start = 0
        for number, size in enumerate(sizes, 1):
            if self._is_full(size):
                self._batches.append(batch.slice(start, number - start))
                self._flush()
                start = number
        if start < batch.num_rows:
            self._batches.append(batch.slice(start))

    def _is_full(self, size: int) -> bool:
        """Count a row with so many characters of text; whether the row group ends with it."""
        self.rows += 1
        self._buffered_rows += 1
        self._buffered_bytes += size
        return self._buffered_rows >= ROW_GROUP_ROWS or self._buffered_bytes >= ROW_GROUP_BYTES

    def _gather(self) -> None:
        if self._buffer:
            self._batches.append(batch_of(self._buffer, self.schema))
            self._buffer = []

    def _flush(self) -> None:
        self._gather()
        if self._batches:
            table = pa.Table.from_batches(self._batches, self.schema)
            self._file.write_table(table.combine_chunks())
            del table
        self._batches, self._buffered_rows, self._buffered_bytes = [], 0, 0
        give_back()

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
        yield from rows_of(batch)


def read_batches(
    path: Path, columns: list[str] | None = None, batch_rows: int = 512
) -> Iterator[pa.RecordBatch]:
    """Stream a Parquet part as record batches of at most ``batch_rows`` rows."""
    # Arrow would read a file ahead, and hold as much of it as there is.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
        # In this thread alone: parts are read side by side, and Arrow's threads keep memory of their own.
        yield from file.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False)


def count_rows(path: Path) -> int:
    """Rows of a Parquet part, from its footer alone."""
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)
