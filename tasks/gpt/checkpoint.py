"""Checkpoints that survive a kill at any instant and say when one was damaged.

``FOLDER/step-00000120/`` holds weights.safetensors, optimizer.safetensors and state.json (step, data
position, guard, numerics, and the sha256 of itself and the other two). It is written under a temporary name,
each file fsynced, and renamed as a whole, so that a folder of that name is complete; the digests catch what
happens to it later. Tensors are copied at once and written by a thread while training goes on: one save at a
time.

Files are the whole model's whatever the number of processes, so that a run continues on another number.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
PREFIX = "step-"
TEMPORARY = ".tmp-"


class CheckpointError(Exception):
    """A checkpoint could not be written."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on exactly where it was."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """By ``parameter.key``, and the generators' states under ``rng.*``."""
    state: dict[str, Any]
    """JSON: ``step`` and whatever the trainer keeps beside tensors."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"{PREFIX}{step:08d}"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    return sorted(int(path.name.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*"))


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write one checkpoint so that it is there whole or not at all. Raises CheckpointError on a full disk."""
    final = path_of(folder, checkpoint.step)
    temporary = folder / f"{TEMPORARY}{final.name}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(checkpoint.weights, temporary / WEIGHTS)
        save_file(checkpoint.optimizer, temporary / OPTIMIZER)
        digests = {name: _sha256(temporary / name) for name in (WEIGHTS, OPTIMIZER)}
        digests[STATE] = _digest_of(checkpoint.state)
        (temporary / STATE).write_text(_as_text({**checkpoint.state, "sha256": digests}), encoding="utf-8")
        for name in (WEIGHTS, OPTIMIZER, STATE):
            _fsync(temporary / name)
        if final.exists():  # the same step again, after a rewind or a damaged twin
            shutil.rmtree(final)
        temporary.rename(final)
        _fsync(folder)
    except (OSError, SafetensorError) as error:  # the library's own error also where the disk is full
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"could not write {final}: {error}; make room and run again") from error
    return final


def read(folder: Path, step: int) -> Checkpoint:
    """Read a step's checkpoint. Raises CheckpointError, saying which file, where it is not as written."""
    path = path_of(folder, step)
    state, digests = _read_state(path, step)
    try:
        for name in (WEIGHTS, OPTIMIZER):
            if _sha256(path / name) != digests[name]:
                raise CheckpointError(f"{path / name} is not as it was written")
        return Checkpoint(load_file(path / WEIGHTS), load_file(path / OPTIMIZER), state)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_state(folder: Path, step: int) -> dict[str, Any]:
    """A checkpoint's state without its tensors. Raises CheckpointError where it is not as written."""
    return _read_state(path_of(folder, step), step)[0]


def _read_state(path: Path, step: int) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
        digests = dict(state.pop("sha256"))
        if _digest_of(state) != digests[STATE]:
            raise CheckpointError(f"{path / STATE} is not as it was written")
        if state["step"] != step:
            raise CheckpointError(f"{path / STATE} is of step {state['step']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / STATE} cannot be read: {error}") from error
    return state, digests


def read_last(folder: Path, say: Callable[[str], None], through: int | None = None) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None; each damaged one is told to ``say``, and removed.

    So are those after step ``through``, where it is given.
    """
    for step in reversed(steps_in(folder)):
        if through is not None and step > through:
            shutil.rmtree(path_of(folder, step), ignore_errors=True)
            continue
        try:
            return read(folder, step)
        except CheckpointError as error:
            say(f"checkpoint of step {step} is damaged ({error}); taking the one before")
            shutil.rmtree(path_of(folder, step), ignore_errors=True)
    return None


def prune(folder: Path, keep: int, pinned: Collection[int] = ()) -> list[int]:
    """Remove all but the last ``keep`` checkpoints and the pinned ones; returns the steps removed."""
    steps = steps_in(folder)
    removed = [step for step in steps[:-keep] if step not in pinned]
    for step in removed:
        shutil.rmtree(path_of(folder, step), ignore_errors=True)
    return removed


class Saver:
    """Writes checkpoints in a thread of its own, one at a time."""

    def __init__(self, folder: Path, keep: int, before: Callable[[], None] = lambda: None) -> None:
        """``before`` runs in the thread ahead of each write: to make durable what must not be behind it."""
        self.folder = folder
        self.keep = keep
        self._before = before
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, checkpoint: Checkpoint, pinned: Collection[int] = ()) -> None:
        """Start writing (the tensors must be copies); waits for the one before. Raises its error, if any."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint, pinned), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written. Raises CheckpointError where the last write failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, checkpoint: Checkpoint, pinned: Collection[int]) -> None:
        try:
            self._before()
            write(self.folder, checkpoint)
            prune(self.folder, self.keep, pinned)
        except BaseException as error:  # raised where the trainer next looks
            self._error = error


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies that training cannot change any more."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _as_text(state: Mapping[str, Any]) -> str:
    return json.dumps(state, indent=1, sort_keys=True)


def _digest_of(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(_as_text(state).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
