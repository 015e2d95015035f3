"""Everything that is measured of one model, put together into one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.evals import harness, memorization, minimal_pairs, multiple_choice, samples
from tasks.evals.bits_per_byte import Encoded, encode, model_bits, ngram_bits, per_document, summarize
from tasks.evals.config import EvaluateConfig, ScoringHardware
from tasks.evals.held_out import Document, EvaluationError
from tasks.evals.ngram import KneserNey
from tasks.evals.personal_data import find_pieces
from tasks.evals.token_text import TokenText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.gpt.model import GPT

BASELINES = {"unigram": 1, "bigram": 2, "trigram": 3}
PIECE = 2**14
"""Training tokens in a row that baselines are counted on, where the text has more than are asked for."""
FORMAT = 1
Step = Callable[[str], None]
"""Told what is measured next."""


@dataclass(frozen=True)
class Subject:
    """A model that is measured, with its tokenizer."""

    folder: Path
    """The Hugging Face folder that it was loaded from."""
    model: GPT
    tokenizer: Tokenizer
    eos: int


@dataclass(frozen=True)
class Results:
    """What ``evaluate`` writes."""

    report: dict[str, Any]
    samples: list[dict[str, Any]]
    documents: dict[str, list[Any]]
    """Columns of per_document.parquet."""


def open_subject(folder: Path, hardware: ScoringHardware) -> Subject:
    """Load a Hugging Face folder onto the device that the configuration names, in float32."""
    import torch

    from tasks.gpt.export import load_hf
    from tasks.tokens.bpe import eos_of, load

    kind = hardware.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load(folder)
    return Subject(folder, load_hf(folder).eval().to(kind), tokenizer, eos_of(tokenizer))


def score_documents(
    subject: Subject, documents: list[Document], config: EvaluateConfig
) -> tuple[Encoded, NDArray[np.float64]]:
    """The documents' tokens and bits under a model: what two models are compared by."""
    encoded = encode(documents, subject.tokenizer, subject.eos)
    bits = model_bits(
        subject.model,
        encoded,
        overlap=config.held_out.overlap,
        batch_tokens=config.hardware.batch_tokens,
    )
    return encoded, bits


def measure(
    subject: Subject,
    documents: list[Document],
    training: Sequence[TokenText],
    config: EvaluateConfig,
    *,
    step: Step,
) -> Results:
    """Measure everything that the configuration asks for, on held-out documents and training tokens.

    Raises EvaluationError where there are no training tokens to compare with.
    """
    step("held-out text")
    encoded, scored = score_documents(subject, documents, config)
    bits = {"model": scored}
    tokens = counted(training, config.ngram.max_tokens)
    for name, order in BASELINES.items():
        step(name)
        bits[name] = ngram_bits(KneserNey.count(tokens, order, subject.model.config.vocab_size), encoded)
    report: dict[str, Any] = {
        "format": FORMAT,
        "bits_per_byte": {
            name: summarize(documents, b, config.bootstrap, config.held_out.domains)
            for name, b in bits.items()
        },
        "training_tokens": sum(len(text.ids) for text in training),
        "baseline_tokens": len(tokens),
    }
    step("samples")
    written = samples.write(subject.model, subject.tokenizer, subject.eos, config.samples)
    step("leaks")
    report["samples"] = _leaks(written, training, subject, config)
    if config.memorization.windows or config.memorization.repeated:
        report["memorization"] = memorization.audit(
            subject.model,
            training,
            [_as_text(encoded)],
            config.memorization,
            batch_tokens=config.hardware.batch_tokens,
        )
    step("questions")
    report |= _questions(subject, config)
    return Results(report, written, per_document(encoded, bits, list(bits)))


def counted(training: Sequence[TokenText], most: int) -> NDArray[np.integer]:
    """At most so many training tokens, in pieces from all over the text: languages may come one by one."""
    ends = np.cumsum([len(text.ids) for text in training])
    total = int(ends[-1]) if len(ends) else 0
    if total < max(BASELINES.values()):
        raise EvaluationError(f"{total} training tokens are too few for baselines: tokenize more text")
    if total <= most:
        return np.concatenate([np.asarray(text.ids) for text in training])
    count = max(1, most // PIECE)
    parts = []
    for start in np.linspace(0, total - most // count, count).astype(np.int64).tolist():
        which = int(np.searchsorted(ends, start, side="right"))
        inside = start - int(ends[which]) + len(training[which].ids)
        parts.append(np.asarray(training[which].ids[inside : inside + most // count]))
    return np.concatenate(parts)


def _leaks(
    written: list[dict[str, Any]],
    training: Sequence[TokenText],
    subject: Subject,
    config: EvaluateConfig,
) -> dict[str, Any]:
    length = config.memorization.copy_tokens
    return {
        "count": len(written),
        "copies": samples.copies(written, training, subject.tokenizer, length),
        "copy_tokens": length,
        "personal_data": samples.personal_data(written, training, subject.tokenizer, find_pieces),
    }


def _questions(subject: Subject, config: EvaluateConfig) -> dict[str, Any]:
    model, tokenizer, eos = subject.model, subject.tokenizer, subject.eos
    limits = {"most": config.files.max_items, "batch_tokens": config.hardware.batch_tokens}
    found: dict[str, Any] = {}
    if files := config.files.minimal_pairs.files:
        found["minimal_pairs"] = minimal_pairs.measure(model, tokenizer, eos, files, **limits)
    if files := config.files.multiple_choice.files:
        found["multiple_choice"] = multiple_choice.measure(model, tokenizer, eos, files, **limits)
    if config.lm_eval.tasks:
        found["lm_eval"] = harness.run_tasks(subject.folder, config.lm_eval, model.wte.weight.device.type)
    return found


def _as_text(encoded: Encoded) -> TokenText:
    """Held-out documents laid out as training text is."""
    ids = [np.append(document, encoded.eos) for document in encoded.ids]
    starts = np.concatenate([[0], np.cumsum([len(document) for document in ids])])
    names = [document.doc_id for document in encoded.documents]
    return TokenText(np.concatenate(ids), starts, names, [d.domain for d in encoded.documents])
