"""Trains a linear classifier of documents from good and bad text: what ``modelmill train-classifier`` does.

Takes seconds for tens of thousands of pages. What counts as good is whatever is in the first folder: a few
thousand pages of an encyclopedia against as many of the crawl itself is the usual choice (Brown et al. 2020,
appendix A).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.text.charset import decode
from tasks.text.dedup_units import units
from tasks.text.extract_errors import ExtractionError
from tasks.text.given_files import unpacked
from tasks.text.model_errors import ModelError
from tasks.text.model_scores import BITS, LinearModel, features

FEWEST = 10
"""Documents of each kind that are needed at least."""
HELD_OUT = 5
"""One document in so many is kept from training to measure on."""


@dataclass(frozen=True)
class Trained:
    """A model and how well it does on the documents that were kept from training."""

    model: LinearModel
    good: int
    bad: int
    accuracy: float
    """Share of the held-out documents on the right side of .5."""
    auc: float
    """Probability that a good document scores higher than a bad one."""

    def about(self) -> dict[str, str]:
        """The figures as strings, for the file."""
        return {
            "good": str(self.good),
            "bad": str(self.bad),
            "accuracy": f"{self.accuracy:.4f}",
            "auc": f"{self.auc:.4f}",
        }


def train(good: Sequence[str], bad: Sequence[str], bits: int = BITS) -> Trained:
    """Fit logistic regression to hashed features; deterministic. Raises ModelError for too few documents."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    if min(len(good), len(bad)) < FEWEST:
        raise ModelError(
            f"{len(good)} good and {len(bad)} bad documents; at least {FEWEST} of each are needed"
        )
    texts, wanted = [*good, *bad], np.array([1] * len(good) + [0] * len(bad))
    rows = [features(units(text), bits) for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(at) for at, _ in rows])))
    places, weights = (np.concatenate(column) for column in zip(*rows, strict=True))
    matrix = csr_matrix((weights, places, starts), shape=(len(rows), 1 << bits))
    apart = np.arange(len(rows)) % HELD_OUT == 0
    fit = LogisticRegression(
        C=10.0, class_weight="balanced", max_iter=300, solver="liblinear", random_state=0
    )
    fit.fit(matrix[~apart], wanted[~apart])
    scores = fit.predict_proba(matrix[apart])[:, 1]
    return Trained(
        LinearModel(fit.coef_[0].astype(np.float32), float(fit.intercept_[0])),
        len(good),
        len(bad),
        float(((scores > 0.5) == wanted[apart]).mean()),
        float(roc_auc_score(wanted[apart], scores)),
    )


def read_texts(folder: Path) -> Iterator[str]:
    """Every document under a folder (or of one file), by file name: .txt one each, .jsonl a "text" a line.

    In any charset: read in a wrong one, a Chinese text would be learned as noise. Raises ModelError naming
    a file that is no text or a line that is no such object, GivenFileError naming a .gz file that is broken.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else [folder]
    for file in files:
        kind = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
        if kind not in {".txt", ".jsonl"}:
            continue
        try:
            text, _ = decode(unpacked(file))
        except ExtractionError as error:
            raise ModelError(f"{file} is no text: {error.detail}") from error
        if kind == ".jsonl":
            # Not splitlines: within a document may be other characters that Unicode takes for a line's end.
            yield from _of_lines(file, text.split("\n"))
        else:
            yield text


def _of_lines(file: Path, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, str):
            raise ModelError(f'{file}:{number}: expected a JSON object with a string "text"')
        yield found
