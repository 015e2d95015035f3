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
    sizes = [(size, f"top_{size}_gram") for size in TOP_SIZES]
    sizes += [(size, f"dup_{size}_gram") for size in DUPLICATE_SIZES]
    found = dict.fromkeys((name for _, name in sizes), 0.0)
    sums = np.concatenate(([0], np.cumsum(lengths)))
    at, groups, known = np.arange(len(hashes)), np.zeros(len(hashes), np.uint64), 0
    total = max(characters, int(sums[-1]))
    for size, name in sizes:
        units = max(size, round(size * units_per_word))
        if len(at) and at.max() > len(hashes) - units:
            inside = at <= len(hashes) - units
            at, groups = at[inside], groups[inside]
        at, groups, again = _repeated(_extended(hashes, at, groups, known, units), at)
        if not len(at):
            break
        known = units
        inside_runs = _top(at, groups, sums, units) if size in TOP_SIZES else _covered(again, sums, units)
        found[name] = min(1.0, inside_runs / total)
    return found


def _extended(
    hashes: NDArray[np.uint64], at: NDArray[np.int64], groups: NDArray[np.uint64], known: int, units: int
) -> NDArray[np.uint64]:
    """Keys of the runs of ``units`` from each position, of whose first ``known`` units the group is known."""
    keys = groups * _factor(0)
    for offset in range(known, units):
        keys += hashes[at + offset] * _factor(offset + 1)
    return mix(keys)


@cache
def _factor(number: int) -> np.uint64:
    return np.uint64(mix(np.array([number + 1], np.uint64))[0] | np.uint64(1))


def _repeated(
    keys: NDArray[np.uint64], at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Positions whose key occurs more than once, their groups' numbers, and those that are not the first.

    Ordered by key, then position.
    """
    none = at[:0], keys[:0], at[:0]
    if len(keys) < 2:
        return none
    low = np.uint64((1 << int(at.max()).bit_length()) - 1)
    packed = np.sort((keys & ~low) | at.astype(np.uint64))
    high = packed & ~low
    same = high[1:] == high[:-1]
    if not same.any():
        return none
    again, member = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.bool_)
    again[1:] = same
    member[:-1] = same
    member |= again
    positions = (packed & low).astype(np.int64)
    groups = np.cumsum(~again)[member].astype(np.uint64)
    return positions[member], groups, positions[again]


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
