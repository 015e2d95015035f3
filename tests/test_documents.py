"""Parts of documents hold the same bytes however their rows were handed over."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage import documents
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
