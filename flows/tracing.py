"""What became of a page or a domain: kept, trained on (how many tokens, where), or dropped by which rule.

Answers come from the artifacts themselves: their Parquet parts are scanned by DuckDB (which reads the
address column alone and skips the rest), their token shards by Arrow from the page cache. Nothing has to be
kept in step with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.artifacts import Artifact
from storage.store import Store
from tasks.web.takedown import addresses, spellings

Column = Literal["url", "domain"]
BATCH = 10_000
"""Rows after which the documents that they repeat are looked up together."""
MOST_LIKE = 5
"""So many addresses are offered to who typed a part of one."""
REPEATED = ("deduplicate", "hold_out")
"""Kinds that have the documents which others are dropped for as repeating them."""
_DOC_ID = re.compile(r"[0-9a-f]{64}")
PRESENT: tuple[str, ...] = ()
DROPPED = ("stage", "reason", "value", "threshold", "detail")
"""Columns that an answer takes beside the document's own, of documents and of rejects."""


@dataclass(frozen=True)
class Fate:
    """What one artifact says of one document."""

    stage: str
    artifact: str
    outcome: Literal["present", "dropped", "tokens"]
    doc_id: str
    url: str
    reason: str = ""
    value: float | None = None
    threshold: float | None = None
    detail: str = ""
    tokens: int | None = None
    position: int | None = None
    """Index of the document's first token in its shard."""
    part: str = ""
    repeats: str = ""
    """Address of the document that this one repeats, where ``detail`` names one."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def fates(store: Store, artifacts: Iterable[Artifact], column: Column, value: str) -> Iterator[Fate]:
    """What each artifact says of a page, or of a host and those below it: kept, dropped, in tokens.

    Some thousands of a host's documents are in memory at once, however many it has.
    """
    artifacts = list(artifacts)
    with duckdb.connect() as connection:
        found = _fates(connection, store, artifacts, column, value)
        while batch := list(islice(found, BATCH)):
            repeated = {fate.detail for fate in batch if _DOC_ID.fullmatch(fate.detail)}
            urls = _urls(connection.cursor(), store, artifacts, repeated) if repeated else {}
            for fate in batch:
                yield replace(fate, repeats=urls[fate.detail]) if fate.detail in urls else fate


def _fates(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    artifacts: Iterable[Artifact],
    column: Column,
    value: str,
) -> Iterator[Fate]:
    for artifact in artifacts:
        names = [part.name for part in artifact.parts]
        parquet = [name for name in names if name.endswith(".parquet")]
        shards = [name for name in names if name.endswith(".arrow")]
        if parquet or shards:
            folder = store.open(artifact)
            yield from _in_parquet(connection, artifact, folder, parquet, column, value)
            for name in shards:
                yield from _in_shard(artifact, folder, name, column, value)


def _urls(
    connection: duckdb.DuckDBPyConnection, store: Store, artifacts: Iterable[Artifact], doc_ids: set[str]
) -> dict[str, str]:
    """Addresses of documents that a corpus or a held-out set has."""
    files = [
        str(store.open(artifact) / part.name)
        for artifact in artifacts
        for part in artifact.parts
        if artifact.kind in REPEATED and part.name.startswith(("part-", "heldout."))
    ]
    if not files:
        return {}
    query = "SELECT doc_id, url FROM read_parquet($files) WHERE doc_id IN (SELECT unnest($doc_ids))"
    rows = connection.execute(query, {"files": files, "doc_ids": sorted(doc_ids)}).fetchall()
    return {str(doc_id): str(url) for doc_id, url in rows}


def addresses_like(store: Store, artifacts: Iterable[Artifact], typed: str) -> list[str]:
    """The artifacts' addresses that begin or end in what was typed, less its scheme; shortest first."""
    wanted = typed.strip().partition("#")[0].partition("://")
    value = (wanted[2] if wanted[1] else wanted[0]).strip("/")
    files = [str(file) for artifact in artifacts for file in _with_addresses(store, artifact)]
    if not value or not files:
        return []
    query = (
        "SELECT DISTINCT url FROM read_parquet($files, union_by_name = true) "
        "WHERE ends_with(rtrim(url, '/'), $value) OR starts_with(url, $value) "
        "OR starts_with(substr(url, strpos(url, '://') + 3), $value) "
        f"ORDER BY length(url), url LIMIT {MOST_LIKE}"
    )
    with duckdb.connect() as connection:
        rows = connection.execute(query, {"files": files, "value": value}).fetchall()
    return [url for (url,) in rows]


def _with_addresses(store: Store, artifact: Artifact) -> Iterator[Path]:
    names = [part.name for part in artifact.parts if part.name.endswith(".parquet")]
    if names:
        files = [store.open(artifact) / name for name in names]
        yield from (file for file in files if "url" in pq.read_schema(file).names)


def _in_parquet(
    connection: duckdb.DuckDBPyConnection,
    artifact: Artifact,
    folder: Path,
    names: list[str],
    column: Column,
    value: str,
) -> Iterator[Fate]:
    """One query for all files of documents and one for all of rejects: opening is what costs."""
    present = {name: set(pq.read_schema(folder / name).names) for name in names}
    meant, values = _condition(column, value)
    for mark, outcome, extra in (("text", "present", PRESENT), ("reason", "dropped", DROPPED)):
        files = [str(folder / name) for name in names if {"doc_id", column, mark, *extra} <= present[name]]
        if not files:
            continue
        wanted = ["doc_id", "url", *extra]
        query = (
            f"SELECT filename, {', '.join(wanted)} FROM read_parquet($files, filename = true) WHERE {meant}"
        )
        result = connection.execute(query, {"files": files, **values})
        for name, *row in chain.from_iterable(iter(partial(result.fetchmany, BATCH), [])):
            fields = {key: item for key, item in zip(wanted, row, strict=True) if item is not None}
            stage, part = fields.pop("stage", artifact.kind), str(Path(name).relative_to(folder))
            yield Fate(stage=stage, artifact=_place(artifact), outcome=outcome, part=part, **fields)  # type: ignore[arg-type]


def _condition(column: Column, value: str) -> tuple[str, dict[str, Any]]:
    """What a row of a page, or of a host and those below it, fulfils, and the values of its parameters."""
    if column == "url":
        return "url IN (SELECT unnest($values))", {"values": addresses(value)}
    values = {f"host{i}": host for i, host in enumerate(spellings(value))}
    hosts = (f"domain = ${name} OR ends_with(domain, '.' || ${name})" for name in values)
    return f"({' OR '.join(hosts)})", values


def _in_shard(artifact: Artifact, folder: Path, name: str, column: Column, value: str) -> Iterator[Fate]:
    with pa.memory_map(str(folder / name)) as source:
        table = pa.ipc.open_stream(source).read_all()
        if not {"doc_id", "url", "input_ids"} <= set(table.column_names):
            return
        for chunk in table.to_batches(max_chunksize=BATCH):
            yield from _in_batch(artifact, name, chunk, column, value)


def _in_batch(
    artifact: Artifact, name: str, batch: pa.RecordBatch, column: Column, value: str
) -> Iterator[Fate]:
    urls = batch.column("url")
    if column == "url":
        mask = pc.is_in(urls, value_set=pa.array(addresses(value), urls.type))
    else:
        host = rf"([^/?#@:]*\.)?({'|'.join(map(_quoted, spellings(value)))})"
        pattern = rf"^[a-z][\w+.-]*://([^/@]*@)?{host}(:\d+)?([/?#]|$)"
        mask = pc.match_substring_regex(urls, pattern, ignore_case=True)
    rows = pc.indices_nonzero(mask)
    offsets = batch.column("input_ids").offsets
    columns = (batch.column("doc_id").take(rows), urls.take(rows))
    places = (offsets.take(rows), offsets.take(pc.add(rows, 1)))
    for doc_id, url, first, end in zip(*(column.to_pylist() for column in (*columns, *places)), strict=True):
        yield Fate(
            stage=artifact.kind,
            artifact=_place(artifact),
            outcome="tokens",
            doc_id=doc_id,
            url=url,
            tokens=end - first,
            position=first,
            part=name,
        )


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in text)


def _place(artifact: Artifact) -> str:
    return f"{artifact.kind}/{artifact.key}"
