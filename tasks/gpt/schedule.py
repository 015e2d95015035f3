"""The learning rate over a run, as a factor of each group's peak."""

from __future__ import annotations

import math

from tasks.gpt.config import ScheduleConfig


def factor(step: int, steps: int, config: ScheduleConfig) -> float:
    """The share of the peak learning rate for step ``step`` of ``steps``, counted from 0.

    Warm-up rises linearly and reaches 1 with its last step. Then ``cosine`` falls over all that is left
    (Loshchilov and Hutter 2017); ``wsd`` stays at 1 and falls linearly over the last ``decay_fraction``
    (Hu et al. 2024, "MiniCPM"), so that a longer run repeats a shorter one up to where that one decays.
    Both end at ``final_fraction``, which the step after the last would have.
    """
    warmup = min(config.warmup_steps, steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.kind == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        height = 0.5 * (1 + math.cos(math.pi * done))
    else:
        decay = min(round(steps * config.decay_fraction), steps - warmup)
        height = 1.0 if decay == 0 else min(1.0, (steps - step) / decay)
    return config.final_fraction + (1 - config.final_fraction) * height
