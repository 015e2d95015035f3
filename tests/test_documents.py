"""Parts of documents hold the same bytes however their rows were handed over."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage import documents
from storage.columns import batch_of, column, rows_of
from storage.documents import PartWriter, read_batches, read_rows
from storage.schemas import DOCUMENTS, SIGNATURES


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "doc_id": f"{number:064x}",
            "url": f"https://h.example/{number}",
            "domain": "h.example",
            "source_file": "part",
            "source_offset": number,
            "language_score": None if number % 3 else 0.5,
            "text": "文a" * (number % 7 * 40),
            "signals": [("words", float(number)), ("lines", 1.0)] if number % 2 else [],
        }
        for number in range(count)
    ]


def by_row(path: Path, given: list[dict[str, Any]]) -> bytes:
    with PartWriter(path, DOCUMENTS) as writer:
        writer.write_all(given)
    assert writer.rows == len(given)
    return path.read_bytes()


@pytest.mark.parametrize("step", [1, 7, 50, 1000])
def test_batches_give_the_bytes_that_rows_give(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "ROW_GROUP_ROWS", 40)
    monkeypatch.setattr(documents, "ROW_GROUP_BYTES", 6000)
    given = rows(200)
    wanted = by_row(tmp_path / "rows.parquet", given)
    with PartWriter(tmp_path / "batches.parquet", DOCUMENTS) as writer:
        for batch in read_batches(tmp_path / "rows.parquet", batch_rows=step):
            writer.write_batch(batch)
    assert writer.rows == len(given)
    assert (tmp_path / "batches.parquet").read_bytes() == wanted


def test_rows_and_batches_may_follow_each_other(tmp_path: Path) -> None:
    given = rows(30)
    wanted = by_row(tmp_path / "rows.parquet", given)
    whole = pa.RecordBatch.from_pylist(given, schema=DOCUMENTS)
    with PartWriter(tmp_path / "mixed.parquet", DOCUMENTS) as writer:
        writer.write_all(given[:10])
        writer.write_batch(whole.slice(10, 5))
        writer.write_batch(whole.slice(15, 0))
        writer.write_all(given[15:])
    assert (tmp_path / "mixed.parquet").read_bytes() == wanted
    assert [row["source_offset"] for row in read_rows(tmp_path / "mixed.parquet")] == list(range(30))


def test_a_schema_without_text_is_written_in_batches_too(tmp_path: Path) -> None:
    signature = {"doc_id": "0", "text_sha256": bytes(32), "minhash": b"", "length": 3}
    with PartWriter(tmp_path / "signatures.parquet", SIGNATURES) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([signature] * 3, schema=SIGNATURES))
    assert list(read_rows(tmp_path / "signatures.parquet")) == [signature] * 3


NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, UTC)
CHINA = timezone(timedelta(hours=8))
COLUMNS = [
    (pa.string(), ["", "文\u0000a", None, "z" * 300]),
    (pa.binary(), [b"", None, b"\x00\xff"]),
    (pa.binary(2), [b"ab", None, b"\x00\xff"]),
    (pa.int64(), [0, None, -(2**63), 2**63 - 1]),
    (pa.float32(), [0.1, None, 1, float("inf"), -0.0]),
    (pa.float64(), [0.1, None, 1e300]),
    (
        pa.timestamp("us", tz="UTC"),
        [NOON, None, NOON.astimezone(timezone(timedelta(hours=8))), datetime(1969, 1, 1)],
    ),
    (pa.map_(pa.string(), pa.float32()), [{"a": 0.1, "b": None}, None, {}, [("c", 2.0)], []]),
    (pa.list_(pa.int64()), [[1, 2], None, []]),
]


@pytest.mark.parametrize(("kind", "values"), COLUMNS, ids=[str(kind) for kind, _ in COLUMNS])
@pytest.mark.parametrize("count", [0, 1, 9, 100])
def test_columns_are_those_that_arrow_makes(kind: pa.DataType, values: list[Any], count: int) -> None:
    given = (values * 50)[:count]
    made = column(given, kind)
    made.validate(full=True)
    assert made.equals(pa.array(given, kind))
    assert made.type == kind


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.string(), 1), (pa.int64(), 1.5), (pa.binary(2), b"abc"), (pa.float32(), "x")]
)
def test_values_of_another_type_are_refused(kind: pa.DataType, value: Any) -> None:
    with pytest.raises((TypeError, AttributeError, ValueError)):
        column([value], kind)


def test_rows_come_back_as_arrow_gives_them() -> None:
    given = [{**row, "fetched_at": NOON if row["source_offset"] % 2 else None} for row in rows(20)]
    batch = batch_of(given, DOCUMENTS)
    assert rows_of(batch) == batch.to_pylist(maps_as_pydicts="strict")


def test_parts_are_written_and_read_without_pandas(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom datetime import UTC, datetime\n"
        "from storage.documents import PartWriter, read_rows\nfrom storage.schemas import DOCUMENTS\n"
        "row = dict.fromkeys(DOCUMENTS.names, '')\n"
        "row |= {'source_offset': 1, 'language_score': 0.5, 'signals': {}}\n"
        f"path = Path({str(tmp_path / 'part.parquet')!r})\n"
        "with PartWriter(path, DOCUMENTS) as part:\n"
        "    part.write({**row, 'fetched_at': datetime.now(UTC)})\n"
        "assert len(list(read_rows(path))) == 1\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("module", ["flows.cli", "tasks.deduplicate", "storage.columns"])
def test_arrow_takes_the_allocator_that_gives_back_whatever_is_imported_first(module: str) -> None:
    program = f"import {module}, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    environment = {k: v for k, v in os.environ.items() if k != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "system"
