"""A model and its optimizers as plain tensors on the CPU, and back, sharded or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.gpt.checkpoint import copies
from tasks.gpt.device import Device
from tasks.gpt.distributed import like, whole

Optimizers = list[torch.optim.Optimizer]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters by name."""
    return copies({name: whole(parameter) for name, parameter in model.named_parameters()})


def moments_of(model: nn.Module, optimizers: Optimizers, device: Device) -> dict[str, Tensor]:
    """Copies of the optimizers' state as ``parameter:key``, and of the generators' as ``rng:device``."""
    tensors = {"rng:cpu": torch.get_rng_state()}
    if device.kind == "cuda":
        tensors["rng:cuda"] = torch.cuda.get_rng_state(device.place)
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}:{key}"] = whole(value)
    return copies(tensors)


@torch.no_grad()
def put_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy whole weights into the model's parameters, wherever those are."""
    for name, parameter in model.named_parameters():
        parameter.copy_(like(weights[name], parameter))


def put_moments(model: nn.Module, optimizers: Optimizers, device: Device, tensors: dict[str, Tensor]) -> None:
    """Give saved state back to the optimizers and generators; AdamW's step counts stay whole."""
    owners = {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    for optimizer in optimizers:
        optimizer.state.clear()
    for full_name, tensor in tensors.items():
        name, _, key = full_name.partition(":")
        if name == "rng":
            continue
        parameter = parameters[name]
        value = like(tensor, parameter) if tensor.dim() else tensor.to(device.place)
        owners[parameter].state[parameter][key] = value.clone()
    torch.set_rng_state(tensors["rng:cpu"])
    if device.kind == "cuda" and "rng:cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng:cuda"], device.place)
