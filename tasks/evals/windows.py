"""How a text longer than a model's context is scored: windows that overlap, each token counted once.

The sequence is the end-of-text token and then the document's tokens; every document token is predicted
exactly once. The first window predicts all its tokens; each later one moves on by
``context - round(context * overlap)`` tokens and predicts only those that no earlier window did. So a token
has either everything before it, or at least ``round(context * overlap)`` tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tasks.gpt.model import GPT

LN2 = float(np.log(2))


@dataclass(frozen=True)
class Window:
    """Positions ``start`` to ``end`` of a sequence are read; predictions up to ``skip`` do not count."""

    sequence: int
    start: int
    end: int
    skip: int
    """Predictions at the window's beginning that an earlier window has already made."""


def plan_windows(lengths: Sequence[int], context: int, overlap: float) -> list[Window]:
    """Windows over sequences of so many tokens (the first token of each is given, not predicted).

    Raises ValueError for a context of less than one token.
    """
    if context < 1:
        raise ValueError(f"a context of {context} tokens cannot predict: at least 1 is needed")
    stride = max(1, context - round(context * overlap))
    windows = []
    for index, length in enumerate(lengths):
        predicted = start = 0
        while predicted < length - 1:
            end = min(start + context, length - 1)
            windows.append(Window(index, start, end, predicted - start))
            predicted, start = end, start + stride
    return windows


def token_bits(
    model: GPT, sequences: Sequence[NDArray[np.integer]], *, overlap: float, batch_tokens: int
) -> list[NDArray[np.float64]]:
    """Bits of every token after the first of each sequence: arrays of ``len(sequence) - 1``.

    Windows of like length are scored together, so that little is padded; padding follows the text and
    cannot be seen by it.
    """
    windows = plan_windows([len(s) for s in sequences], model.config.block_size, overlap)
    bits = [np.zeros(max(len(s) - 1, 0)) for s in sequences]
    for batch in _batches(windows, batch_tokens):
        losses = _losses(model, sequences, batch)
        for window, row in zip(batch, losses, strict=True):
            span = window.end - window.start
            bits[window.sequence][window.start + window.skip : window.end] = row[window.skip : span] / LN2
    return bits


def _batches(windows: list[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Windows from long to short, as many at once as padded fit the budget (at least one)."""
    ordered = sorted(windows, key=lambda w: (w.start - w.end, w.sequence, w.start))
    begin = 0
    while begin < len(ordered):
        longest = ordered[begin].end - ordered[begin].start
        size = max(1, batch_tokens // longest)
        yield ordered[begin : begin + size]
        begin += size


def _losses(model: GPT, sequences: Sequence[NDArray[np.integer]], batch: list[Window]) -> NDArray[np.float64]:
    """Loss in nats of each prediction of each window, (B, T), zeros where a window is shorter."""
    import torch

    longest = max(w.end - w.start for w in batch)
    x_BT = np.zeros((len(batch), longest), dtype=np.int64)
    y_BT = np.zeros_like(x_BT)
    for row, w in enumerate(batch):
        span = sequences[w.sequence][w.start : w.end + 1].astype(np.int64)
        x_BT[row, : len(span) - 1] = span[:-1]
        y_BT[row, : len(span) - 1] = span[1:]
    device = model.wte.weight.device
    with torch.inference_mode():
        losses_BT = model.token_losses(torch.from_numpy(x_BT).to(device), torch.from_numpy(y_BT).to(device))
    return np.asarray(losses_BT.cpu().numpy(), dtype=np.float64)
