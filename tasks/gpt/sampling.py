"""Text from a model, token by token, with what was computed for earlier tokens kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.gpt.model import GPT, LayerCache


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.8
    """0 always takes the likeliest token."""
    top_k: int = 50
    """Only the likeliest so many; 0 for all."""
    top_p: float = 0.95
    """Only the likeliest that together have this probability; 1 for all."""
    seed: int = 0


@torch.no_grad()
def generate(
    model: GPT,
    prompt: list[int],
    max_new_tokens: int,
    *,
    eos: int | None = None,
    sampling: Sampling | None = None,
) -> list[int]:
    """Continue a prompt of token ids; returns the new ids, without the end-of-text token that ended them.

    The same model, prompt and seed give the same ids. Where the context is full the older half is
    forgotten. Raises ValueError for an empty prompt (begin with the end-of-text token instead).
    """
    if not prompt:
        raise ValueError("the prompt is empty: begin with the end-of-text token")
    was_training, context = model.training, model.config.block_size
    model.eval()
    rule = sampling or Sampling()
    device = model.wte.weight.device
    generator = torch.Generator().manual_seed(rule.seed)
    cache = empty_cache(model, context)
    seen = list(prompt[-context:])
    fresh, start, new = seen, 0, []
    for _ in range(max_new_tokens):
        if start + len(fresh) > context:
            fresh, start = seen[-(context // 2) :], 0
        x_1TC = model.hidden(torch.tensor([fresh], device=device), cache, start)
        token = draw(model.logits(x_1TC[:, -1])[0].float().cpu(), rule, generator)
        if token == eos:
            break
        start += len(fresh)
        fresh = [token]
        seen.append(token)
        new.append(token)
    model.train(was_training)
    return new


def empty_cache(model: GPT, capacity: int) -> list[LayerCache]:
    """Room for the keys and values of ``capacity`` tokens in each layer, for one sequence."""
    config, weight = model.config, model.wte.weight
    shape = (1, config.n_head, capacity, config.n_embd // config.n_head)
    return [LayerCache(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in range(config.n_layer)]


def draw(logits_V: Tensor, rule: Sampling, generator: torch.Generator) -> int:
    """One token from logits (V,): the likeliest, or drawn among those the rule leaves."""
    if rule.temperature == 0:
        return int(logits_V.argmax())
    logits, ids = torch.sort(logits_V / rule.temperature, descending=True, stable=True)
    if rule.top_k:
        logits, ids = logits[: rule.top_k], ids[: rule.top_k]
    probabilities = torch.softmax(logits, dim=0)
    before = probabilities.cumsum(0) - probabilities
    probabilities = torch.where(before < rule.top_p, probabilities, 0.0)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])
