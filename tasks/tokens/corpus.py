"""From Arrow batches of documents to what is encoded, sampled and counted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.processors import processors
from tasks.tokens.config import MixtureConfig
from tasks.tokens.cutting import Document, Source, encode_documents
from tasks.tokens.encode import Encoder
from tasks.tokens.mixture import REST, group_of
from tasks.tokens.sample import Candidates, cut

GROUP_COLUMN = {"language": "language", "source": "source_file", "domain": "domain"}
UNKNOWN = "unknown"


def columns(mixture: MixtureConfig) -> list[str]:
    """The columns that :func:`sources` reads."""
    return list(dict.fromkeys(["doc_id", "url", "language", GROUP_COLUMN[mixture.by], "text"]))


def sources(
    batches: Iterable[pa.RecordBatch], left_out: frozenset[str], mixture: MixtureConfig, skipped: Counter[str]
) -> Iterator[list[Source]]:
    """Documents to encode, batch by batch, with their groups; what is left out is counted by reason."""
    names = ("doc_id", "url", "language", GROUP_COLUMN[mixture.by], "text")
    for batch in batches:
        taken = []
        for doc_id, url, language, value, text in zip(
            *(batch[name].to_pylist() for name in names), strict=True
        ):
            group = group_of(value or "", mixture.by_group)
            if doc_id in left_out:
                skipped["excluded"] += 1
            elif not text:
                skipped["empty"] += 1
            elif group is None:
                skipped["not_in_mixture"] += 1
            else:
                taken.append(Source(doc_id, url, language or UNKNOWN, group, text))
        yield taken


def documents_by_group(
    batches: Iterable[pa.RecordBatch], left_out: frozenset[str], mixture: MixtureConfig
) -> Counter[str]:
    """Documents of each language (source, domain), and under ``*`` those that no weight names.

    Batches of doc_id and the column that the mixture goes by.
    """
    found: Counter[str] = Counter()
    for batch in batches:
        values = zip(batch["doc_id"].to_pylist(), batch[GROUP_COLUMN[mixture.by]].to_pylist(), strict=True)
        found.update(value or "" for doc_id, value in values if doc_id not in left_out)
    rest = sum(count for value, count in found.items() if value not in mixture.by_group)
    return found | Counter({REST: rest})


def skip(batches: Iterable[list[Source]], done: Counter[str]) -> Iterator[list[Source]]:
    """Leave out the first documents of each group: those that are in finished shards."""
    left = Counter(done)
    for batch in batches:
        taken = []
        for source in batch:
            if left[source.group] > 0:
                left[source.group] -= 1
            else:
                taken.append(source)
        if taken:
            yield taken


def encoded(encoder: Encoder, batches: Iterable[list[Source]], workers: int) -> Iterator[Document]:
    """Encode batches in threads, a few ahead of the consumer; documents come in the order they went in."""
    workers = workers or processors()
    waiting: deque[Future[list[Document]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="encode") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(encode_documents, encoder, batch))
                if len(waiting) > workers + 1:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def candidates(batches: Iterable[pa.RecordBatch], left_out: frozenset[str]) -> Candidates:
    """What the choice of a sample needs of every document; batches of doc_id, language, text."""
    found = Candidates()
    leave_out = pa.array(sorted(left_out), pa.string())
    for batch in batches:
        kept = batch.filter(pc.invert(pc.is_in(batch["doc_id"], value_set=leave_out)))
        languages = [language or UNKNOWN for language in kept["language"].to_pylist()]
        found.add(kept["doc_id"].to_pylist(), languages, pc.binary_length(kept["text"]).to_pylist())
    return found


def sampled(batches: Iterable[pa.RecordBatch], chosen: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(language, text) of each chosen document, cut to the bytes taken of it, in the corpus's order."""
    for batch in batches:
        mask = pa.array([doc_id in chosen for doc_id in batch["doc_id"].to_pylist()], pa.bool_())
        for row in batch.filter(mask).to_pylist():
            yield row["language"] or UNKNOWN, cut(row["text"], chosen[row["doc_id"]])


def summary(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Totals, and by language with bytes and characters a token."""
    languages = {
        language: {
            **{name: count[name] for name in ("documents", "tokens", "bytes", "characters")},
            "bytes_per_token": round(count["bytes"] / count["tokens"], 3),
            "characters_per_token": round(count["characters"] / count["tokens"], 3),
        }
        for language, count in sorted(counts.items())
    }
    totals = {
        name: sum(count[name] for count in counts.values()) for name in ("documents", "tokens", "bytes")
    }
    return {**totals, "languages": languages}
