"""The device a run uses: which one, in what precision, and what it could reach at best."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch

from tasks.gpt import estimate
from tasks.gpt.config import TrainConfig
from tasks.gpt.errors import TrainingError
from tasks.gpt.products import library, product, set_threads
from tasks.gpt.shape import GPTConfig
from tasks.processors import processors

Precision = Literal["bf16", "float32"]
MAX_DEFAULT_THREADS = 16
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""Names under which /proc/cpuinfo lists matrix or dot-product instructions for bfloat16."""
CEILING_SIZE = 2048
CEILING_SIZE_CUDA = 8192


@dataclass(frozen=True)
class Device:
    """Where and how tensors are computed."""

    kind: Literal["cpu", "cuda"]
    index: int
    precision: Precision
    threads: int

    @property
    def place(self) -> torch.device:
        """As torch names it."""
        return torch.device("cpu") if self.kind == "cpu" else torch.device("cuda", self.index)

    @property
    def dtype(self) -> torch.dtype:
        """Of the matmuls."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> torch.autocast:
        """Inside its block, matmuls are computed in this device's precision."""
        return torch.autocast(self.kind, self.dtype, enabled=self.precision != "float32")


def default_threads(processes: int) -> int:
    """Threads a process gets where the config leaves it open: its share of the cores it may use."""
    return max(1, min(processors() // processes, MAX_DEFAULT_THREADS))


def resolve_precision(wanted: str, kind: str) -> Precision:
    """``auto`` means bf16 where the processor multiplies it natively, float32 elsewhere.

    The rule asks what the processor can do, never how fast it was a moment ago, so that one machine always
    gives one answer. On a CPU with avx512_bf16 (no AMX) matmuls were measured 2.5 to 3 times faster so.
    """
    if wanted != "auto":
        return cast(Precision, wanted)
    return "bf16" if multiplies_bf16(kind) else "float32"


def multiplies_bf16(kind: str) -> bool:
    """Whether devices of this kind have bfloat16 instructions here; without, products take far longer."""
    return torch.cuda.is_bf16_supported(including_emulation=False) if kind == "cuda" else cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether this processor has bfloat16 instructions; no, where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return bool(BF16_FLAGS & set(value.split()))
    return False


def choose(device: str, precision: str, threads: int, local_rank: int, processes: int) -> Device:
    """The device for one process. Raises TrainingError where a GPU is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("train.hardware.device is cuda, but torch sees no GPU: set it to auto or cpu")
    kind: Literal["cpu", "cuda"] = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return Device(
        kind=kind,
        index=local_rank,
        precision=resolve_precision(precision, kind),
        threads=threads or default_threads(processes),
    )


def fitting_micro_batch(config: TrainConfig, shape: GPTConfig, device: Device, sequences: int) -> int:
    """Sequences to compute at once of so many, such that the device's memory holds their activations."""
    memory = None
    if device.kind == "cuda":
        memory = torch.cuda.get_device_properties(device.place).total_memory
    return estimate.micro_batch(
        shape,
        sequences,
        precision=device.precision,
        budget=estimate.activation_budget(config, shape, memory),
        recompute=config.hardware.activation_checkpointing,
        device=device.kind,
    )


def make_deterministic(device: Device) -> None:
    """Settle everything that could make two runs differ in their bits. Call before any tensor work."""
    set_threads(device.threads)
    if device.kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(device.index)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.use_deterministic_algorithms(True, warn_only=True)


def matmul_ceiling(device: Device, seconds: float = 0.3) -> float:
    """FLOP/s of the fastest of a few large square matmuls here and now: what MFU is a share of."""
    size = CEILING_SIZE if device.kind == "cpu" else CEILING_SIZE_CUDA
    a = torch.ones(size, size, dtype=device.dtype, device=device.place)
    out = torch.empty_like(a)
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds or best == float("inf"):
        begin = time.perf_counter()
        product(a, a, out)
        synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def synchronise(device: Device) -> None:
    """Wait for a GPU's queue."""
    if device.kind == "cuda":
        torch.cuda.synchronize(device.place)


def peak_memory(device: Device) -> int:
    """Bytes: the GPU's peak of allocated memory, or the process's peak resident size."""
    if device.kind == "cuda":
        return int(torch.cuda.max_memory_allocated(device.place))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe(device: Device) -> dict[str, str | int]:
    """For the run's environment record: hardware and the settings that decide the last bits."""
    name = torch.cuda.get_device_name(device.place) if device.kind == "cuda" else platform.processor()
    return {
        "device": device.kind,
        "device_name": name or platform.machine(),
        "precision": device.precision,
        "threads": device.threads,
        "products": library() if device.kind == "cpu" else "torch",
        "torch": torch.__version__,
    }
