"""Muon for the layers' matrices, AdamW for everything else.

Muon replaces a matrix's momentum by the nearest orthogonal matrix, so that every direction moves alike
(Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"). The step is scaled to the
root mean square of AdamW's (Liu et al. 2025, "Muon is scalable for LLM training"), so that learning rates
carry over. Six choices here:

- Query, key and value share one matrix in GPT-2 and are orthogonalised one by one, as three matrices.
- Matrices of one shape (up to transposition) go through the iteration as one batch: 20.9 ms where one by
  one took 34.6 for a small model on a CPU, and the same result.
- The iteration runs in bfloat16, as published, where the processor multiplies it natively, else in float32:
  for a small model on AVX2 it took 10.7 processor seconds a step in bfloat16, .4 in float32.
- In float32, matrices at least twice as wide as high are iterated on through their small Gram matrices,
  in 51 ms instead of 94 for a small model's eight, which is 7 % of its step. The error stays that of the
  direct way: in gradients with condition numbers up to 1e8 at most 7e-6 of the result.
- Where float32 goes through OpenBLAS (:mod:`tasks.gpt.products`), each matrix keeps to one core, in 130 ms
  for a small model's 24 where batches took 170: of G G^T half is computed, and no core waits for another.
- FSDP's matrices are put together one at a time and each process moves its own rows, so that a sharded run
  learns what one process alone would: torch's Muon takes query, key and value as one matrix, and always
  iterates in bfloat16.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.gpt import products
from tasks.gpt.config import OptimizerConfig
from tasks.gpt.device import multiplies_bf16
from tasks.gpt.distributed import is_sharded, part_of, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: steep at zero, bounded elsewhere; singular values end in about 0.7 to 1.2."""
EPSILON = 1e-7
QKV = "attn.c_attn.weight"
WIDE = 2
"""Columns a row from which the way through the Gram matrix takes fewer products (from 1.5, counted)."""
FORMED_ANEW = 3
"""Iterations on one Gram matrix. Rounding leaves it eigenvalues a little below zero, which grow by the square
of the first coefficient each time: after three they are still lost in rounding, after ten they are not."""
Matrices = TypeVar("Matrices", Tensor, NDArray[np.float32])
"""One matrix, or (a Tensor) a batch of them."""


def orthogonalise(matrices_BMN: Tensor, steps: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The orthogonal factor of each matrix of a batch, roughly, in ``dtype``, (B, M, N).

    Newton-Schulz on the shorter side, as in torch.optim.Muon.
    """
    tall = matrices_BMN.shape[1] > matrices_BMN.shape[2]
    x = matrices_BMN.to(dtype)
    if tall:
        x = x.transpose(1, 2)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    if dtype != torch.float32:
        x = _as_published(x, steps)
    elif products.library() == "openblas" and x.device.type == "cpu":
        x = _one_by_one(x, steps)
    else:
        a_one = COEFFICIENTS[0] * torch.eye(x.shape[1], device=x.device)
        x = _in_float32(x, a_one, steps)
    return x.transpose(1, 2) if tall else x


def _as_published(x_BMN: Tensor, steps: int) -> Tensor:
    """X <- (a + b G + c G^2) X with G = X X^T."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram_BMM = x_BMN @ x_BMN.mT
        update_BMM = torch.baddbmm(gram_BMM, gram_BMM, gram_BMM, beta=b, alpha=c)
        x_BMN = torch.baddbmm(x_BMN, update_BMM, x_BMN, beta=a)
    return x_BMN


def _one_by_one(x_BMN: Tensor, steps: int) -> Tensor:
    """As :func:`_in_float32`, each matrix on one core: several cores on one small product mostly wait.

    In NumPy, whose other operations keep to the thread that they are called in.
    """
    a_one_MM = COEFFICIENTS[0] * np.eye(x_BMN.shape[1], dtype=np.float32)

    def iterate(x_MN: NDArray[np.float32]) -> NDArray[np.float32]:
        return _in_float32(x_MN, a_one_MM, steps)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads, products.single_threaded():
        return torch.from_numpy(np.stack(list(threads.map(iterate, x_BMN.numpy()))))


def _in_float32(x: Matrices, a_one: Matrices, steps: int) -> Matrices:
    """The same iteration of a matrix or a batch; of wide ones mostly in small matrices.

    G follows from G, and X takes the product of all factors at once. That G is formed anew from X every
    ``FORMED_ANEW`` iterations keeps the error that of the direct way. ``a_one`` is a times the identity.
    """
    at_once = FORMED_ANEW if x.shape[-1] >= WIDE * x.shape[-2] else 1
    for first in range(0, steps, at_once):
        gram = x @ x.mT
        product = factor = _factor(gram, a_one)
        for _ in range(1, min(at_once, steps - first)):
            gram = factor @ gram @ factor
            factor = _factor(gram, a_one)
            product = factor @ product
        x = product @ x
    return x


def _factor(gram: Matrices, a_one: Matrices) -> Matrices:
    """a + b G + c G^2, the square as G G^T: libraries that see what it is compute half of it."""
    _, b, c = COEFFICIENTS
    factor = gram @ gram.mT
    factor *= c
    factor += b * gram
    factor += a_one
    return factor


class Muon(torch.optim.Optimizer):
    """Muon over matrices, each cut into ``parts`` stacked square-ish matrices (3 for query-key-value).

    Groups take ``lr``, ``momentum``, ``weight_decay``, ``steps`` (Newton-Schulz iterations) and ``parts``;
    ``dtype`` is that of the iteration.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, dtype: torch.dtype = torch.bfloat16, **defaults: Any
    ) -> None:
        super().__init__(groups, {"parts": 1, **defaults})
        self._dtype = dtype  # the machine's, so no part of the state that a checkpoint takes elsewhere

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of every matrix that has a gradient; closures are not supported."""
        waiting: dict[tuple[int, ...], list[tuple[Tensor, Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum(parameter, group)
                rows, columns = parameter.shape[0] // group["parts"], parameter.shape[1]
                alone = id(parameter) if is_sharded(parameter) else 0  # whole, it takes memory of its own
                key = (min(rows, columns), max(rows, columns), group["steps"], alone)
                waiting[key].append((parameter, update, group))
        for (_, _, steps, _), entries in waiting.items():
            self._apply(entries, steps)
        return None

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Nesterov's look-ahead of the running mean of gradients."""
        state = self.state[parameter]
        gradient = cast(Tensor, parameter.grad)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(buffer, group["momentum"])

    def _apply(self, entries: list[tuple[Tensor, Tensor, dict[str, Any]]], steps: int) -> None:
        """Orthogonalise all entries, wide side last, as one batch; then decay and move each parameter."""
        updates = [whole(u).view(group["parts"], -1, u.shape[1]) for _, u, group in entries]
        wide = [u.transpose(1, 2) if u.shape[1] > u.shape[2] else u for u in updates]
        orthogonal = orthogonalise(torch.cat(wide), steps, self._dtype)
        results = torch.split(orthogonal, [u.shape[0] for u in wide])
        for (parameter, _, group), update, flat in zip(entries, updates, results, strict=True):
            result = flat.transpose(1, 2) if update.shape[1] > update.shape[2] else flat
            scale = 0.2 * math.sqrt(max(update.shape[1:]))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            step = part_of(result.reshape(parameter.shape), parameter)
            parameter.add_(step, alpha=-group["lr"] * scale)


def build(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a model, sharded or not, each group with its peak rate under ``peak``."""
    groups = _by_role(model)
    matrices = groups["qkv"] + groups["matrix"]
    adam = [
        _group(groups["embedding"], config.embedding_lr, 0.0),
        _group(groups["vector"], config.vector_lr, 0.0),
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if config.kind == "adamw":
        adam.append(_group(matrices, config.matrix_lr, config.weight_decay))
    else:
        batched = [
            _group(groups["qkv"], config.matrix_lr, config.weight_decay) | {"parts": 3},
            _group(groups["matrix"], config.matrix_lr, config.weight_decay),
        ]
        dtype = torch.bfloat16 if multiplies_bf16(matrices[0].device.type) else torch.float32
        optimizers.append(
            Muon(batched, dtype=dtype, momentum=config.momentum, steps=config.newton_schulz_steps)
        )
    optimizers.append(torch.optim.AdamW(adam, betas=(config.beta1, config.beta2), eps=1e-8, fused=True))
    return optimizers


def _by_role(model: nn.Module) -> dict[str, list[Tensor]]:
    roles: dict[str, list[Tensor]] = {"qkv": [], "matrix": [], "embedding": [], "vector": []}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            role = "vector"
        elif name.endswith(QKV):
            role = "qkv"
        else:
            role = "embedding" if name.split(".")[-2] in {"wte", "wpe"} else "matrix"
        roles[role].append(parameter)
    return roles


def _group(parameters: list[Tensor], lr: float, weight_decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": lr, "peak": lr, "weight_decay": weight_decay}


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to ``factor`` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
