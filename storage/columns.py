"""Arrow columns made of Python values and back, for the types that parts of documents have.

``pa.array`` asks of every list whether it belongs to pandas, and imports pandas to ask, as does a timestamp
that becomes a Python value: half a second and 40 MB in each process. So the buffers are filled here, by
Arrow's columnar format. ``take`` and ``cast`` would import Arrow's functions, a tenth of a second.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MOST_BYTES = 2**31 - 1
"""Of a column of texts: its offsets are 32 bits wide."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME = pa.timestamp("us", tz="UTC")


def batch_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as a record batch; columns that are absent from a row are null in it."""
    columns = [column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def rows_at(batch: pa.RecordBatch, numbers: NDArray[np.int64]) -> pa.RecordBatch:
    """The rows of these numbers, which ascend."""
    if not len(numbers):
        return batch.slice(0, 0)
    gaps = np.flatnonzero(np.diff(numbers) != 1)
    starts = numbers[np.append(0, gaps + 1)].tolist()
    ends = numbers[np.append(gaps, len(numbers) - 1)].tolist()
    runs = [batch.slice(start, end + 1 - start) for start, end in zip(starts, ends, strict=True)]
    return pa.concat_batches(runs) if len(runs) > 1 else runs[0]


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """A record batch as rows; maps come as dicts, times in UTC."""
    values = [_values(each) for each in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*values, strict=True)]


def _values(array: pa.Array) -> list[Any]:
    if array.type != _TIME:
        return array.to_pylist(maps_as_pydicts="strict")  # type: ignore[no-any-return]
    since = array.view(pa.int64()).to_pylist()
    return [None if value is None else _EPOCH + timedelta(microseconds=value) for value in since]


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array of a type; None becomes null. Types that are not known here are left to Arrow.

    Raises TypeError, AttributeError or ValueError where a value is not of the type.
    """
    build = next((build for fits, build in _BUILDERS if fits(kind)), pa.array)
    return build(values, kind)


def _numbers(values: Sequence[Any], kind: pa.DataType, plain: Sequence[float], width: type) -> pa.Array:
    numbers = pa.py_buffer(np.array(plain, width))
    return pa.Array.from_buffers(kind, len(values), [_validity(values), numbers])


def _integers(values: Sequence[int | None], kind: pa.DataType) -> pa.Array:
    plain = [0 if value is None else operator.index(value) for value in values]
    return _numbers(values, kind, plain, np.int64)


def _floats(values: Sequence[float | None], kind: pa.DataType) -> pa.Array:
    plain = [0.0 if value is None else value for value in values]
    return _numbers(values, kind, plain, np.float32 if kind == pa.float32() else np.float64)


def _times(values: Sequence[datetime | None], kind: pa.DataType) -> pa.Array:
    plain = [0 if value is None else _microseconds(value) for value in values]
    return _numbers(values, kind, plain, np.int64)


def _microseconds(value: datetime) -> int:
    """Since 1970; a time without a zone is taken for UTC, as Arrow takes it."""
    return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _texts(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    return _bytes([None if value is None else value.encode("utf-8") for value in values], kind)


def _bytes(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    pieces = [value or b"" for value in values]
    buffers = [_validity(values), _offsets(pieces), pa.py_buffer(b"".join(pieces))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _blocks(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    width = kind.byte_width
    pieces = [bytes(width) if value is None else value for value in values]
    if any(len(piece) != width for piece in pieces):
        raise ValueError(f"a value has not the {width} bytes that its column holds")
    return pa.Array.from_buffers(kind, len(values), [_validity(values), pa.py_buffer(b"".join(pieces))])


Entries = Mapping[str, Any] | Sequence[tuple[str, Any]]
"""A map's names and values."""


def _maps(values: Sequence[Entries | None], kind: pa.DataType) -> pa.Array:
    entries = [list(value.items() if isinstance(value, Mapping) else value or ()) for value in values]
    keys = column([key for key, _ in chain.from_iterable(entries)], kind.key_type)
    items = column([item for _, item in chain.from_iterable(entries)], kind.item_type)
    fields = pa.struct([kind.key_field, kind.item_field])
    pairs = pa.Array.from_buffers(fields, len(keys), [None], children=[keys, items])
    buffers = [_validity(values), _offsets(entries)]
    return pa.Array.from_buffers(kind, len(values), buffers, children=[pairs])


def _offsets(pieces: Sequence[Sequence[Any] | bytes]) -> pa.Buffer:
    """Where each piece begins in all of them, and where the last ends."""
    ends = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=ends[1:])
    if ends[-1] > MOST_BYTES:
        raise ValueError(f"{ends[-1]:,} bytes are too many for one column of a row group")
    return pa.py_buffer(ends.astype(np.int32))


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    """One bit a value, the first in the lowest; None where no value is null."""
    there = [value is not None for value in values]
    return None if all(there) else pa.py_buffer(np.packbits(there, bitorder="little"))


_BUILDERS: tuple[
    tuple[Callable[[pa.DataType], bool], Callable[[Sequence[Any], pa.DataType], pa.Array]], ...
] = (
    (pa.types.is_string, _texts),
    (pa.types.is_binary, _bytes),
    (pa.types.is_fixed_size_binary, _blocks),
    (pa.types.is_map, _maps),
    (pa.types.is_int64, _integers),
    (pa.types.is_float32, _floats),
    (pa.types.is_float64, _floats),
    (lambda kind: bool(kind == _TIME), _times),
)
