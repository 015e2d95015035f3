"""What a training run is made of, and how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from tasks.gpt.checkpoint import Saver
from tasks.gpt.config import TrainConfig
from tasks.gpt.device import Device
from tasks.gpt.distributed import World
from tasks.gpt.metrics import MetricsWriter
from tasks.gpt.model import GPT


class Batches(Protocol):
    """Where sequences come from: this process's slice of any global batch, by its number."""

    identity: dict[str, Any]
    """What decides which sequences come in which order: a run does not go on over others."""

    def batch(self, index: int) -> tuple[np.ndarray, ...]:
        """Inputs and targets, int64, (sequences of this process, T).

        Packed sequences have a third array, int32, of the same shape: which document each place belongs to,
        -1 for padding (see tasks.gpt.model.GPT.hidden).
        """
        ...

    def documents(self, index: int) -> list[str]:
        """Identities of the documents in a global batch."""
        ...


@dataclass
class Position:
    """Where a run is; all of it goes into checkpoints."""

    step: int = 0
    """Optimizer steps done."""
    batch: int = 0
    """The next global batch; ahead of ``step`` after a rewind."""
    rewinds: int = 0
    evaluated: int = 0
    """The step of the last held-out loss."""
    best_step: int = 0
    best_loss: float = math.inf
    waited: int = 0
    """Held-out losses since the best one."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``finished``, or ``stopped`` because it was asked to."""

    state: Literal["finished", "stopped"]
    step: int
    best_step: int
    best_loss: float


@dataclass
class Parts:
    """What a trainer is made of; tests and benchmarks put their own in."""

    model: GPT
    config: TrainConfig
    batches: Batches
    held_out: list[tuple[np.ndarray, ...]]
    """Batches as :meth:`Batches.batch` gives them."""
    device: Device
    micro_batch: int
    saver: Saver
    metrics: MetricsWriter
    world: World = field(default_factory=World)
    ceiling: float = 0.0
    """Measured FLOP/s at best; 0 leaves MFU out."""
    compiled: bool = False
    stop: Callable[[], bool] = lambda: False
    look_every: int = 1
    numerics: dict[str, Any] = field(default_factory=dict)
