"""The trees of the block classifier: trained with scikit-learn, exported as plain arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_measures import Array
from tasks.text.block_model import STAGES, BlockModel, Trees

SETTINGS = {
    "max_iter": 120,
    "learning_rate": 0.1,
    "max_leaf_nodes": 31,
    "max_depth": 7,
    "min_samples_leaf": 40,
    "l2_regularization": 1.0,
    "max_bins": 64,
    "max_features": 0.5,
    "early_stopping": False,
    "random_state": 0,
}
SECOND = {**SETTINGS, "max_iter": 60, "max_leaf_nodes": 15}
"""For the trees that see what the first ones said: there is less to learn, and more to learn by heart."""
LIGHT = 0.02
"""Blocks of less weight are sampled, weighted up in turn: menus would fill most of the table."""
FEWEST = 0.1
"""Share of the lightest blocks that is taken."""


def sample(weights_R: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights with which R blocks are trained on; 0 for those that are left out."""
    share_R = np.clip(weights_R / LIGHT, FEWEST, 1)
    taken_R = np.random.default_rng(0).random(len(weights_R)) < share_R
    return np.asarray(np.where(taken_R, weights_R / share_R, 0), np.float32)


def fit_trees(
    features_RF: Array,
    belongs_R: NDArray[np.bool_],
    weights_R: NDArray[np.float32],
    names: Sequence[str],
    settings: Mapping[str, Any] = SETTINGS,
) -> Trees:
    """Train on R blocks and return the trees as they will be exported; the same rows give the same trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trained: Any = HistGradientBoostingClassifier(**settings)
    trained.fit(features_RF, belongs_R, sample_weight=weights_R / weights_R.mean())
    return as_arrays(trained, names)


def as_arrays(trained: Any, names: Sequence[str]) -> Trees:
    """A fitted HistGradientBoostingClassifier as the arrays that Trees evaluates."""
    trees = [stage[0].nodes for stage in trained._predictors]
    most = max(map(len, trees))
    feature = np.zeros((len(trees), most), np.intp)
    threshold = np.zeros((len(trees), most), np.float32)
    children = np.zeros((len(trees), most, 2), np.intp)
    value = np.zeros((len(trees), most), np.float32)
    for number, nodes in enumerate(trees):
        size = len(nodes)
        leaf = nodes["is_leaf"].astype(bool)
        here = np.arange(size)
        feature[number, :size] = np.where(leaf, 0, nodes["feature_idx"])
        threshold[number, :size] = _rounded_down(np.where(leaf, 0, nodes["num_threshold"]))
        children[number, :size, 0] = number * most + np.where(leaf, here, nodes["left"])
        children[number, :size, 1] = number * most + np.where(leaf, here, nodes["right"])
        value[number, :size] = np.where(leaf, nodes["value"], 0)
    return Trees(
        feature=feature.ravel(),
        threshold=threshold.ravel(),
        children=children.ravel(),
        value=value.ravel(),
        nodes=most,
        depth=int(max(nodes["depth"].max() for nodes in trees)),
        baseline=float(trained._baseline_prediction.ravel()[0]),
        names=tuple(names),
    )


def _rounded_down(thresholds: NDArray[np.float64]) -> Array:
    """The greatest float32 not above each: for float32 features the comparison is then the same."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def export(model: BlockModel, path: Path) -> str:
    """Write a model as safetensors; return the file's sha256."""
    from safetensors.numpy import save

    kinds = {"near": model.words.near, "far": model.words.far, "text": model.words.text}
    arrays: dict[str, NDArray[Any]] = {
        kind: np.array(list(weights.values()), np.float16) for kind, weights in kinds.items()
    }
    about: dict[str, object] = {kind: list(weights) for kind, weights in kinds.items()}
    for stage, trees in zip(STAGES, (model.first, model.second), strict=True):
        arrays |= {
            f"{stage}_feature": trees.feature.astype(np.uint8),
            f"{stage}_threshold": trees.threshold,
            f"{stage}_children": trees.children.astype(np.uint16),
            f"{stage}_value": trees.value,
        }
        about[stage] = {
            "nodes": trees.nodes,
            "depth": trees.depth,
            "baseline": trees.baseline,
            "names": trees.names,
        }
    said = {key: json.dumps(each, ensure_ascii=False) for key, each in about.items()}
    raw = save(arrays, metadata=said)
    path.write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()
