"""Stages: which documents are kept from training.

``hold_out`` chooses the documents to evaluate on; its artifact is the identity of every comparison, so a
lineage of runs keeps the first one. ``exclude`` lists, for each corpus anew, what must not be trained on:
the held-out documents, whatever in that corpus repeats them, and what was taken down since. Training needs
the doc_id column of ``excluded.parquet`` and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.artifacts import Artifact
from storage.documents import PartWriter, read_batches, read_rows
from storage.schemas import DOCUMENTS, REJECTS, SIGNATURES
from tasks.stage import StageRun, stage
from tasks.text.dedup import NothingLeftError, signature_row, signatures_from_bytes
from tasks.text.dedup_config import HoldOutConfig
from tasks.text.dedup_held_out import Quotations, Selection, near_duplicates_of
from tasks.text.dedup_ledger import names_a_page
from tasks.web.takedown import REASON as TAKEN_DOWN
from tasks.web.takedown import match

HELD_OUT = "heldout.parquet"

EXCLUDED = pa.schema([field for field in REJECTS if field.name not in ("language", "excerpt")])
"""One row a document that must not be trained on, sorted by doc_id, each once: ``held_out``, ``taken_down``
(the rule in ``detail``), or in the corpus as the same page (``same_url``), nearly the same text
(``near_duplicate``, with the similarity) or a text that holds most (``quotation``, with the share) of the
held-out document whose doc_id is in ``detail``."""

REASONS = ("held_out", TAKEN_DOWN, "same_url", "near_duplicate", "quotation")


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
        PartWriter(run.path / HELD_OUT, DOCUMENTS) as documents,
        PartWriter(run.path / "signatures.parquet", SIGNATURES) as signatures,
    ):
        for _, row in sorted(rows.items()):
            documents.write(row)
            signatures.write(signature_row(row["doc_id"], row["text"]))
    run.rows.update({HELD_OUT: documents.rows, "signatures.parquet": signatures.rows})
    return _stats(list(rows.values()), selection)


@stage("exclude", summary="List what must not be trained on: the held-out documents and what repeats them")
def exclude(
    run: StageRun, corpus: Artifact, heldout: Artifact, config: HoldOutConfig, rules: Sequence[str] = ()
) -> dict[str, Any]:
    """Write ``excluded.parquet`` (see EXCLUDED).

    ``rules`` are those of the takedown list that mean a document of the corpus: one that was made before
    they were put there has it still.
    """
    documents, held_out = run.open(corpus), run.open(heldout)
    held = list(read_rows(held_out / HELD_OUT, ["doc_id", "url", "domain", "text"]))
    listed = {row["doc_id"]: {**_row(row["doc_id"], "held_out"), **_address(row)} for row in held}
    found = chain(
        _taken_down(documents, rules),
        _same_pages(documents, held),
        _near_duplicates(documents, held_out, config.near_threshold),
        _quoting(documents, held, config.contained) if config.contained else (),
    )
    for row in found:
        listed.setdefault(row["doc_id"], row)
    _add_addresses(documents, listed)
    with PartWriter(run.path / "excluded.parquet", EXCLUDED) as writer:
        writer.write_all(row for _, row in sorted(listed.items()))
    run.rows["excluded.parquet"] = writer.rows
    counts = Counter(row["reason"] for row in listed.values())
    return {"documents": writer.rows, **{reason: counts[reason] for reason in REASONS}}


def _taken_down(documents: Path, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    for part in _parts(documents) if rules else ():
        table = pq.read_table(part, columns=["doc_id", "url", "domain"])
        for rule in rules:
            for name in table.filter(match(table["url"], table["domain"], rule))["doc_id"].to_pylist():
                yield _row(name, TAKEN_DOWN, f"on the takedown list: {rule}")


def _same_pages(documents: Path, held: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    urls = {row["url"]: row["doc_id"] for row in held if names_a_page(row["url"])}
    for part in _parts(documents):
        for row in read_rows(part, ["doc_id", "url"]):
            if row["url"] in urls:
                yield _row(row["doc_id"], "same_url", urls[row["url"]])


def _near_duplicates(documents: Path, held_out: Path, threshold: float) -> Iterator[dict[str, Any]]:
    (own,) = _signatures([held_out / "signatures.parquet"], rows=2**31 - 1)
    batches = _signatures(sorted(documents.glob("signatures-*.parquet")))
    for leak in near_duplicates_of(own, batches, threshold):
        yield _row(leak.doc_id, "near_duplicate", leak.of, leak.similarity, threshold)


def _quoting(
    documents: Path, held: Iterable[Mapping[str, Any]], contained: float
) -> Iterator[dict[str, Any]]:
    quotations = Quotations((row["doc_id"], row["text"]) for row in held)
    for row in (row for part in _parts(documents) for row in read_rows(part, ["doc_id", "text"])):
        leak = quotations.quoted(row["doc_id"], row["text"], contained)
        if leak is not None:
            yield _row(leak.doc_id, "quotation", leak.of, leak.similarity, contained)


def _add_addresses(documents: Path, listed: Mapping[str, dict[str, Any]]) -> None:
    """Say of each document of the corpus that is listed where its page was."""
    wanted = pa.array(sorted(listed), pa.string())
    for part in _parts(documents):
        for batch in read_batches(part, ["doc_id", "url", "domain"], 4096):
            for row in batch.filter(pc.is_in(batch["doc_id"], value_set=wanted)).to_pylist():
                listed[row["doc_id"]].update(_address(row))


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


def _row(
    doc_id: str, reason: str, detail: str = "", value: float | None = None, threshold: float | None = None
) -> dict[str, Any]:
    found = {"value": value, "threshold": threshold, "detail": detail}
    return {"doc_id": doc_id, "stage": "exclude", "reason": reason, **found}


def _address(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"url": row["url"], "domain": row["domain"]}


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
