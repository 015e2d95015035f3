"""Sequences that hold whole documents: pieces of documents, packed into sequences with next to no padding.

A document longer than a sequence is split into full sequences and a rest; the rests are packed best-fit
decreasing, as in Ding et al. 2024 ("Fewer truncations improve language modeling"). The plan is computed on
the histogram of lengths (Krell et al. 2021), which gives exactly what placing piece after piece would, in
time that depends on the sequence length and not on the number of documents. On web text at length 1,024
about 0.05 % is padding, where cutting documents to fit discards half of the tokens.

A piece of n tokens takes n places: its inputs are the token before it (the end-of-text token where a
document begins) and all its tokens but the last, its targets are its tokens. So every token is predicted
once, and nothing is predicted across documents.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Which pieces make up each sequence."""

    starts: Ints
    """Where each piece begins in its stream's run of tokens, sequence after sequence: int64[pieces]."""
    lengths: NDArray[np.int32]
    """Tokens of each piece: int32[pieces]."""
    offsets: Ints
    """Where each sequence's pieces begin, and the end of the last's: int64[sequences + 1]."""

    @property
    def sequences(self) -> int:
        """How many the plan has."""
        return len(self.offsets) - 1

    def padding(self, seq_len: int) -> float:
        """Share of all places that hold no token."""
        return 1 - int(self.lengths.sum(dtype=np.int64)) / max(self.sequences * seq_len, 1)


def plan(documents: NDArray[np.integer], seq_len: int) -> Plan:
    """Pack documents of these lengths in tokens, which lie one after another, into sequences.

    The same lengths in the same order give the same plan.
    """
    starts, lengths = _split(documents.astype(np.int64), seq_len)
    order = np.argsort(lengths, kind="stable")
    counts = np.bincount(lengths, minlength=seq_len + 1)
    queues = np.concatenate([[0], np.cumsum(counts)])  # pieces of length n: order[queues[n]:queues[n + 1]]
    taken = queues[:-1].copy()
    rows: list[Ints] = []
    sizes: list[Ints] = []
    for pattern, count in best_fit_decreasing(counts[1:], seq_len):
        columns = []
        for length, times in pattern:
            stop = taken[length] + count * times
            columns.append(order[taken[length] : stop].reshape(count, times))
            taken[length] = stop
        pieces = np.concatenate(columns, axis=1)
        rows.append(pieces.ravel())
        sizes.append(np.full(count, pieces.shape[1], np.int64))
    chosen = np.concatenate([*rows, np.zeros(0, np.int64)])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([*sizes, np.zeros(0, np.int64)]))])
    return Plan(starts[chosen], lengths[chosen].astype(np.int32), offsets.astype(np.int64))


def _split(documents: Ints, seq_len: int) -> tuple[Ints, Ints]:
    """Starts and lengths of pieces of at most ``seq_len`` tokens, in order."""
    pieces = -(-documents // seq_len)
    first = np.concatenate([[0], np.cumsum(documents)])[:-1]
    nth = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(first, pieces) + nth * seq_len
    return starts, np.minimum(np.repeat(first + documents, pieces) - starts, seq_len)


Pattern = tuple[tuple[int, int], ...]


def best_fit_decreasing(counts: NDArray[np.integer], capacity: int) -> list[tuple[Pattern, int]]:
    """Sequences as (pattern, how many of it); a pattern is (length, how many pieces of it) pairs.

    ``counts[n - 1]`` is the number of pieces of length n. Lengths go from the longest to the shortest; each
    piece goes where the least room is left over that it fits into, or into a new sequence. All pieces of
    one length are placed at once: they fill one sequence after another among those with equal room.
    """
    room: defaultdict[int, list[tuple[Pattern, int]]] = defaultdict(list)
    for length in range(len(counts), 0, -1):
        left = int(counts[length - 1])
        while left:
            fitting = [space for space, groups in room.items() if space >= length and groups]
            if fitting:
                space = min(fitting)
                pattern, available = room[space].pop()
            else:
                space, pattern, available = capacity, (), left
            each = space // length
            full = min(available, left // each)
            if full:
                room[space - each * length].append(((*pattern, (length, each)), full))
            left -= full * each
            rest = min(left, each - 1) if full < available else 0
            if rest:
                room[space - rest * length].append(((*pattern, (length, rest)), 1))
                left -= rest
            unused = available - full - bool(rest)
            if unused and pattern:
                room[space].append((pattern, unused))
    return [group for space in sorted(room) for group in room[space]]
