"""Bits per byte of held-out documents: what a model is compared by, whatever its vocabulary.

    bits per byte = sum over documents of -log2 p(tokens | end of text) / sum of their UTF-8 bytes

The end-of-text token that precedes a document is given and the one that follows is not predicted: it has no
bytes. Bytes are those of the text that was scored. Documents longer than the context are scored in windows
(see :mod:`tasks.evals.windows`). A tokenizer with a coarser or finer vocabulary spends its bits on the same
bytes, so models of different vocabularies compare (Gao et al. 2020, "The Pile", section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.evals.bootstrap import ratio_interval
from tasks.evals.config import BootstrapConfig
from tasks.evals.held_out import Document, slices
from tasks.evals.windows import token_bits

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.evals.ngram import KneserNey
    from tasks.gpt.model import GPT

DECIMALS = 4
"""Of a document's bits: what lies below depends on the processor's order of adding."""

UNSCORABLE = 1000.0
"""Bits a token is taken to cost where a broken model's figure is not a number."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Encoded:
    """Documents and their tokens under one tokenizer."""

    documents: list[Document]
    ids: list[NDArray[np.int64]]
    eos: int


def encode(documents: list[Document], tokenizer: Tokenizer, eos: int) -> Encoded:
    """Tokenize each document by itself, with a tokenizer to which special tokens in text are text."""
    encodings = tokenizer.encode_batch([d.text for d in documents], add_special_tokens=False)
    return Encoded(documents, [np.array(e.ids, dtype=np.int64) for e in encodings], eos)


def model_bits(model: GPT, encoded: Encoded, *, overlap: float, batch_tokens: int) -> Floats:
    """Bits of each document under a model, (documents,)."""
    sequences = [np.concatenate([[encoded.eos], ids]) for ids in encoded.ids]
    bits = token_bits(model, sequences, overlap=overlap, batch_tokens=batch_tokens)
    sums = [float(b.sum()) for b in bits]
    costs = [s if np.isfinite(s) else UNSCORABLE * len(b) for s, b in zip(sums, bits, strict=True)]
    return np.array([round(cost, DECIMALS) for cost in costs])


def ngram_bits(model: KneserNey, encoded: Encoded) -> Floats:
    """Bits of each document under an n-gram model of the same tokens, (documents,)."""
    return np.array([round(float(model.bits(ids, encoded.eos).sum()), DECIMALS) for ids in encoded.ids])


def summarize(
    documents: list[Document], bits: Floats, config: BootstrapConfig, domains: int
) -> dict[str, Any]:
    """The figure over all documents and by slice, each with its interval.

    ``by_language``, ``by_domain`` and ``by_length`` hold the figures alone; ``slices`` has a row for each
    with interval (null for a single document, of which nothing can be resampled), documents and bytes.
    """
    sizes = np.array([d.bytes for d in documents], dtype=np.float64)
    overall = _row("all", "all", bits, sizes, config)
    rows = [
        _row(kind, name, bits[index], sizes[index], config)
        for (kind, name), index in slices(documents, domains).items()
    ]
    figures: dict[str, Any] = {
        "all": overall["bits_per_byte"],
        "interval": [overall["low"], overall["high"]],
        "confidence": config.confidence,
        "documents": overall["documents"],
        "bytes": overall["bytes"],
    }
    for kind in ("language", "domain", "length"):
        figures[f"by_{kind}"] = {row["name"]: row["bits_per_byte"] for row in rows if row["slice"] == kind}
    return {**figures, "slices": rows}


def _row(kind: str, name: str, bits: Floats, sizes: Floats, config: BootstrapConfig) -> dict[str, Any]:
    interval = ratio_interval(
        bits, sizes, resamples=config.resamples, confidence=config.confidence, seed=config.seed
    )
    return {
        "slice": kind,
        "name": name,
        "bits_per_byte": round(interval.value, 6),
        "low": round(interval.low, 6) if len(bits) > 1 else None,
        "high": round(interval.high, 6) if len(bits) > 1 else None,
        "documents": len(bits),
        "bytes": int(sizes.sum()),
    }


def per_document(encoded: Encoded, bits: Mapping[str, Floats], order: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of per_document.parquet: ``bits`` is the model's, ``bits_NAME`` a baseline's."""
    documents = encoded.documents
    columns: dict[str, list[Any]] = {
        "doc_id": [d.doc_id for d in documents],
        "language": [d.language for d in documents],
        "domain": [d.domain for d in documents],
        "length": [d.length for d in documents],
        "bytes": [d.bytes for d in documents],
        "tokens": [len(ids) for ids in encoded.ids],
    }
    for name in order:
        columns["bits" if name == "model" else f"bits_{name}"] = [float(b) for b in bits[name]]
    return columns
