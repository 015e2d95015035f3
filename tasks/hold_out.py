"""Stages: which documents are kept from training.

``hold_out`` chooses the documents to evaluate on; its artifact is the identity of every comparison, so a
lineage of runs keeps the first one. ``exclude`` lists, for each corpus anew, what must not be trained on:
the held-out documents and whatever in that corpus repeats them. Training needs the doc_id column of
``excluded.parquet`` and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.artifacts import Artifact
from storage.documents import PartWriter, read_batches, read_rows
from storage.schemas import DOCUMENTS, SIGNATURES
from tasks.stage import StageRun, stage
from tasks.text.dedup import NothingLeftError, signature_row, signatures_from_bytes
from tasks.text.dedup_config import HoldOutConfig
from tasks.text.dedup_held_out import Quotations, Selection, near_duplicates_of

EXCLUDED = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("of", pa.string(), nullable=False),
        pa.field("value", pa.float32()),
    ]
)
"""One row a document that must not be trained on, sorted by doc_id, each once: ``held_out``, or in the
corpus as the same page (``same_url``), nearly the same text (``near_duplicate``, with the similarity) or a
text that holds most (``quotation``, with the share) of the held-out document ``of``."""

REASONS = ("held_out", "same_url", "near_duplicate", "quotation")


@stage("hold_out", summary="Choose the documents that are kept from training, to evaluate on")
def hold_out(run: StageRun, corpus: Artifact, config: HoldOutConfig) -> dict[str, Any]:
    """Write ``heldout.parquet``, sorted by doc_id, and its signatures.

    Raises NothingLeftError where the corpus has no document to train on beside one to evaluate on.
    """
    folder = run.open(corpus)
    selection = Selection(config)
    for part in _parts(folder):
        for row in read_rows(part, ["doc_id", "language", "text"]):
            selection.offer(row["doc_id"], row["language"] or "", len(row["text"].encode()))
    chosen = selection.chosen()
    if not chosen:
        raise NothingLeftError(
            f"The corpus has {selection.documents.total()} document(s); at least 2 are needed, one to train "
            f"on and one to evaluate on. Give more or larger sources."
        )
    rows = {row["doc_id"]: row for part in _parts(folder) for row in _chosen_rows(part, chosen)}
    with (
        PartWriter(run.path / "heldout.parquet", DOCUMENTS) as documents,
        PartWriter(run.path / "signatures.parquet", SIGNATURES) as signatures,
    ):
        for _, row in sorted(rows.items()):
            documents.write(row)
            signatures.write(signature_row(row["doc_id"], row["text"]))
    run.rows.update({"heldout.parquet": documents.rows, "signatures.parquet": signatures.rows})
    return _stats(list(rows.values()), selection)


@stage("exclude", summary="List what must not be trained on: the held-out documents and what repeats them")
def exclude(run: StageRun, corpus: Artifact, heldout: Artifact, config: HoldOutConfig) -> dict[str, Any]:
    """Write ``excluded.parquet`` (see EXCLUDED)."""
    documents, held_out = run.open(corpus), run.open(heldout)
    held = list(read_rows(held_out / "heldout.parquet", ["url", "doc_id", "text"]))
    urls = {row["url"]: row["doc_id"] for row in held}
    listed = {row["doc_id"]: _row(row["doc_id"], "held_out", row["doc_id"]) for row in held}
    for part in _parts(documents):
        for row in read_rows(part, ["doc_id", "url"]):
            if row["url"] and row["url"] in urls:
                listed.setdefault(row["doc_id"], _row(row["doc_id"], "same_url", urls[row["url"]]))
    (own,) = _signatures([held_out / "signatures.parquet"], rows=2**31 - 1)
    batches = _signatures(sorted(documents.glob("signatures-*.parquet")))
    for leak in near_duplicates_of(own, batches, config.near_threshold):
        listed.setdefault(leak.doc_id, _row(leak.doc_id, "near_duplicate", leak.of, leak.similarity))
    if config.contained:
        quotations = Quotations((row["doc_id"], row["text"]) for row in held)
        for row in (row for part in _parts(documents) for row in read_rows(part, ["doc_id", "text"])):
            quoted = quotations.quoted(row["doc_id"], row["text"], config.contained)
            if quoted is not None:
                listed.setdefault(
                    quoted.doc_id, _row(quoted.doc_id, "quotation", quoted.of, quoted.similarity)
                )
    with PartWriter(run.path / "excluded.parquet", EXCLUDED) as writer:
        writer.write_all(row for _, row in sorted(listed.items()))
    run.rows["excluded.parquet"] = writer.rows
    counts = Counter(row["reason"] for row in listed.values())
    return {"documents": writer.rows, **{reason: counts[reason] for reason in REASONS}}


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _chosen_rows(part: Path, chosen: frozenset[str]) -> Iterator[dict[str, Any]]:
    wanted = pa.array(sorted(chosen))
    for batch in read_batches(part):
        mask = pc.is_in(batch["doc_id"], value_set=wanted)
        yield from batch.filter(mask).to_pylist(maps_as_pydicts="strict")


def _signatures(paths: Sequence[Path], rows: int = 4096) -> Iterator[tuple[list[str], NDArray[np.uint32]]]:
    for path in paths:
        for batch in read_batches(path, ["doc_id", "minhash"], rows):
            yield batch["doc_id"].to_pylist(), signatures_from_bytes(batch["minhash"].to_pylist())


def _row(doc_id: str, reason: str, of: str, value: float | None = None) -> dict[str, Any]:
    return {"doc_id": doc_id, "reason": reason, "of": of, "value": value}


def _stats(rows: list[dict[str, Any]], selection: Selection) -> dict[str, Any]:
    languages = {
        language: {
            "documents_in": seen,
            "documents": sum((row["language"] or "") == language for row in rows),
            "bytes": sum(len(row["text"].encode()) for row in rows if (row["language"] or "") == language),
        }
        for language, seen in sorted(selection.documents.items())
    }
    return {
        "documents_in": selection.documents.total(),
        "documents": len(rows),
        "bytes": sum(entry["bytes"] for entry in languages.values()),
        "languages": languages,
    }
