"""How much of a text is in repeated runs of words: MassiveText's top and duplicate n-grams.

Rae et al. 2021, table A1: the share of characters in the most frequent 2- to 4-gram, and in all 5- to
10-grams that occurred before (a character in two overlapping ones counts once). As in datatrove, from which
FineWeb's and FineWeb2's limits come, spaces count in the text's characters but not in the runs'.

A run of n + 1 words repeats only where its first n words repeat, so each size looks only at the positions
that were left by the size before: after the 2-grams of clean text hardly any. Positions are grouped by
sorting hashes with the position in their low bits; 44 to 52 bits of hash are left, and a collision would
count one run too many.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup_units import mix

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
_NAMES = {size: f"top_{size}_gram" for size in TOP_SIZES} | {
    size: f"dup_{size}_gram" for size in DUPLICATE_SIZES
}


def repetition(
    hashes: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    units_per_word: float = 1.0,
    characters: int = 0,
) -> dict[str, float]:
    """Shares of characters in repeated runs, 0..1, from ``top_2_gram`` to ``dup_10_gram``.

    Args:
        hashes: uint64[n], the text's units (words, or characters of scripts without spaces) in order.
        lengths: int64[n], characters in each.
        units_per_word: a run of k words is one of round(k * units_per_word) units.
        characters: of the whole text; 0 for the sum of the lengths.
    """
    found = dict.fromkeys(_NAMES.values(), 0.0)
    count = len(hashes)
    runs = {size: max(size, round(size * units_per_word)) for size in _NAMES}
    sums = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=sums[1:])
    total = max(characters, int(sums[-1]))
    hashes = np.concatenate((hashes, _beyond(runs[DUPLICATE_SIZES[-1]])))
    low = np.uint64((1 << count.bit_length()) - 1)
    at, groups, known = np.arange(count), np.zeros(count, np.uint64), 0
    for size, name in _NAMES.items():
        units = runs[size]
        at, groups, again = _repeated(_extended(hashes, at, groups, known, units), at, low)
        if not len(at):
            break
        known = units
        inside_runs = _top(at, groups, sums, units) if size in TOP_SIZES else _covered(again, sums, units)
        found[name] = min(1.0, inside_runs / total)
    return found


@cache
def _beyond(count: int) -> NDArray[np.uint64]:
    """Units after the text's end, no two alike: a run that reaches into them occurs once."""
    return mix(np.arange(count, dtype=np.uint64) + np.uint64(1 << 40))


def _extended(
    hashes: NDArray[np.uint64], at: NDArray[np.int64], groups: NDArray[np.uint64], known: int, units: int
) -> NDArray[np.uint64]:
    """Keys of the runs of ``units`` from each position, of whose first ``known`` units the group is known.

    The units' hashes are mixed already, so that their sums are spread over all bits.
    """
    keys = groups * _factor(0)
    for offset in range(known, units):
        keys += hashes[at + offset] * _factor(offset + 1)
    return keys


@cache
def _factor(number: int) -> np.uint64:
    return np.uint64(mix(np.array([number + 1], np.uint64))[0] | np.uint64(1))


def _repeated(
    keys: NDArray[np.uint64], at: NDArray[np.int64], low: np.uint64
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Positions whose key occurs more than once, their groups' numbers, and those that are not the first.

    Ordered by key, then position. ``low`` masks the bits that hold a position.
    """
    packed = (keys & ~low) | at.view(np.uint64)
    packed.sort()
    high = packed & ~low
    same = high[1:] == high[:-1]
    if not same.any():
        return at[:0], keys[:0], at[:0]
    again, member = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.bool_)
    again[1:] = same
    member[:-1] = same
    member |= again
    positions, follows = (packed[member] & low).view(np.int64), again[member]
    return positions, np.cumsum(~follows).view(np.uint64), positions[follows]


def _top(at: NDArray[np.int64], groups: NDArray[np.uint64], sums: NDArray[np.int64], units: int) -> int:
    """Characters in all occurrences of the most frequent run; of equally frequent ones, the longest."""
    ends = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    starts = np.zeros(len(ends) + 1, np.int64)
    starts[1:] = ends
    counts = np.full(len(starts), len(groups))
    counts[:-1] = ends
    counts -= starts
    most = int(counts.max())
    frequent = at[starts[counts == most]]
    return most * int((sums[frequent + units] - sums[frequent]).max())


def _covered(again: NDArray[np.int64], sums: NDArray[np.int64], units: int) -> int:
    """Characters in units that lie in a run from any of these positions."""
    starts = np.sort(again)
    ends = starts + units
    np.minimum(ends[:-1], starts[1:], out=ends[:-1])
    return int((sums[ends] - sums[starts]).sum())
