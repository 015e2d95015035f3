"""A training curve to MLflow while it runs, without ever holding training up.

Points go into a buffer and from there in batches (10,000 a second; one by one MLflow takes 97), by a thread
of its own. A server that is dead or away costs nothing but the curve's freshness: points stay buffered, are
sent when it answers again, and what is unsent at the end is written beside the run's id, to be sent by
whoever finds it next. The run's id lives in a file, so that a resumed training and a later registration add
to the same run.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from storage.home import tracking_uri, without_password
from storage.registry import connect, experiment_id

STATE = "mlflow_run.json"
"""Holds run_id, experiment_id, tracking_uri, sent (by name, the step of the last point) and unsent points."""
EXPERIMENT = "modelmill"
BATCH = 1000
"""Metrics that MLflow takes in one request."""
INTERVAL_S = 2.0
LONGEST_PAUSE_S = 60.0
PROBE_S = 2.0

logger = logging.getLogger("modelmill")

Point = tuple[str, float, int, int]
"""Name, value, step, milliseconds since the epoch."""

_model: ContextVar[str] = ContextVar("model", default="")


@contextmanager
def naming_runs_after(model: str) -> Iterator[None]:
    """Have the names of the runs that are made in the block begin with the name of the model in training.

    It is no argument of the training, whose result is the same under every name.
    """
    token = _model.set(model)
    try:
        yield
    finally:
        _model.reset(token)


class CurveLogger:
    """Sends points to one MLflow run from a thread; use as a context manager.

    Leaving the block marks the run finished, or failed where an exception passes through.
    """

    def __init__(
        self, folder: Path, *, name: str, params: Mapping[str, Any], experiment: str = "", uri: str = ""
    ) -> None:
        """``folder`` keeps the run's id; ``params`` are logged once, when the run is made."""
        self.folder = folder
        self.uri = uri or tracking_uri()
        self._place = without_password(self.uri)
        self._experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        self._name = f"{_model.get()}-{name}" if _model.get() else name
        self._params = params
        self._state: dict[str, Any] = read_state(folder)
        if self._state.get("tracking_uri") not in (None, self._place):
            self._state = {}  # another server has nothing of the curve: it is told all of it again
        self._buffer: list[Point] = [tuple(point) for point in self._state.pop("unsent", [])]
        self._sent: dict[str, int] = dict(self._state.pop("sent", {}))
        self._seen = self._sent | {name: step for name, _, step, _ in self._buffer}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._status = "FINISHED"
        self._complained = False
        self._thread = threading.Thread(target=self._work, name="mlflow-curve", daemon=True)

    @property
    def run_id(self) -> str:
        """The MLflow run's id; empty until the server has answered once."""
        return str(self._state.get("run_id", ""))

    @property
    def unsent(self) -> int:
        """Points that have not reached the server."""
        with self._lock:
            return len(self._buffer)

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Buffer one step's values; of each name, steps that were told before are left out."""
        now = int(time.time() * 1000)
        with self._lock:
            for name, value in values.items():
                if value is not None and step > self._seen.get(name, -1):
                    self._buffer.append((name, float(value), step, now))
                    self._seen[name] = step

    def go_back(self, step: int) -> None:
        """Take what comes after a step again: the training went back to it, and goes on otherwise."""
        with self._lock:
            self._seen = {name: min(seen, step) for name, seen in self._seen.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status = "FINISHED" if kind is None else "FAILED"
        self.close()

    def close(self, timeout_s: float = 30.0) -> None:
        """Send what is left, for at most ``timeout_s``; the rest is kept in the folder."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        self._remember()
        if self.unsent:
            logger.warning(
                "%d points of the curve did not reach MLflow at %s; they are kept in %s and are sent when "
                "the run is registered or resumed",
                self.unsent,
                self._place,
                self.folder / STATE,
            )

    # ---- the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        client: Any = None
        pause = INTERVAL_S
        while True:
            self._wake.wait(pause)
            closing = self._closing
            try:
                client = client or self._connect()
                self._send(client)
                if closing:
                    client.set_terminated(self.run_id, self._status)
                pause = INTERVAL_S
            except Exception as error:  # whatever the server's trouble is, training goes on
                self._complain(error)
                client, pause = None, min(2 * pause, LONGEST_PAUSE_S)
            if closing:
                return

    def _connect(self) -> Any:
        """A client with this curve's run in it, made or taken up again."""
        probe(self.uri)
        client = connect(self.uri)
        if self.run_id:
            client.update_run(self.run_id, status="RUNNING")
            return client
        found = experiment_id(client, self._experiment)
        made = client.create_run(found, run_name=self._name)
        self._state.update(run_id=made.info.run_id, experiment_id=found, tracking_uri=self._place)
        self._remember()
        for key, value in self._params.items():
            client.log_param(made.info.run_id, key, value)
        return client

    def _send(self, client: Any) -> None:
        from mlflow.entities import Metric

        while True:
            with self._lock:
                points = self._buffer[:BATCH]
            if not points:
                return
            metrics = [Metric(name, value, stamp, step) for name, value, step, stamp in points]
            client.log_batch(self.run_id, metrics=metrics)
            with self._lock:
                del self._buffer[: len(points)]
                self._sent |= {name: step for name, _, step, _ in points}
            self._remember()

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            logger.warning(
                "MLflow at %s does not take the curve yet (%s); training goes on", self._place, error
            )
        self._complained = True

    def _remember(self) -> None:
        with self._lock:
            unsent = self._buffer if self._closing else []
            write_state(self.folder, {**self._state, "sent": self._sent, "unsent": unsent})


def read_state(folder: Path) -> dict[str, Any]:
    """What a folder knows of its MLflow run; empty where it knows none, or the file is torn."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the folder's state file as a whole."""
    temporary = folder / f".{STATE}.tmp"
    temporary.write_text(json.dumps(state), encoding="utf-8")
    temporary.replace(folder / STATE)


def probe(uri: str) -> None:
    """Raise ConnectionError where a server does not listen: MLflow's own retries would take minutes."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), PROBE_S).close()
    except OSError as error:
        raise ConnectionError(f"nothing answers at {without_password(uri)}: {error}") from error
