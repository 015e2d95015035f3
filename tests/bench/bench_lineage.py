"""How long a page's or a domain's lineage takes on a million documents.

    python tests/bench/bench_lineage.py [DOCUMENTS]

Makes a corpus's artifacts (documents in ten Parquet parts, as many rejects' rows as a tenth, one token shard)
in a store of its own and asks what became of a page, of a domain of 100 pages, and of one that is not there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.tracing import Column, fates
from storage.artifacts import Artifact, Recipe
from storage.schemas import DOCUMENTS, REJECTS
from storage.store import Draft, open_store
from storage.token_shards import write_shard

PARTS, PER_DOMAIN, TOKENS = 10, 100, 8


def rows(first: int, count: int) -> dict[str, list[Any]]:
    """Identity columns of documents whose order says nothing of their addresses."""
    numbers = [(i * 2_654_435_761) % 2**32 for i in range(first, first + count)]
    domains = [f"d{i // PER_DOMAIN}.example" for i in range(first, first + count)]
    urls = [f"https://{domain}/{number:08x}" for domain, number in zip(domains, numbers, strict=True)]
    return {"doc_id": [f"{number:064x}" for number in numbers], "url": urls, "domain": domains}


def filled(schema: pa.Schema, columns: dict[str, list[Any]]) -> pa.Table:
    """A table of a schema: the columns given, all others empty."""
    count = len(columns["url"])
    empty = {pa.types.is_string: "", pa.types.is_int64: 0}

    def column(field: pa.Field) -> pa.Array:
        if field.name in columns:
            return pa.array(columns[field.name], field.type)
        value = next((v for kind, v in empty.items() if kind(field.type)), None if field.nullable else [])
        return pa.array([value] * count, field.type)

    return pa.table([column(field) for field in schema], schema=schema)


def documents(folder: Path, count: int) -> None:
    """Ten parts of documents and their rejects."""
    for part in range(PARTS):
        found = rows(part * count // PARTS, count // PARTS)
        pq.write_table(filled(DOCUMENTS, found), folder / f"part-{part:05}.parquet", compression="zstd")
        dropped = {name: values[: count // PARTS // 10] for name, values in found.items()}
        pq.write_table(filled(REJECTS, dropped), folder / f"rejects-{part:05}.parquet", compression="zstd")


def shard(folder: Path, count: int) -> None:
    """One token shard of all documents."""
    found = rows(0, count)
    write_shard(
        folder / "shard-00000.arrow",
        doc_ids=found["doc_id"],
        urls=found["url"],
        source_sha256=[bytes(32)] * count,
        ids=np.zeros(count * TOKENS, np.uint16),
        offsets=np.arange(0, (count + 1) * TOKENS, TOKENS),
        tokenizer="t",
        eos=0,
        vocab_size=300,
    )


def main() -> None:
    """Print seconds by question, the first one over cold readers."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(scratch)

        def make(kind: str, work: Any) -> Artifact:
            def fill(draft: Draft) -> dict[str, Any]:
                work(draft.path, count)
                return {}

            return store.make(Recipe(stage=kind, code={}, inputs={"count": count}), (), fill)

        artifacts = [make("deduplicate", documents), make("tokenize", shard)]
        known = rows(count // 2, 1)
        questions: tuple[tuple[Column, str], ...] = (
            ("url", known["url"][0]),
            ("domain", known["domain"][0]),
            ("url", "https://nowhere.example/"),
        )
        for column, value in questions:
            started = time.perf_counter()
            found = len(list(fates(store, artifacts, column, value)))
            seconds = time.perf_counter() - started
            print(f"{count:,} documents, --{column} {value}: {found} rows in {seconds:.2f} s")


if __name__ == "__main__":
    main()
