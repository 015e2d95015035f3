"""One dial: a whole recipe from a depth, or from the minutes there are.

Shape. Width is 64 a layer with heads of 64, so that depth alone sets the size (Karpathy's nanochat has the
same rule); the least width is 128.

Length. About 20 tokens a parameter are best for a given amount of compute (Hoffmann et al. 2022, "Training
compute-optimal large language models"). Matrices learn under Muon, which was measured to need far fewer, but
the small models here also see their text several times; 20 is kept for depth, and from a time budget the
depth is the largest whose 20 tokens a parameter fit the time, at least 2.

Batch. The critical batch grows with the tokens trained on, about as their square root (Zhang et al. 2024,
"How does critical batch size scale in pre-training?"): 1,024 tokens at a million, where it was measured
here, doubled with every factor of four, at most half a million.

Learning rate. Muon's, matched to AdamW's size of step, carries over between widths; it is constant here. The
embeddings' falls with the root of the width (nanochat's rule for AdamW beside Muon): 6e-3 at 256 wide, where
it was measured, and so 3.5e-3 at GPT-2's 768.
"""

from __future__ import annotations

import math

from tasks.gpt.config import HeldOutConfig, ModelShape, OptimizerConfig, ScheduleConfig, TrainConfig
from tasks.gpt.estimate import count_parameters, flops_per_token
from tasks.gpt.shape import GPTConfig

TOKENS_PER_PARAMETER = 20
WIDTH_PER_LAYER = 64
HEAD = 64
SMALLEST_WIDTH = 128
BATCH_AT_A_MILLION = 1024
LARGEST_BATCH = 2**19
EMBEDDING_LR_AT_256 = 6e-3
DEEPEST = 48


def from_depth(depth: int, vocab_size: int, *, context: int = 256, tokens: int = 0) -> TrainConfig:
    """A complete recipe for a model of ``depth`` layers; ``tokens`` 0 takes 20 a parameter."""
    shape = shape_of(depth, vocab_size, context)
    total = tokens or TOKENS_PER_PARAMETER * count_parameters(shape)
    batch = max(1, batch_tokens(total) // context)
    steps = max(1, round(total / (batch * context)))
    return TrainConfig(
        model=ModelShape(layers=depth, heads=shape.n_head, width=shape.n_embd, context=context),
        steps=steps,
        batch_sequences=batch,
        optimizer=_rates(shape.n_embd),
        schedule=ScheduleConfig(warmup_steps=min(100, steps // 20)),
        held_out=HeldOutConfig(every_steps=max(1, steps // 10)),
    )


def from_minutes(
    minutes: float, vocab_size: int, flops_per_second: float, *, context: int = 256
) -> TrainConfig:
    """The recipe that makes the most of so many minutes.

    ``flops_per_second`` is what the device reaches while training such a model (:mod:`tasks.gpt.pace`
    measures it). Raises ValueError where the time is not more than nothing.
    """
    if minutes <= 0 or flops_per_second <= 0:
        raise ValueError(f"{minutes} minutes at {flops_per_second} FLOP/s: both must be more than nothing")
    budget = minutes * 60 * flops_per_second
    depth = 2
    while depth < DEEPEST and _compute(shape_of(depth + 1, vocab_size, context)) <= budget:
        depth += 1
    tokens = budget / flops_per_token(shape_of(depth, vocab_size, context))
    return from_depth(depth, vocab_size, context=context, tokens=int(tokens))


def shape_of(depth: int, vocab_size: int, context: int) -> GPTConfig:
    """The shape that a depth stands for."""
    width = max(SMALLEST_WIDTH, WIDTH_PER_LAYER * depth)
    return GPTConfig(vocab_size, depth, width // HEAD, width, context)


def batch_tokens(total: int) -> int:
    """Tokens of one optimizer step for a run over ``total`` tokens: a power of two."""
    ideal = BATCH_AT_A_MILLION * math.sqrt(max(1.0, total / 1e6))
    return int(min(LARGEST_BATCH, 2 ** round(math.log2(ideal))))


def _rates(width: int) -> OptimizerConfig:
    """All rates, also those that are as usual: what is left out would come from the preset beneath."""
    usual = OptimizerConfig()
    return OptimizerConfig(
        matrix_lr=usual.matrix_lr, embedding_lr=embedding_lr(width), vector_lr=usual.vector_lr
    )


def embedding_lr(width: int) -> float:
    """Peak rate of the embeddings of a model so wide, to two digits, as people would write it."""
    return float(f"{EMBEDDING_LR_AT_256 * math.sqrt(256 / width):.1e}")


def _compute(shape: GPTConfig) -> float:
    return float(TOKENS_PER_PARAMETER * count_parameters(shape)) * flops_per_token(shape)
