"""Confidence intervals by resampling documents, for one model and for the difference of two.

Documents, not tokens, are what was sampled from the world: tokens of one document go together, and
resampling them one by one would make every interval far too narrow. The statistic is a ratio of sums
(bits over bytes), so both sums are resampled together. Efron and Tibshirani 1993, percentile intervals;
the paired form resamples the same documents for both models (Koehn 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK_CELLS = 2**22
"""Cells of the matrix of drawn counts that exist at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A ratio of sums with its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How a challenger compares with a champion on the same documents, in bits per byte."""

    difference: float
    """Challenger minus champion: negative is better."""
    low: float
    high: float
    probability: float
    """Share of resamples in which the challenger is better by more than the margin."""
    documents: int


def resampled_sums(columns_ND: Floats, resamples: int, seed: int) -> Floats:
    """Sums of the columns over resampled rows, (resamples, D); rows are drawn with replacement.

    ``columns_ND`` has a row a document. Raises ValueError where there is none.
    """
    n = len(columns_ND)
    if n == 0:
        raise ValueError("no documents to resample: at least one is needed")
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // n)
    sums = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(0, n, size=(rows, n), dtype=np.int32)
        offsets = np.arange(rows, dtype=np.int64)[:, None] * n
        counts_RN = np.bincount((drawn + offsets).ravel(), minlength=rows * n).reshape(rows, n)
        sums.append(counts_RN @ columns_ND)
    return np.concatenate(sums)


def ratio_interval(
    numerator: Floats, denominator: Floats, *, resamples: int, confidence: float, seed: int
) -> Interval:
    """``sum(numerator) / sum(denominator)`` over documents, with its two-sided percentile interval."""
    sums = resampled_sums(np.stack([numerator, denominator], axis=1), resamples, seed)
    ratios = sums[:, 0] / np.maximum(sums[:, 1], 1e-300)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(float(numerator.sum() / denominator.sum()), float(low), float(high))


def compare(
    challenger: Floats,
    champion: Floats,
    weights: Floats,
    *,
    margin: float,
    resamples: int,
    confidence: float,
    seed: int,
) -> Comparison:
    """Paired bootstrap: bits of both models for the same documents, ``weights`` their bytes.

    Two equal models get probability 0, whatever the resamples say.
    """
    columns = np.stack([challenger - champion, weights], axis=1)
    sums = resampled_sums(columns, resamples, seed)
    differences = sums[:, 0] / np.maximum(sums[:, 1], 1e-300)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Comparison(
        difference=float(columns[:, 0].sum() / weights.sum()),
        low=float(low),
        high=float(high),
        probability=float(np.mean(differences < -margin)),
        documents=len(weights),
    )
