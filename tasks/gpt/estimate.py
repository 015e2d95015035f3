"""What a run will take, told before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tasks.gpt.config import TrainConfig
from tasks.gpt.shape import GPTConfig

ACTIVATION_BYTES = {"bf16": 2, "float32": 4}
GIB = 2**30


def count_parameters(shape: GPTConfig) -> int:
    """Parameters of the exported model."""
    per_layer = 12 * shape.n_embd**2 + 13 * shape.n_embd
    return (shape.vocab_size + shape.block_size + 2) * shape.n_embd + shape.n_layer * per_layer


def flops_per_token(shape: GPTConfig) -> int:
    """Floating-point operations to train on one token at full context.

    Six for each parameter that takes part in a matmul (positions do not), and 12 * layers * width * context
    for attention (Chowdhery et al. 2022, "PaLM", appendix B).
    """
    parameters = count_parameters(shape) - shape.block_size * shape.n_embd
    return 6 * parameters + 12 * shape.n_layer * shape.n_embd * shape.block_size


def micro_batch(
    shape: GPTConfig, sequences: int, *, precision: str, budget: float, recompute: bool, device: str = "cpu"
) -> int:
    """Sequences to compute at once so that their activations fit ``budget`` bytes, 1 to ``sequences``.

    Counted, not probed, so that one config gives one answer: a layer keeps about 16 widths a token in the
    matmuls' type and 8 in float32, and on a CPU in bfloat16 the shares of its attention (half of all pairs
    of positions a head: :mod:`tasks.gpt.attention`); with recomputation one width a layer and one layer's
    whole. Micro-batches come out equal: the fewest that fit.
    """
    token = shape.n_embd * (16 * ACTIVATION_BYTES[precision] + 8 * 4)
    if device == "cpu" and precision == "bf16":
        token += shape.n_head * shape.block_size // 2 * ACTIVATION_BYTES[precision]
    kept = shape.n_layer * shape.n_embd * 4 + token if recompute else shape.n_layer * token
    fitting = max(1, int(budget // (kept * shape.block_size)))
    rounds = -(-sequences // fitting)
    return -(-sequences // rounds)


def activation_budget(config: TrainConfig, shape: GPTConfig, device_bytes: int | None) -> float:
    """Bytes for a micro-batch's activations: as configured; else 4 GB on a CPU, or what a GPU leaves.

    ``device_bytes`` is a GPU's whole memory, None on a CPU.
    """
    if config.hardware.memory_gb:
        return config.hardware.memory_gb * GIB
    if device_bytes is None:
        return 4.0 * GIB
    model_bytes = 16 * count_parameters(shape)
    return max(0.7 * device_bytes - model_bytes, GIB)


@dataclass(frozen=True)
class Plan:
    """The size of a run."""

    parameters: int
    tokens: int
    """Tokens trained on, repeats counted."""
    corpus_tokens: int
    epochs: float
    flops: float
    seconds: float
    """Expected, from a measured step; 0 where none was measured."""
    micro_batch: int
    accumulation: int

    def facts(self) -> dict[str, Any]:
        """For a metrics event."""
        return asdict(self)


def plan(
    config: TrainConfig, shape: GPTConfig, corpus_tokens: int, micro: int, step_seconds: float, processes: int
) -> Plan:
    """Put a run's size together. ``step_seconds`` is one optimizer step's time."""
    tokens = config.steps * config.batch_sequences * shape.block_size
    return Plan(
        parameters=count_parameters(shape),
        tokens=tokens,
        corpus_tokens=corpus_tokens,
        epochs=tokens / max(1, corpus_tokens),
        flops=float(tokens) * flops_per_token(shape),
        seconds=config.steps * step_seconds,
        micro_batch=micro,
        accumulation=-(-config.batch_sequences // (processes * micro)),
    )
