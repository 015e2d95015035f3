"""Stage ``ingest``: one source's records become documents; what cannot be had is kept with its reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from storage.artifacts import Artifact
from storage.documents import PartWriter, count_rows, read_rows
from storage.schemas import DOCUMENTS, REJECTS
from tasks.pool import Failure, map_isolated
from tasks.processors import processors
from tasks.reject_rows import reject_row
from tasks.stage import StageRun, stage
from tasks.text.extract import Extracted
from tasks.text.extract_config import ExtractConfig
from tasks.text.pages import clean_text, extract_page
from tasks.web.config import IngestConfig
from tasks.web.readers import kind_of, read_source, work_units
from tasks.web.records import Fault, Record
from tasks.web.sources import SourceRef
from tasks.web.urls import host_of

DOCUMENTS_FILE = "documents.parquet"
REJECTS_FILE = "rejects.parquet"
EXCERPT = 200
WORKER_MEMORY = 4 * 2**30
PAGES_SENT = 4
"""Pages that a worker is sent at a time: a megabyte."""
WITHOUT_TEXT = frozenset({"empty", "no_text"})
"""Reasons of pages that were read well and hold no main text."""
NOT_PAGES = WITHOUT_TEXT | {"http_status", "not_html", "record_type", "too_large"}
"""Reasons that say what a source holds; all others say that something is broken."""
CUT_SHORT = "cut_short"
"""The signal of a document whose page has no end, and under which name they are counted."""
FEWEST_TO_JUDGE = 20
ROW_KINDS = frozenset({"jsonl", "parquet", "hf"})


class TooManyFailuresError(ValueError):
    """So much of a source is broken, or without text, that going on would lose it in silence."""


@dataclass(frozen=True)
class Place:
    """Where a source's bytes are and how to read them."""

    name: str
    kind: str
    path: Path
    uri: str = ""


@stage("ingest", summary="Read a source and take the main text out of its pages", resumable=True)
def ingest(
    run: StageRun,
    source: SourceRef | Artifact,
    config: IngestConfig,
    extraction: ExtractConfig = ExtractConfig(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Write ``documents.parquet`` and ``rejects.parquet`` from one local source or one fetched artifact.

    Work is kept unit by unit, so that a run that was killed goes on where it was. Of the stats, ``reasons``
    count the rejects, and ``remarks`` the documents that were kept though something is amiss with them.
    """
    place = _place(run, source)
    units = work_units(place.path, place.kind, config)
    folder = run.path / ".units"
    done = _kept_units(folder, units)
    todo = [number for number in range(len(units)) if number not in done]
    streams = (
        read_source(place.path, place.uri, place.kind, config, *units[number], place.name) for number in todo
    )
    ready = place.kind == "wet" or (place.kind in ROW_KINDS and not config.html_field)
    found = text_rows(streams, extraction) if ready else page_rows(streams, config, extraction)
    taken = 0
    for number in todo:
        for _ in _write_unit(found, folder / f"{number:06}"):
            taken += 1
            run.progress(taken, None, "records")
    reasons = _merge(run, len(units))
    documents = run.rows[DOCUMENTS_FILE]
    _judge(place, documents, reasons, config, run.path / REJECTS_FILE)
    if not reasons.total():
        run.log.info("%d documents", documents)
    else:
        run.log.info("%d documents, %d rejects", documents, reasons.total())
    return {
        "records": documents + reasons.total(),
        "documents": documents,
        "rejects": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
        "remarks": _remarks(run.path / DOCUMENTS_FILE),
        "source": place.name,
    }


def _place(run: StageRun, source: SourceRef | Artifact) -> Place:
    if isinstance(source, SourceRef):
        return Place(source.name, source.kind, Path(source.uri), source.uri)
    folder, name = run.open(source), str(source.stats["source"])
    if source.stats["kind"] == "crawl":
        return Place(name, "crawl", folder)
    return Place(name, kind_of(name), folder / str(source.stats["file"]))


def _kept_units(folder: Path, units: list[tuple[int, int | None]]) -> set[int]:
    """Numbers of the units that an earlier attempt finished; none where it cut the source otherwise."""
    plan = folder / "plan.json"
    said = json.dumps(units)
    if not plan.exists() or plan.read_text(encoding="utf-8") != said:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        plan.write_text(said, encoding="utf-8")
    return {int(path.name.partition(".")[0]) for path in folder.glob("*.done")}


def _write_unit(found: Iterator[dict[str, Any] | None], base: Path) -> Iterator[None]:
    """Take rows up to the end of a unit into its two files, telling of each; the unit's mark comes last."""
    paths = [base.with_suffix(".documents"), base.with_suffix(".rejects")]
    with PartWriter(paths[0], DOCUMENTS) as documents, PartWriter(paths[1], REJECTS) as rejects:
        while (row := next(found)) is not None:
            (rejects if "reason" in row else documents).write(row)
            yield
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # the mark must not outlive the files at a power failure
    base.with_suffix(".done").touch()


Streams = Iterable[Iterator[Record | Fault]]
"""The records of unit after unit."""


def text_rows(streams: Streams, extraction: ExtractConfig) -> Iterator[dict[str, Any] | None]:
    """Documents and rejects (those have a ``reason``) of records that are text already; None ends a unit."""
    for records in streams:
        for record in records:
            if isinstance(record, Fault):
                yield reject(record)
            else:
                yield _row(record, extract_page(record, extraction), None)
        yield None


def page_rows(
    streams: Streams, config: IngestConfig, extraction: ExtractConfig
) -> Iterator[dict[str, Any] | None]:
    """Documents and rejects of records that are pages, in their order; None ends a unit.

    Pages go through worker processes, where a crash or an endless loop of the parser costs one page.
    """
    waiting: deque[tuple[int, Fault | None]] = deque()
    sent: deque[int] = deque()

    def pages() -> Iterator[Record]:
        counter = count()
        for records in streams:
            for record in records:
                number = next(counter)
                if isinstance(record, Fault):
                    waiting.append((number, record))
                else:
                    sent.append(number)
                    yield record
            waiting.append((next(counter), None))

    outcomes = map_isolated(
        partial(extract_page, config=extraction),
        pages(),
        workers=config.parallel.workers or processors(),
        timeout_s=config.parallel.page_seconds,
        chunk=PAGES_SENT,
        memory_bytes=WORKER_MEMORY,
    )
    for outcome in outcomes:
        number = sent.popleft()
        while waiting and waiting[0][0] < number:
            yield _passed(waiting.popleft()[1])
        yield _row(outcome.item, outcome.value, outcome.error)
    for _, fault in waiting:
        yield _passed(fault)


def _passed(fault: Fault | None) -> dict[str, Any] | None:
    return None if fault is None else reject(fault)


def _row(record: Record, found: Extracted | None, error: Failure | None) -> dict[str, Any]:
    if found is not None and found.text:
        return document(record, found)
    if error is not None:
        return reject(Fault(record.url, record.offset, error.reason, error.detail))
    return reject(Fault(record.url, record.offset, "no_text", "the page has no main content"))


def document(record: Record, found: Extracted) -> dict[str, Any]:
    """A row of DOCUMENTS."""
    url = clean_text(record.url)
    return {
        "doc_id": hashlib.sha256(f"{url}\n{found.text}".encode()).hexdigest(),
        "url": url,
        "domain": host_of(url),
        "fetched_at": record.fetched_at,
        "source_file": record.source_file,
        "source_offset": record.offset,
        "title": found.title or clean_text(record.title),
        "date": found.date or clean_text(record.date),
        "author": found.author or clean_text(record.author),
        "charset": found.charset,
        "stated_language": found.language_hint,
        "language": "",
        "language_score": None,
        "text": found.text,
        "signals": [(CUT_SHORT, 1.0)] if record.cut_short else [],
    }


def reject(fault: Fault) -> dict[str, Any]:
    """A row of REJECTS; without a text, its ``doc_id`` is over the address and the place."""
    url, detail = clean_text(fault.url), clean_text(f"{fault.detail} (at {fault.offset})")
    return reject_row("ingest", url, fault.reason, detail, f"{url}\n{fault.offset}\n{fault.reason}")


def _merge(run: StageRun, units: int) -> Counter[str]:
    """One file of documents and one of rejects from the units' files; how many rejects, by reason."""
    for kind, name, schema in (("documents", DOCUMENTS_FILE, DOCUMENTS), ("rejects", REJECTS_FILE, REJECTS)):
        target, parts = run.path / name, [run.path / ".units" / f"{n:06}.{kind}" for n in range(units)]
        target.unlink(missing_ok=True)
        if units == 1:
            os.link(parts[0], target)
        else:
            with PartWriter(target, schema) as merged:
                merged.write_all(row for part in parts for row in read_rows(part))
        run.rows[name] = count_rows(target)
    return Counter(row["reason"] for row in read_rows(run.path / REJECTS_FILE, columns=["reason"]))


def _remarks(documents: Path) -> dict[str, int]:
    """How many documents each remark was made of."""
    cut = sum(CUT_SHORT in row["signals"] for row in read_rows(documents, columns=["signals"]))
    return {CUT_SHORT: cut} if cut else {}


def _first(rejects: Path, reasons: Collection[str]) -> str:
    """What was said of the first record that was rejected for one of the reasons."""
    rows = read_rows(rejects, columns=["reason", "detail"])
    return next(str(row["detail"]) for row in rows if row["reason"] in reasons)


def _judge(place: Place, documents: int, reasons: Counter[str], config: IngestConfig, rejects: Path) -> None:
    broken = {name: count for name, count in reasons.most_common() if name not in NOT_PAGES}
    total, failed = documents + reasons.total(), sum(broken.values())
    if total >= FEWEST_TO_JUDGE and failed > config.max_failed_share * total:
        listed = ", ".join(f"{name} {count}" for name, count in broken.items())
        raise TooManyFailuresError(
            f"{place.name}: {failed} of {total} records are broken or failed ({listed}); "
            f"ingest.max_failed_share allows {config.max_failed_share:g}. The first: "
            f"{_first(rejects, broken)}. Mend the source, or allow more."
        )
    empty = sum(reasons[name] for name in WITHOUT_TEXT)
    pages = documents + empty
    if pages >= FEWEST_TO_JUDGE and empty > config.max_empty_share * pages:
        rows = place.kind in ROW_KINDS and not config.html_field
        mend = "Name the column with the text in ingest.text_field" if rows else "Try another extract.mode"
        raise TooManyFailuresError(
            f"{place.name}: {empty} of {pages} {'rows' if rows else 'pages'} hold no text; "
            f"ingest.max_empty_share allows {config.max_empty_share:g}. The first: "
            f"{_first(rejects, WITHOUT_TEXT)}. {mend}, leave the source out, or allow more."
        )
