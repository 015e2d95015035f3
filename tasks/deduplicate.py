"""Stage: all cleaned parts, and those of earlier runs, become a corpus without duplicates.

For each cleaned part (``kept*.parquet`` with ``signatures*.parquet``) the corpus has ``part-00000.parquet``,
``rejects-00000.parquet`` and ``signatures-00000.parquet``: what stayed, what went and in whose favour, and
the signatures of the texts as they are now. ``repeated.parquet`` shows which lines were taken out.

Memory holds a byte a document, the edges between duplicates and the lines that repeat; all else is on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from storage.artifacts import Artifact
from storage.columns import batch_of, column, rows_at, rows_of
from storage.documents import PartWriter, count_rows, read_batches
from storage.schemas import DOCUMENTS, REJECTS, SIGNATURES
from tasks.stage import StageRun, stage
from tasks.text.boilerplate import LineCounter, RepeatedLines, Stripped
from tasks.text.dedup import NothingLeftError, signature_row
from tasks.text.dedup_cluster import KINDS, Verdicts, cluster
from tasks.text.dedup_config import DeduplicateConfig
from tasks.text.dedup_ledger import Ledger, records_of
from tasks.text.dedup_tally import Tally

BATCH_ROWS = 512
ABOUT = ["doc_id", "url", "domain", "language", "text"]
"""Columns that are looked at row by row; the others are handed on as they are."""
REPEATED = pa.schema([("domain", pa.string()), ("pages", pa.int64()), ("line", pa.string())])
"""The most repeated of the lines that were removed, at most 1,000, most pages first."""


@dataclass(frozen=True)
class CleanPart:
    """One file of documents with the file of their signatures, row for row."""

    documents: Path
    signatures: Path
    rows: int


@dataclass(frozen=True)
class Judged:
    """What was found out about all documents before any is written."""

    ledger: Ledger
    verdicts: Verdicts
    lines: RepeatedLines | None
    config: DeduplicateConfig


@stage("deduplicate", summary="Drop duplicates and repeated lines across all parts")
def deduplicate(
    run: StageRun, parts: list[Artifact], config: DeduplicateConfig, earlier: Sequence[Artifact] = ()
) -> dict[str, Any]:
    """Make the corpus from cleaned ``parts``; documents of ``earlier`` corpora win and are not repeated.

    Raises NothingLeftError, with the counts by reason, where no document is left.
    """
    found = [part for artifact in parts for part in parts_of(run.open(artifact), "kept")]
    former = [part for artifact in earlier for part in parts_of(run.open(artifact), "part-")]
    total = sum(part.rows for part in found)
    work = run.path / ".work"
    with Ledger(work) as ledger:
        for part in found:
            enter(ledger, part)
        for part in former:
            enter(ledger, part, earlier=True)
        run.log.info("%d documents, %d of earlier runs", total, len(ledger) - total)
        verdicts = cluster(ledger, config)
        lines = _repeated_lines(found, ledger, verdicts, config, work)
        tally = _write_parts(run, found, Judged(ledger, verdicts, lines, config))
    with PartWriter(run.path / "repeated.parquet", REPEATED) as writer:
        for pages, domain, line in lines.examples() if lines else ():
            writer.write({"domain": domain, "pages": pages, "line": line[:200]})
    stats = {**tally.stats(), "clusters": verdicts.clusters, "largest_cluster": verdicts.largest}
    if not tally.documents:
        raise NothingLeftError(_nothing_left(parts, stats))
    return stats


def parts_of(folder: Path, prefix: str) -> list[CleanPart]:
    """The document files of a folder whose name starts with ``prefix``, each with its signatures.

    Raises FileNotFoundError where there is none, or one without its signatures.
    """
    found = []
    for documents in sorted(folder.glob(f"{prefix}*.parquet")):
        suffix = documents.name.removeprefix(prefix)
        signatures = folder / ("signatures-" if prefix.endswith("-") else "signatures")
        found.append(CleanPart(documents, Path(f"{signatures}{suffix}"), count_rows(documents)))
        if not found[-1].signatures.exists():
            raise FileNotFoundError(f"{documents} has no signatures beside it ({found[-1].signatures.name})")
    if not found:
        raise FileNotFoundError(f"{folder} has no {prefix}*.parquet")
    return found


def enter(ledger: Ledger, part: CleanPart, *, earlier: bool = False) -> None:
    """Add a part's documents to the ledger.

    Raises ValueError where the signatures are not those of the documents, row for row.
    """
    columns = ["doc_id", "url", "fetched_at"]
    documents = read_batches(part.documents, columns, BATCH_ROWS)
    for batch, signatures in zip(documents, read_batches(part.signatures, None, BATCH_ROWS), strict=True):
        doc_ids = batch["doc_id"].to_pylist()
        if doc_ids != signatures["doc_id"].to_pylist():
            raise ValueError(f"{part.signatures} does not follow the rows of {part.documents.name}")
        ledger.add(
            records_of(
                doc_ids,
                batch["url"].to_pylist(),
                signatures["text_sha256"].to_pylist(),
                signatures["minhash"].to_pylist(),
                signatures["length"].to_pylist(),
                batch["fetched_at"].view(pa.int64()).to_pylist(),
                earlier=earlier,
            )
        )


def _surviving(
    part: CleanPart, start: int, verdicts: Verdicts, columns: list[str] | None
) -> Iterator[tuple[int, pa.RecordBatch, np.ndarray[Any, np.dtype[np.bool_]]]]:
    """A part's batches: number of the first document, the batch, and which of its rows stay."""
    for batch in read_batches(part.documents, columns, BATCH_ROWS):
        stays = np.ones(batch.num_rows, np.bool_)
        stays[verdicts.rows[verdicts.between(start, start + batch.num_rows)] - start] = False
        yield start, batch, stays
        start += batch.num_rows


def _all_surviving(
    parts: list[CleanPart], verdicts: Verdicts, columns: list[str] | None
) -> Iterator[tuple[int, pa.RecordBatch, np.ndarray[Any, np.dtype[np.bool_]]]]:
    """As :func:`_surviving`, of all parts."""
    start = 0
    for part in parts:
        yield from _surviving(part, start, verdicts, columns)
        start += part.rows


def _repeated_lines(
    parts: list[CleanPart], ledger: Ledger, verdicts: Verdicts, config: DeduplicateConfig, work: Path
) -> RepeatedLines | None:
    if not config.boilerplate.enabled:
        return None
    expected = sum(int(records["length"].sum()) for _, records in ledger.scan()) // 40
    counter = LineCounter(work, expected, config.reduce.partition_records)
    pages: Counter[str] = Counter()
    for _, batch, stays in _all_surviving(parts, verdicts, ["domain"]):
        pages.update(rows_at(batch, np.flatnonzero(stays))["domain"].to_pylist())
    for _, batch, stays in _all_surviving(parts, verdicts, ["domain", "doc_id", "text"]):
        # A line cannot stand on more pages than its domain has.
        many = [pages[domain] >= config.boilerplate.min_pages for domain in batch["domain"].to_pylist()]
        for row in rows_of(rows_at(batch, np.flatnonzero(stays & np.array(many, np.bool_)))):
            counter.add(row["domain"], row["doc_id"], row["text"])
    return counter.repeated(config.boilerplate)


def _write_parts(run: StageRun, parts: list[CleanPart], judged: Judged) -> Tally:
    """Write every part's files, some side by side: Arrow reads and compresses without Python's lock."""
    starts = list(accumulate((part.rows for part in parts), initial=0))

    def write(number: int) -> tuple[Tally, dict[str, int]]:
        with _Writing(run.path, number) as writing:
            writing.write(parts[number], starts[number], judged)
        return writing.tally, writing.rows()

    total = Tally()
    with ThreadPoolExecutor(judged.config.reduce.threads) as threads:
        for tally, rows in threads.map(write, range(len(parts))):
            total.add(tally)
            run.rows.update(rows)
            run.progress(total.documents_in, starts[-1], "documents")
    return total


class _Writing:
    """The three files of one output part, and the count of what went into them."""

    def __init__(self, folder: Path, number: int) -> None:
        self._suffix, self.tally = f"-{number:05}.parquet", Tally()
        self._kept = PartWriter(folder / f"part{self._suffix}", DOCUMENTS)
        self._rejects = PartWriter(folder / f"rejects{self._suffix}", REJECTS)
        self._signatures = PartWriter(folder / f"signatures{self._suffix}", SIGNATURES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        for writer in (self._kept, self._rejects, self._signatures):
            writer.__exit__(*error)

    def rows(self) -> dict[str, int]:
        """Rows by file name."""
        writers = {"part": self._kept, "rejects": self._rejects, "signatures": self._signatures}
        return {f"{name}{self._suffix}": writer.rows for name, writer in writers.items()}

    def write(self, part: CleanPart, first: int, judged: Judged) -> None:
        """Write a part's documents, each to where it belongs, in the order of the part."""
        lines, tally = judged.lines, self.tally
        signatures = read_batches(part.signatures, None, BATCH_ROWS)
        for start, batch, stays in _surviving(part, first, judged.verdicts, None):
            rejects = _duplicates(judged, start, batch)
            kept: list[tuple[int, Stripped | None]] = []
            for number, (row, stayed) in enumerate(
                zip(rows_of(batch.select(ABOUT)), stays.tolist(), strict=True)
            ):
                tally.came(row)
                stripped = (
                    lines.strip(row["domain"], row["doc_id"], row["text"]) if stayed and lines else None
                )
                reject = _too_short(row, stripped, judged.config) if stayed else next(rejects)
                if reject is None:
                    kept.append((number, stripped))
                    tally.stayed(row if stripped is None else {**row, "text": stripped.text}, stripped)
                else:
                    tally.went(row, reject["reason"])
                    self._rejects.write({**_about(row), **reject})
            self._keep(batch, next(signatures), kept)

    def _keep(
        self, batch: pa.RecordBatch, signatures: pa.RecordBatch, kept: list[tuple[int, Stripped | None]]
    ) -> None:
        """Write these rows of a batch; those that lost lines with the text that is left and its signature."""
        numbers = np.array([number for number, _ in kept], np.int64)
        batch, signatures = rows_at(batch, numbers), rows_at(signatures, numbers)
        changed = {at: found.text for at, (_, found) in enumerate(kept) if found is not None and found.lines}
        if changed:
            texts = batch["text"].to_pylist()
            doc_ids, rows = batch["doc_id"].to_pylist(), rows_of(signatures)
            for at, text in changed.items():
                texts[at], rows[at] = text, signature_row(doc_ids[at], text)
            place = batch.schema.get_field_index("text")
            batch = batch.set_column(place, batch.schema.field(place), column(texts, pa.string()))
            signatures = batch_of(rows, signatures.schema)
        self._kept.write_batch(batch)
        self._signatures.write_batch(signatures)


def _too_short(
    row: dict[str, Any], stripped: Stripped | None, config: DeduplicateConfig
) -> dict[str, Any] | None:
    """What rejects a document of which too little is left without its repeated lines."""
    least = config.boilerplate.min_characters_left
    if stripped is None or not stripped.lines or (left := stripped.letters_left) >= least:
        return None
    detail = f"{stripped.lines} lines repeat on other pages of {row['domain']}"
    return {"reason": "repeated_lines", "value": left, "threshold": least, "detail": detail}


def _duplicates(judged: Judged, start: int, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Why each duplicate of a batch goes: the reason, how similar it is, and which document stays."""
    verdicts, threshold = judged.verdicts, judged.config.near_threshold
    here = verdicts.between(start, start + batch.num_rows)
    survivors = judged.ledger.pick(verdicts.survivors[here], ["doc_id", "earlier"])
    for kind, likeness, survivor in zip(
        verdicts.kinds[here], verdicts.similarities[here], survivors, strict=True
    ):
        near = KINDS[kind] == "near_duplicate"
        yield {
            "reason": KINDS[kind] + ("_of_earlier_run" if survivor["earlier"] else ""),
            "value": float(likeness) if near else None,
            "threshold": threshold if near else None,
            "detail": survivor["doc_id"].decode("ascii"),
        }


def _about(row: dict[str, Any]) -> dict[str, Any]:
    """The columns by which a reject is found again."""
    about = {name: row[name] for name in ("doc_id", "url", "domain", "language")}
    return {**about, "stage": "deduplicate", "excerpt": row["text"][:200]}


def _nothing_left(parts: list[Artifact], stats: dict[str, Any]) -> str:
    reasons: Counter[str] = Counter(stats["rejected"])
    for part in parts:
        counts = part.stats.get("rejected")
        reasons.update(counts if isinstance(counts, dict) else {})
    lines = "\n".join(f"  {count:>8,}  {reason}" for reason, count in reasons.most_common())
    return (
        f"No document is left to train on: {stats['documents_in']:,} came out of cleaning and none out of "
        f"deduplication. What went, by reason:\n{lines or '  the sources held no document at all'}\n"
        f"Give other sources, or loosen the rule at the top (`modelmill why URL` tells of one page)."
    )
