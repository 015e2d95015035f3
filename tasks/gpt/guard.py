"""Notices losses that are not numbers or far above their running mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tasks.gpt.config import GuardConfig

MEMORY = 0.95
"""Share of the running mean that stays from step to step: about the last twenty steps."""
SETTLED = 20
"""Steps before a spike can be told from the start of a run."""


@dataclass
class Guard:
    """Judges each step's loss in order; its state is saved, so that a resumed run judges alike."""

    spike_nats: float
    mean: float = 0.0
    seen: int = 0

    def judge(self, loss: float, grad_norm: float) -> str:
        """What is wrong with a step, in words, or an empty string; a good loss moves the running mean."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return f"loss {loss} and gradient norm {grad_norm} are not both numbers"
        if self.spike_nats and self.seen >= SETTLED and loss > self.mean + self.spike_nats:
            return (
                f"loss {loss:.4f} is more than {self.spike_nats} nats above its running mean {self.mean:.4f}"
            )
        self.mean = loss if self.seen == 0 else MEMORY * self.mean + (1 - MEMORY) * loss
        self.seen += 1
        return ""

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint; the threshold stays this run's own."""
        self.mean, self.seen = float(state["mean"]), int(state["seen"])


def way_back(rule: GuardConfig, saved: Iterable[int], before: int, best: int) -> int | None:
    """The step to go back to from step ``before``: the last that is saved, None where there is none.

    A rewind goes to one that every run saves: on the grid, or the ``best`` one; never to where a run was
    only asked to stop, or it would end otherwise than one that was not.
    """
    steps = [step for step in saved if step < before]
    if rule.action == "rewind":
        steps = [step for step in steps if step % rule.checkpoint_steps == 0 or step == best]
    return max(steps, default=None)


def way_out(rule: GuardConfig, checkpoint: int | None) -> str:
    """What to change where a run stops, as a clause; ``checkpoint`` is the step of the last good one."""
    if rule.action == "stop":
        first = "set train.guard.action to rewind, which goes on past that batch"
    elif checkpoint is None:
        first = f"set train.guard.checkpoint_steps below its {rule.checkpoint_steps}"
    else:
        first = f"set train.guard.rewinds above its {rule.rewinds}, which are used up"
    return f"{first}, or the rates in train.optimizer lower"
