"""Products of float32 matrices on a CPU, by whichever of the two libraries at hand is made for it.

torch multiplies with MKL, which takes processors that Intel does not make for something less: on an AMD EPYC
with AVX2 a training step took 6.7 processor seconds with it and 5.4 with NumPy's OpenBLAS. The choice follows
from what the processor is, never from how fast something was a moment ago, so that a machine always gives the
same bits.

Both have threads of their own that wait for work awake: OpenBLAS's for 27 ms after each product, in torch's
way. It is chosen only where the environment has them sleep sooner (:data:`~tasks.gpt.supervisor.WAITING`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import ThreadpoolController, threadpool_limits
from torch import Tensor, nn

from tasks.gpt.supervisor import WAITING

FEWEST = 2**22
"""Multiplications from which a product is worth the way through NumPy, some microseconds."""

Library = Literal["torch", "openblas"]


@lru_cache(maxsize=1)
def library() -> Library:
    """What multiplies large float32 matrices on this machine's CPU, in this process."""
    mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    slow = mkl and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return "openblas" if slow and _made_by_amd() and _numpy_has_openblas() and _sleeps_soon() else "torch"


def set_threads(threads: int) -> None:
    """So many threads for everything that this process computes on the CPU."""
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


@contextmanager
def single_threaded() -> Iterator[None]:
    """OpenBLAS's products in one thread each, for callers that have threads of their own."""
    with _openblas().limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _openblas() -> ThreadpoolController:
    return ThreadpoolController().select(internal_api="openblas")


def product(a_MK: Tensor, b_KN: Tensor, out: Tensor | None = None) -> Tensor:
    """``a @ b``, (M, N), written to ``out`` where that is given; without gradients."""
    rows, columns = a_MK.shape[0], b_KN.shape[1]
    if not _is_ours(a_MK, rows * a_MK.shape[1] * columns):
        return torch.mm(a_MK, b_KN, out=out) if out is not None else a_MK @ b_KN
    found = torch.empty(rows, columns) if out is None else out
    np.matmul(a_MK.detach().numpy(), b_KN.detach().numpy(), out=found.numpy())
    return found


def affine(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` over the last dimension of ``x``; without gradients."""
    if not _is_ours(x, x.numel() * len(weight_NK)):
        return F.linear(x, weight_NK, bias_N)
    found = product(x.reshape(-1, x.shape[-1]), weight_NK.t())
    return (found if bias_N is None else found.add_(bias_N)).view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """torch's linear layer, with :func:`product` inside where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """``x @ weight.T + bias`` over the last dimension of ``x``."""
        if torch.compiler.is_compiling() or not _is_ours(x, x.numel() * self.out_features):
            return super().forward(x)
        return cast(Tensor, _Linear.apply(x, self.weight, self.bias))  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_NK: Tensor, bias_N: Tensor) -> Tensor:
        """The layer's output; what the gradients need is kept."""
        ctx.save_for_backward(x, weight_NK)
        return affine(x, weight_NK, bias_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of input, weight and bias."""
        x, weight_NK = ctx.saved_tensors
        x_MK = x.reshape(-1, x.shape[-1])
        grad_MN = grads[0].reshape(-1, len(weight_NK)).contiguous()
        grad_x = product(grad_MN, weight_NK).view(x.shape)
        return grad_x, product(grad_MN.t(), x_MK), grad_MN.sum(0)


def _is_ours(x: Tensor, multiplications: int) -> bool:
    return (
        multiplications >= FEWEST
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and library() == "openblas"
        and not torch.is_autocast_enabled("cpu")
    )


def _made_by_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _numpy_has_openblas() -> bool:
    built: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]
    return "openblas" in str(built["Build Dependencies"]["blas"]["name"])


def _sleeps_soon() -> bool:
    return WAITING.keys() <= os.environ.keys()
