"""A run's page: made from its artifacts, kept in the home folder, and with the version's run in MLflow."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.run_page import run_page
from storage.artifacts import Artifact
from storage.home import home
from storage.mlflow_outage import MlflowUnreachableError, answering
from storage.registry import connect
from storage.store import Store, open_store
from tasks.journal import Entry
from tasks.registration import CARD, DECISION

log = logging.getLogger("modelmill")
PLACE = "report"
"""Folder among the MLflow run's artifacts."""


def page_of(stats: Mapping[str, Any]) -> Path:
    """Where the page of a registered version is, by the stats of its registration."""
    return home() / "reports" / f"{stats['name']}-{stats['version']}.html"


def write_page(
    entries: Sequence[Entry],
    *,
    corpus: Artifact,
    version: Artifact,
    measures: dict[str, Any],
    samples: Sequence[dict[str, Any]],
) -> Path:
    """Write the page of a run that got to its end, and log it to the version's run in MLflow.

    A version's page tells of the run that registered it: one that found it registered leaves it as it is.
    """
    path = page_of(version.stats)
    if path.is_file() and all(entry.state == "cached" for entry in entries if entry.stage == "register"):
        return path
    store = open_store()
    folder = store.open(version)
    text = run_page(
        entries,
        version.stats,
        report=measures,
        samples=samples,
        decision=read_decision(version),
        lengths=_lengths(store, corpus),
        card=_text(folder / CARD),
        plots=sorted((folder / "plots").glob("*.png")),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    _hand_over(path, str(version.stats["run_id"]))
    return path


def _hand_over(path: Path, run_id: str) -> None:
    """Log the page to MLflow; all is done by then, so that no run fails where MLflow has gone meanwhile."""
    client = connect()
    try:
        with answering(client.tracking_uri):
            client.log_artifact(run_id, str(path), PLACE)
    except MlflowUnreachableError as error:
        log.warning("the run's page is %s and not in MLflow: %s", path, error)


def read_decision(version: Artifact) -> dict[str, Any]:
    """The gate's decision of a registration's artifact, with every rule and the comparison."""
    decision: dict[str, Any] = json.loads((open_store().open(version) / DECISION).read_text(encoding="utf-8"))
    return decision


def _text(path: Path) -> str:
    """A file's text; a registration that went on after an interruption left no second copy of its card."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _lengths(store: Store, corpus: Artifact) -> NDArray[np.int64]:
    """Characters of every document of a corpus, from the signatures beside it."""
    parts = sorted(store.open(corpus).glob("signatures-*.parquet"))
    columns = [pq.read_table(part, columns=["length"])["length"].to_numpy() for part in parts]
    return np.concatenate([np.zeros(0, np.int64), *columns]).astype(np.int64)
