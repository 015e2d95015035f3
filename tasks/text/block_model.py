"""The classifier of blocks: gradient-boosted trees, evaluated by numpy.

Trained with scikit-learn (train_blocks.py), kept as plain arrays in a safetensors file, and evaluated here
for all blocks and all trees of a page at once: every step moves every (block, tree) pair one level down. So
no pickle is ever read, and nothing of scikit-learn is imported where pages are extracted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_measures import Array
from tasks.text.block_tokens import Words
from tasks.text.model_errors import WeightsError

Indices = NDArray[np.intp]

STAGES = ("first", "second")
WEIGHTS = Path(__file__).with_name("block_weights.safetensors")
WEIGHTS_SHA256 = "1cd15a2b884370706a2f6df704cf0bd2cbff3b5378c17a57c67ba9690cedc5a3"
"""Part of this module's source, so that results cached with other weights are never taken for these."""


@dataclass(frozen=True, slots=True)
class Trees:
    """T trees of at most N nodes each; a leaf's children are itself."""

    feature: Indices
    """(T * N) feature that a node looks at."""
    threshold: Array
    """(T * N) go left where the feature is at most this."""
    children: Indices
    """(T * N * 2) numbers of the left and the right child."""
    value: Array
    """(T * N) what a leaf adds to the log-odds."""
    nodes: int
    depth: int
    baseline: float
    names: tuple[str, ...]
    """What each feature is, in order; checked against what the features' code computes."""

    def probabilities(self, features_FB: Array) -> Array:
        """The probability of each of B blocks to be main content."""
        blocks = features_FB.shape[1]
        trees = len(self.feature) // self.nodes
        values = features_FB.ravel()
        row_F = self.feature * blocks
        # Tree by tree, so that neighbours in memory look at the same few nodes and features.
        at_TB = np.repeat(np.arange(trees) * self.nodes, blocks)
        block_TB = np.tile(np.arange(blocks), trees)
        for _ in range(self.depth):
            seen = values.take(row_F.take(at_TB, mode="clip") + block_TB, mode="clip")
            right = seen > self.threshold.take(at_TB, mode="clip")
            at_TB = self.children.take(2 * at_TB + right, mode="clip")
        odds_B = self.value.take(at_TB).reshape(trees, blocks).sum(axis=0) + self.baseline
        return np.asarray(1 / (1 + np.exp(-odds_B)), np.float32)


@dataclass(frozen=True, slots=True)
class BlockModel:
    """Words, the trees that judge a page's blocks one by one, and those that judge them by the first."""

    words: Words
    first: Trees
    second: Trees


@lru_cache(maxsize=2)
def load_model(path: Path = WEIGHTS, sha256: str = WEIGHTS_SHA256) -> BlockModel:
    """Read a weights file; one of another digest than expected is refused (an empty digest checks nothing).

    Raises:
        WeightsError: the file is absent, or is another.
    """
    from safetensors.numpy import load

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}. Reinstall modelmill") from error
    found = hashlib.sha256(raw).hexdigest()
    if sha256 and found != sha256:
        raise WeightsError(f"{path} has sha256 {found}, expected {sha256}. Reinstall modelmill")
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    about = {key: json.loads(value) for key, value in header["__metadata__"].items()}
    arrays = load(raw)
    near, far, text = (
        dict(zip(about[kind], arrays[kind].astype(np.float64).tolist(), strict=True))
        for kind in ("near", "far", "text")
    )
    first, second = (
        Trees(
            feature=arrays[f"{stage}_feature"].astype(np.intp),
            threshold=arrays[f"{stage}_threshold"],
            children=arrays[f"{stage}_children"].astype(np.intp),
            value=arrays[f"{stage}_value"],
            nodes=about[stage]["nodes"],
            depth=about[stage]["depth"],
            baseline=about[stage]["baseline"],
            names=tuple(about[stage]["names"]),
        )
        for stage in STAGES
    )
    return BlockModel(Words(near, far, text), first, second)


def choose(probabilities_B: Array, lengths_B: Array, floor: float) -> NDArray[np.bool_]:
    """The blocks to keep: those that make the expected F1 of the page's text highest.

    Of all sets {blocks of probability p or more}, F1 is expected to be highest where p is half of that F1
    (Lipton, Elkan and Naryanaswamy, 2014), so the threshold is found page by page, not tuned. Below ``floor``
    nothing is kept: a page may have no main content at all.
    """
    order, _, expected = expected_f1(probabilities_B, lengths_B)
    threshold = probabilities_B[order[int(expected.argmax())]]
    return np.asarray(probabilities_B >= max(float(threshold), floor))


def expected_f1(
    probabilities_B: NDArray[np.floating[Any]], lengths_B: Array
) -> tuple[Indices, NDArray[np.float64], NDArray[np.float64]]:
    """The B blocks, likeliest first; for each, the length and the expected F1 of all up to it."""
    order = np.argsort(-probabilities_B, kind="stable")
    hits = np.cumsum((probabilities_B * lengths_B)[order], dtype=np.float64)
    kept = np.cumsum(lengths_B[order], dtype=np.float64)
    return order, kept, 2 * hits / (kept + hits[-1] + 1e-9)
