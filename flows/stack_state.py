"""What is written down about a running stack, so that another command finds it: one small JSON file."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from flows.stack_errors import StackError
from flows.stack_processes import is_alive
from storage.home import SERVED, home

Phase = Literal["starting", "ready", "stopping", "stopped"]


class ServiceState(BaseModel):
    """One service of the stack."""

    name: str
    pid: int
    created: float
    log: str
    restarts: int = 0
    last_end: str = ""
    """How it last ended, if it has."""
    given_up: bool = False
    """It ended too often and is left alone."""

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return is_alive(self.pid, self.created)


class StackState(BaseModel):
    """A stack: who runs it, where it answers, and its services."""

    mark: str
    pid: int
    created: float
    phase: Phase = "starting"
    prefect_ui: str
    prefect_api: str
    mlflow: str
    mlflow_ui: str
    served_registry: str = ""
    """MLflow's address and its database's, where the stack has it (:data:`storage.home.SERVED`)."""
    services: list[ServiceState] = []

    @property
    def running(self) -> bool:
        """Whether the process that keeps the stack lives."""
        return is_alive(self.pid, self.created)


def folder() -> Path:
    """Where the stack keeps its own files."""
    return home() / "stack"


def write(state: StackState) -> None:
    """Replace the state file as a whole."""
    path = folder() / "state.json"
    partial = path.with_suffix(".partial")
    partial.write_text(state.model_dump_json(indent=1), encoding="utf-8")
    partial.replace(path)


def read() -> StackState | None:
    """The state of this home's stack, running or not; None where there never was one."""
    try:
        return StackState.model_validate(json.loads((folder() / "state.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValidationError, ValueError):
        return None


@contextmanager
def only_one() -> Iterator[None]:
    """Hold this home's stack; the kernel lets go when the process ends, however it ends.

    Raises StackError, with the addresses, where another process holds it.
    """
    folder().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder() / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(_taken()) from None
        yield
    finally:
        os.close(descriptor)


def _taken() -> str:
    state = read()
    if state is None or not state.running:
        return f"Another `modelmill up` is just starting or stopping in {home()}; try again in a moment."
    return (
        f"`modelmill up` already runs for {home()} (process {state.pid}): Prefect at {state.prefect_ui}, "
        f"MLflow at {state.mlflow_ui}. `modelmill status` looks at it, `modelmill down` stops it."
    )


def running_addresses() -> dict[str, str]:
    """PREFECT_API_URL, MLFLOW_TRACKING_URI and SERVED of this home's stack, if it is ready; else nothing."""
    state = read()
    if state is None or state.phase != "ready" or not state.running:
        return {}
    return {
        "PREFECT_API_URL": state.prefect_api,
        "MLFLOW_TRACKING_URI": state.mlflow,
        SERVED: state.served_registry,
    }
