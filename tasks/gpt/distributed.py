"""Several training processes as one: DDP or FSDP2 under torchrun, with whole tensors at the edges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tasks.gpt.device import Device
from tasks.gpt.model import GPT


@dataclass(frozen=True)
class World:
    """This process among all of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes metrics and checkpoints."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Each value summed over all processes, in float64."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=_collective_device())
        dist.all_reduce(tensor)
        return cast(list[float], tensor.tolist())

    def from_leader(self, value: int) -> int:
        """The leader's value, everywhere."""
        return round(self.sum([float(value) if self.leads else 0.0])[0])


def world_of_environment() -> World:
    """What torchrun says of this process; alone without it."""
    return World(
        rank=int(os.environ.get("RANK", "0")),
        size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


@contextmanager
def connected(world: World, device: Device) -> Iterator[None]:
    """Join the process group while the block runs: gloo on CPUs, nccl on GPUs.

    All leave it together: torchrun ends the leader, which writes the model, where another one fails as it
    exits.
    """
    if world.size == 1:
        yield
        return
    dist.init_process_group("nccl" if device.kind == "cuda" else "gloo")
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def spread(model: GPT, world: World, device: Device, kind: Literal["ddp", "fsdp"]) -> nn.Module:
    """The model over all processes; alone it is the model itself."""
    if world.size == 1:
        return model
    if kind == "ddp":
        ids = [device.index] if device.kind == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard  # a second to import: only where it is used

    mesh = dist.device_mesh.init_device_mesh(device.kind, (world.size,))
    for block in model.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def accumulating(module: nn.Module, last: bool) -> Any:
    """A context for one micro-batch: gradients are exchanged with the ``last`` one only."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    if hasattr(module, "set_requires_gradient_sync"):
        cast(Any, module).set_requires_gradient_sync(last)
    return nullcontext()


def token_shares(
    arrays: tuple[np.ndarray, ...], micro_batch: int, world: World, device: Device
) -> list[float | Tensor]:
    """What each micro-batch's mean loss weighs, so that each token of the global batch weighs alike.

    Packed sequences (see :class:`tasks.gpt.parts.Batches`) are padded unequally: their tokens are counted,
    over all processes, whose gradients are averaged; on the device, so that nobody waits for a GPU.
    """
    starts, sequences = range(0, len(arrays[0]), micro_batch), len(arrays[0])
    if len(arrays) < 3:  # every place has a token
        return [min(micro_batch, sequences - start) / sequences for start in starts]
    inside = arrays[2] >= 0
    counts = [int(inside[start : start + micro_batch].sum()) for start in starts]
    if world.size == 1:
        return [count / sum(counts) for count in counts]
    total = torch.tensor(float(sum(counts)), device=device.place)
    dist.all_reduce(total)
    return [count * world.size / total for count in counts]


def places(arrays: tuple[np.ndarray, ...]) -> int:
    """Places of a batch that hold a token."""
    return int((arrays[2] >= 0).sum()) if len(arrays) > 2 else int(arrays[1].size)


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds only a part of it."""
    return hasattr(tensor, "device_mesh")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process."""
    return cast(Tensor, cast(Any, tensor).full_tensor()) if hasattr(tensor, "full_tensor") else tensor


def like(tensor: Tensor, example: Tensor) -> Tensor:
    """A whole tensor placed as ``example`` is: on its device, cut as it is cut."""
    tensor = tensor.to(device=example.device, dtype=example.dtype)
    return part_of(tensor, example)


def part_of(tensor: Tensor, example: Tensor) -> Tensor:
    """A tensor that every process has whole, cut as ``example`` is cut, without anything being sent."""
    if not is_sharded(example):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    cut = cast(Any, example)
    return distribute_tensor(tensor, cut.device_mesh, cut.placements, src_data_rank=None)


def _collective_device() -> torch.device:
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
