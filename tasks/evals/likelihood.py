"""Log-probabilities of short texts after a context, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.evals.windows import LN2, token_bits

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.gpt.model import GPT

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """How likely a text is after its context."""

    log_probability: float
    """In nats."""
    greedy: bool
    """Whether each of its tokens is the likeliest one."""


def log_probabilities(
    model: GPT,
    tokenizer: Tokenizer,
    eos: int,
    pairs: Sequence[tuple[str, str]],
    batch_tokens: int,
    *,
    with_greedy: bool = False,
) -> list[Score]:
    """Score each (context, text) as a document's beginning; a context of more than the model's is cut left.

    Context and text are tokenized together and split where the context's tokens end, its trailing spaces
    counted to the text, so that a word keeps the space it was trained with. Where a token reaches over that
    place (in Chinese in four of ten, at a vocabulary of 8,192), the text is scored from that token on, less
    what the context's own end costs: so texts after one context compare by the probability of the whole.
    """
    sequences, lengths, ends = [], [], {}
    for number, (context, text) in enumerate(pairs):
        before = tokenizer.encode(context.rstrip(), add_special_tokens=False).ids
        whole = tokenizer.encode(context + text, add_special_tokens=False).ids
        shared = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        forgotten = max(0, len(whole) - model.config.block_size)
        kept = np.array([eos, *whole][forgotten:], dtype=np.int64)
        sequences.append(kept)
        lengths.append(min(max(len(whole) - shared, 1 if whole else 0), len(kept) - 1))
        if max(shared, forgotten) < len(before):
            end = np.array([eos, *before][forgotten:], dtype=np.int64)
            ends[number] = (end, min(len(before) - shared, len(end) - 1))
    starts = [end for end, _ in ends.values()]
    bits = token_bits(model, [*sequences, *starts], overlap=0.0, batch_tokens=batch_tokens)
    costs = [float(b[len(b) - n :].sum()) for b, n in zip(bits, lengths, strict=False)]
    for (number, (_, length)), b in zip(ends.items(), bits[len(pairs) :], strict=True):
        costs[number] -= float(b[len(b) - length :].sum())
    greedy = _greedy(model, sequences, lengths, batch_tokens) if with_greedy else [False] * len(pairs)
    return [Score(-cost * LN2, g) for cost, g in zip(costs, greedy, strict=True)]


def _greedy(model: GPT, sequences: Sequence[Ids], lengths: Sequence[int], batch_tokens: int) -> list[bool]:
    """Whether the last ``lengths`` tokens of each sequence are the likeliest, each after the true ones."""
    import torch

    found = [False] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    begin = 0
    while begin < len(order):
        longest = len(sequences[order[begin]])
        rows = order[begin : begin + max(1, batch_tokens // longest)]
        x_BT = torch.zeros((len(rows), longest), dtype=torch.int64)
        for row, index in enumerate(rows):
            x_BT[row, : len(sequences[index])] = torch.from_numpy(sequences[index])
        with torch.inference_mode():
            states_BTC = model.hidden(x_BT[:, :-1].to(model.wte.weight.device))
            for row, index in enumerate(rows):
                end = len(sequences[index])
                span = slice(end - 1 - lengths[index], end - 1)
                likeliest = model.logits(states_BTC[row, span]).argmax(-1).cpu()
                found[index] = bool((likeliest == x_BT[row, end - lengths[index] : end]).all())
        begin += len(rows)
    return found
