"""Interpolated Kneser-Ney n-gram models of token streams: the baselines every trained model stands beside.

Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1998 (section 2.7), one discount an order:

    p_k(w | h) = max(c(hw) - D, 0) / c(h.) + gamma(h) * p_{k-1}(w | h'),   h' = h without its oldest token
    gamma(h)   = D N1+(h.) / c(h.),   N1+(h.) = different tokens seen after h
    D          = n_1 / (n_1 + 2 n_2),   n_i = n-grams counted i times

(Their modified form with three discounts was measured, too: 0.8 % worse for bigrams and 2.7 % for trigrams
on documentation with many repetitions.)

The highest order has raw counts; below it c(hw) is the number of different tokens seen before hw. What the
lowest order leaves over goes to all V tokens alike, so that nothing has probability zero and every
distribution sums to one.

An n-gram is one integer (its tokens as digits in base V), an order is a sorted array of them with counts:
all counting is sorting, all lookup is binary search, and five million tokens take a few seconds. Orders up
to three fit 64 bits for any 16-bit vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_ORDER = 3


@dataclass(frozen=True)
class Level:
    """One order's n-grams: sorted keys with their discounted shares, and what each context leaves over."""

    keys: Ints
    shares: Floats
    """``max(c(hw) - D, 0) / c(h.)`` for each key."""
    contexts: Ints
    """Sorted context keys (the n-gram's key without its last digit)."""
    left_over: Floats
    """``gamma(h)`` for each context."""


class KneserNey:
    """An n-gram model of order 1 to 3 over the ids 0 to ``vocab_size`` - 1."""

    def __init__(self, levels: list[Level], vocab_size: int) -> None:
        self.levels = levels
        """From order 1 up."""
        self.vocab_size = vocab_size

    @property
    def order(self) -> int:
        """Tokens that a probability depends on, the predicted one included."""
        return len(self.levels)

    @classmethod
    def count(cls, tokens: NDArray[np.integer], order: int, vocab_size: int) -> KneserNey:
        """Count a model on a token stream, documents one after another with an end-of-text token between.

        Raises ValueError for an order or a vocabulary that does not fit, an id outside the vocabulary, or
        a stream shorter than the order.
        """
        _check(tokens, order, vocab_size)
        keys, counts = np.unique(_pack(tokens.astype(np.int64), order, vocab_size), return_counts=True)
        levels = [_level(keys, counts, vocab_size)]
        for lower in range(order - 1, 0, -1):
            keys, counts = np.unique(keys % vocab_size**lower, return_counts=True)
            levels.append(_level(keys, counts, vocab_size))
        return cls(levels[::-1], vocab_size)

    def probabilities(self, contexts: Ints, tokens: NDArray[np.integer]) -> Floats:
        """Of each token after its context, float64, (N,).

        ``contexts`` is (N, order - 1), oldest first; a context that training has not seen falls back on
        its newer tokens.
        """
        probability = np.full(len(tokens), 1.0 / self.vocab_size)
        context = np.zeros(len(tokens), dtype=np.int64)
        for index, level in enumerate(self.levels):
            if index:
                context += contexts[:, -index].astype(np.int64) * self.vocab_size ** (index - 1)
            seen, place = _find(level.contexts, context)
            left_over = np.where(seen, level.left_over[place], 1.0)
            hit, place = _find(level.keys, context * self.vocab_size + tokens)
            probability = np.where(hit, level.shares[place], 0.0) + left_over * probability
        return probability

    def bits(self, tokens: NDArray[np.integer], start: int) -> Floats:
        """Information of each token of one stream in bits, (N,); ``start`` is the token before the first."""
        history = np.concatenate([np.full(self.order - 1, start, dtype=np.int64), tokens.astype(np.int64)])
        columns = [history[i : i + len(tokens)] for i in range(self.order - 1)]
        contexts = np.stack(columns, axis=1) if columns else np.zeros((len(tokens), 0), dtype=np.int64)
        return -np.log2(self.probabilities(contexts, tokens))


def _check(tokens: NDArray[np.integer], order: int, vocab_size: int) -> None:
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order {order}: an n-gram model has 1 to {MAX_ORDER}")
    if vocab_size**order >= 2**63:
        raise ValueError(
            f"{vocab_size} tokens do not fit order {order}: at most {int(2 ** (63 / order)) - 1}"
        )
    if len(tokens) < order:
        raise ValueError(f"{len(tokens)} training tokens are too few for order {order}")
    if int(tokens.max()) >= vocab_size or int(tokens.min()) < 0:
        raise ValueError(f"token {int(tokens.max())} is outside the vocabulary of {vocab_size}")


def _pack(tokens: Ints, order: int, vocab_size: int) -> Ints:
    """Every run of ``order`` tokens as one integer, (N - order + 1,)."""
    length = len(tokens) - order + 1
    keys = tokens[:length].copy()
    for offset in range(1, order):
        keys *= vocab_size
        keys += tokens[offset : offset + length]
    return keys


def _level(keys: Ints, counts: Ints, vocab_size: int) -> Level:
    discount = _discount(counts)
    context_of = keys // vocab_size
    starts = np.flatnonzero(np.concatenate([[True], context_of[1:] != context_of[:-1]]))
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    lengths = np.diff(np.append(starts, len(keys)))
    return Level(
        keys=keys,
        shares=(counts - discount) / np.repeat(totals, lengths),
        contexts=context_of[starts],
        left_over=discount * lengths / totals,
    )


def _discount(counts: Ints) -> float:
    """D; 0.5 where a tiny or odd stream has no n-gram counted once or none counted twice."""
    n1, n2 = (float(np.count_nonzero(counts == i)) for i in (1, 2))
    return n1 / (n1 + 2 * n2) if n1 and n2 else 0.5


def _find(keys: Ints, wanted: Ints) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which of the wanted keys exist, and where (a valid place even where not)."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return keys[place] == wanted, place
