"""Stage `evaluate`: what the model is worth on text it has not seen, beside n-gram baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifacts import Artifact, digest_json
from storage.documents import read_rows
from storage.token_shards import ShardView, open_set
from tasks.evals.config import EvaluateConfig, HeldOutConfig
from tasks.evals.held_out import Document, choose
from tasks.stage import StageRun, stage

if TYPE_CHECKING:
    from tasks.evals.token_text import TokenText

REPORT, SAMPLES, PER_DOCUMENT = "report.json", "samples.json", "per_document.parquet"
HELD_OUT = "heldout.parquet"
STEPS = 7

PER_DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("length", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("bits", pa.float64(), nullable=False),
        pa.field("bits_unigram", pa.float64()),
        pa.field("bits_bigram", pa.float64()),
        pa.field("bits_trigram", pa.float64()),
    ]
)
"""One row a held-out document: ``bits`` under the model, ``bits_NAME`` under a baseline, of the ``bytes``
(UTF-8) that were scored. ``length`` is the document's length class."""


@stage("evaluate", summary="Measure the model on held-out text, beside n-gram baselines")
def evaluate(
    run: StageRun, model: Artifact, shards: Artifact, heldout: Artifact, config: EvaluateConfig
) -> dict[str, Any]:
    """Write ``report.json``, ``samples.json`` and ``per_document.parquet``.

    Raises EvaluationError where there is nothing to measure on.
    """
    from tasks.evals.suite import measure, open_subject

    documents = held_out_documents(run.open(heldout), config.held_out)
    done = iter(range(1, STEPS + 1))
    results = measure(
        open_subject(run.open(model) / "hf", config.hardware),
        documents,
        training_text(run.open(shards)),
        config,
        step=lambda what: run.progress(next(done), STEPS, "measures", now=what),
    )
    identity = evaluation_identity(heldout, config.held_out)
    results.report["evaluation"] = {
        "digest": identity,
        "held_out": heldout.digest,
        "model": model.digest,
        "documents": len(documents),
        "bytes": sum(d.bytes for d in documents),
    }
    _write_json(run.path / REPORT, results.report)
    _write_json(run.path / SAMPLES, results.samples)
    write_per_document(run.path / PER_DOCUMENT, results.documents)
    run.rows[PER_DOCUMENT] = len(documents)
    return _stats(results.report, identity)


def evaluation_identity(heldout: Artifact, config: HeldOutConfig) -> str:
    """What two models' figures must share to be compared: the held-out set and how it is scored."""
    return digest_json(
        {"held_out": heldout.digest, "scoring": config.model_dump(mode="json", exclude={"domains"})}
    )


def held_out_documents(folder: Path, config: HeldOutConfig) -> list[Document]:
    """The held-out documents that are scored, of a ``hold_out`` artifact's folder."""
    return choose(read_rows(folder / HELD_OUT, ["doc_id", "language", "domain", "text"]), config)


def training_text(folder: Path) -> list[TokenText]:
    """The training shards of a ``tokenize`` artifact's folder, as mapped token text."""
    from tasks.evals.token_text import TokenText

    return [
        TokenText(view.ids, view.offsets, _Column(view, "doc_id"), _Column(view, "url"))
        for view in open_set(folder).shards
    ]


class _Column:
    """A string column of a shard, read cell by cell."""

    def __init__(self, view: ShardView, name: str) -> None:
        self._cells = view.batch.column(name)

    def __getitem__(self, index: int) -> str:
        return str(self._cells[index].as_py())


def write_per_document(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write bits by document; columns that a model has not are null."""
    table = pa.table(
        {name: columns.get(name, [None] * len(columns["doc_id"])) for name in PER_DOCUMENT_SCHEMA.names}
    )
    pq.write_table(table.cast(PER_DOCUMENT_SCHEMA), path, compression="zstd")


def read_per_document(path: Path) -> dict[str, list[Any]]:
    """The columns of a per_document.parquet."""
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def _stats(report: dict[str, Any], identity: str) -> dict[str, Any]:
    bits = report["bits_per_byte"]
    stats: dict[str, Any] = {
        "in": {"documents": report["evaluation"]["documents"]},
        "out": {"bits per byte": bits["model"]["all"]},
        "bits_per_byte": {name: row["all"] for name, row in bits.items()},
        "by_language": bits["model"]["by_language"],
        "evaluation_digest": identity,
    }
    if "minimal_pairs" in report:
        stats["minimal_pairs"] = report["minimal_pairs"].get("accuracy")
    return stats


def _write_json(path: Path, value: dict[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
