"""Scores of a classifier that the user gives: a linear model of hashed n-grams, or a fastText file.

The linear model is logistic regression over the text's hashed units and pairs of units (words, or characters
of scripts without spaces), kept as safetensors: ``weights`` float32[2**bits], ``bias`` float32[1], and its
training's figures as metadata. :mod:`tasks.text.score_training` trains one from two folders of text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.text.config import ScoreConfig
from tasks.text.dedup_units import Units, shingles
from tasks.text.model_errors import ModelError

BITS = 18
"""Hash bits: 262,144 weights, a megabyte."""

Scorer = Callable[[str, Units], float]


def load_scorer(config: ScoreConfig) -> Scorer:
    """The function that scores a text, 0..1. Raises ModelError naming the file."""
    path = config.model.files[0]
    if path.suffix == ".safetensors":
        return LinearModel.load(path).score
    if path.suffix in (".bin", ".ftz"):
        return _fasttext(path, config.label)
    raise ModelError(f"{path} is neither .safetensors (a linear model) nor .bin or .ftz (fastText)")


def features(split: Units, bits: int = BITS) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A text's hashed units and pairs: the places int64[n], unique, and their L2-normed weights float32[n].

    A term that occurs c times weighs 1 + log c.
    """
    terms = np.concatenate((split.hashes, shingles(split.hashes, 2)))
    at, counts = np.unique((terms >> np.uint64(64 - bits)).astype(np.int64), return_counts=True)
    weights = (1.0 + np.log(counts)).astype(np.float32)
    norm = float(np.sqrt((weights * weights).sum())) or 1.0
    return at, weights / np.float32(norm)


class LinearModel:
    """Logistic regression over hashed features."""

    def __init__(self, weights: NDArray[np.float32], bias: float) -> None:
        self.weights, self.bias = weights, bias
        self.bits = len(weights).bit_length() - 1

    def score(self, text: str, split: Units) -> float:
        """Probability that a text is of the good kind, 0..1; ``text`` is there for other scorers."""
        at, values = features(split, self.bits)
        return float(1.0 / (1.0 + np.exp(-(float(self.weights[at] @ values) + self.bias))))

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read a model. Raises ModelError where the file is no such model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path)
            weights, bias = tensors["weights"], float(tensors["bias"][0])
        except (SafetensorError, KeyError, IndexError) as error:
            raise ModelError(f"{path} is no linear model (weights, bias) in safetensors: {error}") from None
        if weights.ndim != 1 or len(weights) & (len(weights) - 1) or not np.isfinite(weights).all():
            raise ModelError(f"{path}: weights of shape {weights.shape}; expected 2**n finite numbers")
        return cls(weights.astype(np.float32), bias)

    def save(self, path: Path, about: dict[str, str]) -> None:
        """Write the model, with strings about its training as metadata."""
        from safetensors.numpy import save_file

        tensors = {"weights": self.weights, "bias": np.array([self.bias], np.float32)}
        save_file(tensors, path, metadata={"about": json.dumps(about, sort_keys=True)})  # one key: no order


def _fasttext(path: Path, label: str) -> Scorer:
    from tasks.text.fasttext_model import FastText

    model = FastText.load(path)
    wanted = label or model.labels[0]
    if wanted not in model.labels:
        raise ModelError(f"{path} has no label {label!r}; it has {', '.join(model.labels[:20])}")

    def score(text: str, _split: Units) -> float:
        return float(dict(model.predict(text.replace("\n", " "), len(model.labels))).get(wanted, 0.0))

    return score
