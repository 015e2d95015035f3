"""How fast this machine trains: what a recipe for so many minutes is made from."""

from __future__ import annotations

import math
import time

import torch

from tasks.gpt import device as devices
from tasks.gpt import dial, optim
from tasks.gpt.config import TrainConfig
from tasks.gpt.estimate import flops_per_token
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.products import set_threads

ROUNDS = 4
"""Recipes tried until the depth that was measured is the depth that the measurement leads to."""


def recipe_for(minutes: float, vocab_size: int, *, context: int = 256) -> tuple[TrainConfig, float]:
    """The recipe that makes the most of so many minutes here, and the FLOP/s that it was measured to reach.

    A larger model reaches more, so that the depth and the rate are found in turns. Raises ValueError as
    :func:`tasks.gpt.dial.from_minutes` does.
    """
    recipe = dial.from_minutes(minutes, vocab_size, 1.0, context=context)
    for _ in range(ROUNDS):
        rate = training_rate(recipe, vocab_size)
        found = dial.from_minutes(minutes, vocab_size, rate, context=context)
        settled = found.model == recipe.model and found.batch_sequences == recipe.batch_sequences
        recipe = found
        if settled:
            break
    return recipe, rate


def training_rate(config: TrainConfig, vocab_size: int, *, seconds: float = 2.0) -> float:
    """FLOP/s of whole training steps of this recipe, the median over about ``seconds`` after a first one."""
    hardware, shape = config.hardware, config.model
    device = devices.choose(hardware.device, config.precision, hardware.threads, 0, 1)
    set_threads(device.threads)
    model = GPT(GPTConfig(vocab_size, shape.layers, shape.heads, shape.width, shape.context))
    model.init_weights(config.seed)
    optimizers = optim.build(model.to(device.place), config.optimizer)
    tokens_BT = torch.randint(vocab_size, (config.batch_sequences, shape.context), device=device.place)
    micro = devices.fitting_micro_batch(config, model.config, device, config.batch_sequences)
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        for part_BT in torch.split(tokens_BT, micro):
            with device.autocast():
                loss = model(part_BT, part_BT)[1] * (len(part_BT) / len(tokens_BT))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip or math.inf, foreach=True)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        devices.synchronise(device)
        times.append(time.perf_counter() - started)
    step = sorted(times[1:])[len(times[1:]) // 2]
    return tokens_BT.numel() * flops_per_token(model.config) / step
