"""Stage ``fetch``: what is somewhere else is brought here: crawls as WARC, remote files as they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from storage.artifacts import Artifact, digest_json
from storage.documents import PartWriter
from storage.schemas import REJECTS
from storage.store import Store, open_store
from tasks.fetched import begin_fetch
from tasks.fingerprint import canonical
from tasks.reject_rows import reject_row
from tasks.stage import PartFailure, StageRun, stage
from tasks.web.buckets import copy_object
from tasks.web.config import CrawlConfig, IngestConfig
from tasks.web.crawl import CrawlReport, Failure, crawl
from tasks.web.download import download
from tasks.web.fetch import PASSING, RETRY_STATUSES
from tasks.web.freshness import is_fresh
from tasks.web.pydoc_site import HOST, pydoc_crawl, pydoc_servers
from tasks.web.sources import SourceRef, resolve_all

REJECTS_FILE = "rejects.parquet"
VERSION = "version.json"
FILE = "file"
"""Folder of a file that was brought: apart, as it may be called as what the store writes beside it is."""


@stage("fetch", summary="Crawl a site into WARC, or bring a remote file here", resumable=True)
def fetch(run: StageRun, source: SourceRef, config: CrawlConfig, asked: str) -> dict[str, Any]:
    """Fetch one source. ``asked`` says as of when: it makes a later fetch another artifact."""
    if source.kind == "s3":  # another version of an object is another source
        return _file(run, source, config, None)
    previous = begin_fetch(run.store, source, run.key)
    earlier = run.open(previous) if previous else None
    if source.kind in ("crawl", "pydoc"):
        return _crawl(run, source, config, earlier)
    return _file(run, source, config, earlier)


def _crawl(run: StageRun, source: SourceRef, config: CrawlConfig, earlier: Path | None) -> dict[str, Any]:
    left = _left(run.path)
    if source.kind == "pydoc":
        seeds, settings = pydoc_crawl(source.seeds, config)
        with pydoc_servers() as ports:
            report = crawl(seeds, settings, run.path, run.progress, earlier, {HOST: ports}, left)
    else:
        report = crawl(source.seeds, config, run.path, run.progress, earlier, left=left)
    if not (report.statuses["200"] or report.statuses["304"]):
        for path in _left(run.path):
            path.unlink()  # refusals need not last: the next attempt asks again
        raise _nothing(source, report)
    run.identity = report.identity
    lost = [failure for failure in report.failures if not failure.kept]
    with PartWriter(run.path / REJECTS_FILE, REJECTS) as rejects:
        rejects.write_all(_reject(each.url, each.reason, each.detail) for each in lost)
        rejects.write_all(_reject(url, "robots", "robots.txt forbids it") for url in report.forbidden)
    run.rows[REJECTS_FILE] = rejects.rows
    kept = len(report.failures) - len(lost)
    reasons = Counter(failure.reason for failure in lost)
    not_reached = report.skipped["not_reached"] if report.ended != "complete" else 0
    reasons += Counter({"robots": len(report.forbidden), report.ended: not_reached})
    _tell(run, report, lost, kept)
    return {
        "records": report.pages + reasons.total(),
        "documents": report.pages,
        "reasons": dict(sorted(reasons.items())),
        "remarks": {"kept_from_earlier": kept} if kept else {},
        "source": source.name,
        "kind": "crawl",
        "unchanged": report.unchanged,
        "kept": kept,
        "bytes": report.bytes,
        "ended": report.ended,
        "statuses": dict(sorted(report.statuses.items())),
        "skipped": {name: count for name, count in sorted(report.skipped.items()) if count},
        "failed": len(report.failures),
    }


def _tell(run: StageRun, report: CrawlReport, lost: list[Failure], kept: int) -> None:
    """Log what a crawl brought, and what it did not."""
    run.log.info("%d pages, %d of them unchanged", report.pages, report.unchanged)
    if kept:
        run.log.warning("%d pages could not be had now and are kept from the earlier crawl", kept)
    if lost:
        listed = ", ".join(
            f"{reason} {n}" for reason, n in Counter(each.reason for each in lost).most_common()
        )
        first = f"{lost[0].url}: {lost[0].detail}"
        run.log.warning("%d addresses could not be had (%s); the first: %s", len(lost), listed, first)
    if report.ended != "complete":
        left = report.skipped["not_reached"]
        run.log.warning("the crawl ended at ingest.crawl.%s, %d addresses not asked for", report.ended, left)


def _reject(url: str, reason: str, detail: str) -> dict[str, Any]:
    """A row of REJECTS: an address of which there is no page."""
    return reject_row("fetch", url, reason, detail, f"{url}\n{reason}")


def _left(folder: Path) -> list[Path]:
    """What earlier attempts at this crawl stored before they were cut off, out of the new one's way."""
    crawled = sorted(folder.glob("crawl-*.warc.gz"))
    for number, path in enumerate(crawled[-1:], len(list(folder.glob(".left-*")))):
        path.rename(folder / f".left-{number:05}.warc.gz")
    for path in folder.glob("[!.]*"):
        path.unlink()
    return sorted(folder.glob(".left-*"))


def _nothing(source: SourceRef, report: CrawlReport) -> ConnectionError | ValueError:
    """Why a crawl has no page at all; of a kind that is tried again where that can help."""
    answers, again = {int(status) for status in report.statuses}, False
    unanswered = [failure for failure in report.failures if failure.reason != "http_status"]
    if unanswered:
        first = unanswered[0]
        why = f"{first.url}: {first.reason}: {first.detail}"
        again = first.reason in PASSING
    elif answers:
        again = answers <= RETRY_STATUSES
        mend = (
            "try later" if again else "see in a browser where its pages are, and whether it lets programs in"
        )
        why = f"the server answers {', '.join(map(str, sorted(answers)))}; {mend}"
    else:
        why = "robots.txt forbids it" if report.skipped["robots"] else "no address could be asked for"
    return (ConnectionError if again else ValueError)(f"the crawl of {source.name} got no page: {why}")


def _file(run: StageRun, source: SourceRef, config: CrawlConfig, earlier: Path | None) -> dict[str, Any]:
    path, version = run.path / FILE / source.name, source.fingerprint
    path.parent.mkdir(exist_ok=True)
    if source.kind == "s3":
        copy_object(source.seeds[0], path, run.progress)
    else:
        known = _known_version(earlier)
        found = download(source.seeds[0], path, config, run.progress, known)
        if found is None and earlier:
            path.hardlink_to(earlier / FILE / source.name)
        version = known if found is None else found
    (run.path / VERSION).write_text(json.dumps({"version": version}), encoding="utf-8")
    run.volatile.add(VERSION)
    where = path.relative_to(run.path).as_posix()
    return {
        "documents": None,
        "source": source.name,
        "kind": "file",
        "file": where,
        "bytes": path.stat().st_size,
    }


def _known_version(earlier: Path | None) -> str:
    if earlier is None or not ((earlier / VERSION).exists() and (earlier / FILE).is_dir()):
        return ""
    return str(json.loads((earlier / VERSION).read_text(encoding="utf-8"))["version"])


def asked_at(store: Store, source: SourceRef, config: CrawlConfig, now: datetime, *, keep: bool) -> str:
    """As of when a source is to be fetched: the last time it was asked for, while that is fresh, else now.

    So a run within ``max_age_hours`` takes what there is, or goes on with what was cut off, and a later one
    asks again. Files that never change under their address (a bucket's versions, Common Crawl) have no time.
    With ``keep`` the time is written down for the next run; a plan does not.
    """
    if source.kind in ("s3", "commoncrawl"):
        return ""
    name = f"asked/{digest_json(canonical(source, 'source'))[:32]}"
    last = _last_asked(store, name)
    if last and is_fresh(last, timedelta(hours=config.max_age_hours), now):
        return last.isoformat(timespec="seconds")
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    if keep:
        store.write_note(name, {"at": at, "source": source.uri})
    return at


def _last_asked(store: Store, name: str) -> datetime | None:
    """When a source was asked for last; None where it never was, or where its note is damaged."""
    try:
        note = store.read_note(name)
        return datetime.fromisoformat(note["at"]).astimezone(UTC) if note else None
    except (KeyError, TypeError, ValueError):
        return None


def open_sources(
    sources: Sequence[str],
    config: IngestConfig,
    cache: Path | None,
    *,
    keep: bool = True,
    failures: list[PartFailure] | None = None,
) -> list[tuple[str, SourceRef | Artifact]]:
    """Name and part of everything that ``ingest`` is to read; what is remote is fetched first, side by side.

    ``keep`` is False while a plan is being made. A source that cannot be fetched goes into ``failures``, or
    is raised where there is no such list. Raises SourceError before any work where a source string names
    nothing.
    """
    refs, now, store = resolve_all(list(sources), config, cache), datetime.now(UTC), open_store()
    groups: dict[tuple[CrawlConfig, str], list[SourceRef]] = {}
    for ref in refs:
        if ref.fetched:
            settings = config.crawl if ref.kind in ("crawl", "pydoc") else config.for_files()
            groups.setdefault((settings, asked_at(store, ref, settings, now, keep=keep)), []).append(ref)
    parts: dict[str, SourceRef | Artifact] = {ref.name: ref for ref in refs if not ref.fetched}
    for (settings, asked), members in groups.items():
        names = [ref.name for ref in members]
        artifacts, failed = fetch.map(members, settings, asked, labels=names)
        if failed and failures is None:
            raise failed[0].error
        if failures is not None:
            failures += failed
        lost = {failure.part for failure in failed}
        parts |= zip([name for name in names if name not in lost], artifacts, strict=True)
    return [(ref.name, parts[ref.name]) for ref in refs if ref.name in parts]
