"""Stage ``clean``: judge, clean and mask a part's documents; what is dropped is kept with its reason.

| file | what |
|---|---|
| kept.parquet | DOCUMENTS: language, signals and the cleaned text, in the order they came |
| signatures.parquet | SIGNATURES: one row a kept document |
| rejects.parquet | REJECTS: the rule, the value and the limit; detail lists the other rules that it breaks |
| histograms.json | how documents lie on both sides of each limit: :mod:`tasks.text.quality_histograms` |

The stage's stats are the funnel: see :class:`Funnel`.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.artifacts import Artifact
from storage.documents import PartWriter, count_rows, read_rows
from storage.schemas import DOCUMENTS, REJECTS, SIGNATURES
from tasks.pool import Failure, map_isolated
from tasks.processors import processors
from tasks.stage import StageRun, stage
from tasks.text.cleaning import Cleaner, Document, Result
from tasks.text.config import CleanConfig
from tasks.text.quality_histograms import Histograms

DOCUMENTS_FILE = "documents.parquet"
KEPT, DROPPED, SIGNED = "kept.parquet", "rejects.parquet", "signatures.parquet"
HISTOGRAMS = "histograms.json"
EXCERPT = 200
TOP_DOMAINS = 20
READ_ROWS = 64
"""Documents in memory at once, besides those in the workers."""
FEWEST_TO_JUDGE = 20


class TooManyFailuresError(ValueError):
    """So many documents crashed or hung a worker that going on would lose them in silence."""


@dataclass
class Funnel:
    """What a part lost, and where: the shape of the stage's stats.

    ``documents_in``, ``documents``, ``characters_in``, ``characters``: totals. ``rejected``: by rule.
    ``languages_in``, ``languages``: documents by language, before and after. ``rejected_by_language``: by
    language, then rule. ``domains``: the 20 domains that lost most, each with ``in``, ``kept`` and
    ``rejected`` by rule. ``lines``: lines taken out, by rule. ``pii``: what was masked, by kind;
    ``documents_masked``: in how many documents.
    """

    documents_in: int = 0
    documents: int = 0
    characters_in: int = 0
    characters: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    languages_in: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    by_language: dict[str, Counter[str]] = field(default_factory=dict)
    by_domain: dict[str, Counter[str]] = field(default_factory=dict)
    """By domain: documents by rule; those that were kept under an empty name."""
    lines: Counter[str] = field(default_factory=Counter)
    pii: Counter[str] = field(default_factory=Counter)
    documents_masked: int = 0

    def add(self, row: dict[str, Any], result: Result) -> None:
        """Count one document."""
        self.documents_in += 1
        self.characters_in += len(row["text"])
        self.languages_in[result.language] += 1
        self.lines.update(result.lines)
        self.by_domain.setdefault(row["domain"], Counter())[result.reason] += 1
        if result.reason:
            self.rejected[result.reason] += 1
            self.by_language.setdefault(result.language, Counter())[result.reason] += 1
            return
        self.documents += 1
        self.characters += len(result.text)
        self.languages[result.language] += 1
        self.pii.update(result.pii)
        self.documents_masked += bool(result.pii)

    def stats(self) -> dict[str, Any]:
        """The funnel as JSON, most first; ties by name."""
        return {
            "documents_in": self.documents_in,
            "documents": self.documents,
            "characters_in": self.characters_in,
            "characters": self.characters,
            "rejected": _sorted(self.rejected),
            "languages_in": _sorted(self.languages_in),
            "languages": _sorted(self.languages),
            "rejected_by_language": {
                name: _sorted(self.by_language[name]) for name in sorted(self.by_language)
            },
            "domains": self._domains(),
            "lines": _sorted(self.lines),
            "pii": _sorted(self.pii),
            "documents_masked": self.documents_masked,
        }

    def _domains(self) -> dict[str, Any]:
        lost = {name: counts.total() - counts[""] for name, counts in self.by_domain.items()}
        worst = sorted((name for name in lost if lost[name]), key=lambda name: (-lost[name], name))[
            :TOP_DOMAINS
        ]
        return {
            name: {
                "in": self.by_domain[name].total(),
                "kept": self.by_domain[name][""],
                "rejected": _sorted(Counter({k: v for k, v in self.by_domain[name].items() if k})),
            }
            for name in worst
        }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@stage("clean", summary="Judge, clean and mask a part's documents")
def clean(run: StageRun, documents: Artifact, config: CleanConfig) -> dict[str, Any]:
    """Write the part's kept documents, their signatures and the rejects; the stats are its funnel.

    Raises TooManyFailuresError where workers crashed on more documents than the configuration allows.
    """
    source = run.open(documents) / DOCUMENTS_FILE
    total, funnel, broken, first = count_rows(source), Funnel(), Counter[str](), ""
    histograms = Histograms(config)
    with (
        PartWriter(run.path / KEPT, DOCUMENTS) as kept,
        PartWriter(run.path / SIGNED, SIGNATURES) as signed,
        PartWriter(run.path / DROPPED, REJECTS) as dropped,
    ):
        for row, result, failure in results(source, config):
            if failure is not None:
                broken[failure.reason] += 1
                first = first or failure.detail
            funnel.add(row, result)
            histograms.add(result.signals, result.rules, kept=not result.reason)
            if result.reason:
                dropped.write(reject(row, result))
            else:
                kept.write(kept_row(row, result))
                signed.write(result.signature)
            run.progress(funnel.documents_in, total, "documents", kept=funnel.documents)
    run.rows.update({KEPT: kept.rows, SIGNED: signed.rows, DROPPED: dropped.rows})
    (run.path / HISTOGRAMS).write_text(json.dumps(histograms.as_json(), indent=1), encoding="utf-8")
    _check(broken, first, total, config)
    run.log.info("%d of %d documents kept", funnel.documents, total)
    return {"source": documents.stats.get("source", ""), **funnel.stats()}


def results(source: Path, config: CleanConfig) -> Iterator[tuple[dict[str, Any], Result, Failure | None]]:
    """Each row of a documents file with what became of it, in order; judged in worker processes."""
    rows: deque[dict[str, Any]] = deque()

    def items() -> Iterator[Document]:
        for row in read_rows(source, batch_rows=READ_ROWS):
            rows.append(row)
            stated = row["stated_language"] or ""
            yield Document(row["doc_id"], row["url"], row["domain"], row["text"], stated)

    outcomes = map_isolated(
        Cleaner(config),
        items(),
        workers=config.parallel.workers or processors(),
        timeout_s=config.parallel.document_seconds,
    )
    for outcome in outcomes:
        if outcome.value is not None:
            yield rows.popleft(), outcome.value, None
        else:
            failure = outcome.error or Failure("raised", "")
            yield rows.popleft(), Result(reason=failure.reason, detail=failure.detail), failure


def kept_row(row: dict[str, Any], result: Result) -> dict[str, Any]:
    """A row of DOCUMENTS with what cleaning found."""
    return {
        **row,
        "language": result.language,
        "language_score": result.language_score,
        "text": result.text,
        "signals": list(result.signals.items()),
    }


def reject(row: dict[str, Any], result: Result) -> dict[str, Any]:
    """A row of REJECTS."""
    return {
        "doc_id": row["doc_id"],
        "url": row["url"],
        "domain": row["domain"],
        "language": result.language,
        "stage": "clean",
        "reason": result.reason,
        "value": result.value,
        "threshold": result.threshold,
        "detail": result.detail,
        "excerpt": row["text"][:EXCERPT],
    }


def _check(broken: Counter[str], first: str, total: int, config: CleanConfig) -> None:
    if total >= FEWEST_TO_JUDGE and broken.total() > config.max_failed_share * total:
        listed = ", ".join(f"{name} {count}" for name, count in broken.most_common())
        raise TooManyFailuresError(
            f"clean lost {broken.total()} of {total} documents to failures ({listed}); "
            f"clean.max_failed_share allows {config.max_failed_share:g}. The first: {first}. Mend what it "
            f"says, or allow more."
        )
