"""How much of a text is in repeated runs of words: MassiveText's top and duplicate n-grams.

Rae et al. 2021, table A1: the share of characters in the most frequent 2- to 4-gram, and in all 5- to
10-grams that occurred before (a character in two overlapping ones counts once).

A run of n + 1 words repeats only where its first n words repeat, so each size looks only at the positions
that were left by the size before: after the 2-grams of clean text hardly any. Positions are grouped by
sorting hashes with the position in their low bits; 44 to 52 bits of hash are left, and a collision would
count one run too many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup_units import mix

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)


def repetition(
    hashes: NDArray[np.uint64], lengths: NDArray[np.int64], units_per_word: float = 1.0
) -> dict[str, float]:
    """Shares of characters in repeated runs, 0..1, from ``top_2_gram`` to ``dup_10_gram``.

    Args:
        hashes: uint64[n], the text's units (words, or characters of scripts without spaces) in order.
        lengths: int64[n], characters in each.
        units_per_word: a run of k words is one of round(k * units_per_word) units.
    """
    names = {size: f"top_{size}_gram" for size in TOP_SIZES}
    names |= {size: f"dup_{size}_gram" for size in DUPLICATE_SIZES}
    found = dict.fromkeys(names.values(), 0.0)
    total = int(lengths.sum())
    sums = np.concatenate(([0], np.cumsum(lengths)))
    at = np.arange(len(hashes))
    for size, name in names.items():
        units = max(size, round(size * units_per_word))
        at = at[at <= len(hashes) - units]
        at, groups = _repeated(_run_hashes(hashes, at, units), at)
        if not len(at):
            break
        if size in TOP_SIZES:
            found[name] = _top(at, groups, sums, units) / total
        else:
            found[name] = _covered(at[~_firsts(groups)], lengths, units) / total
    return {name: min(1.0, share) for name, share in found.items()}


def _run_hashes(hashes: NDArray[np.uint64], at: NDArray[np.int64], units: int) -> NDArray[np.uint64]:
    """Hash of the run of so many units from each position: uint64[len(at)]."""
    total = np.zeros(len(at), np.uint64)
    whole = len(at) == len(hashes) - units + 1
    for offset, factor in enumerate(_factors(units)):
        total += (hashes[offset : offset + len(at)] if whole else hashes[at + offset]) * factor
    return mix(total)


def _factors(units: int) -> Sequence[np.uint64]:
    return list(mix(np.arange(1, units + 1, dtype=np.uint64)) | np.uint64(1))


def _repeated(keys: NDArray[np.uint64], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions whose key occurs more than once, ordered by key then position, and their groups' numbers."""
    if len(keys) < 2:
        return at[:0], at[:0]
    low = np.uint64((1 << int(at[-1] if len(at) else 0).bit_length()) - 1)
    packed = np.sort((keys & ~low) | at.astype(np.uint64))
    high = packed & ~low
    same = high[1:] == high[:-1]
    if not same.any():
        return at[:0], at[:0]
    member = np.zeros(len(keys), np.bool_)
    member[1:] |= same
    member[:-1] |= same
    starts = np.ones(len(keys), np.bool_)
    starts[1:] = ~same
    positions = (packed[member] & low).astype(np.int64)
    return positions, np.cumsum(starts[member])


def _firsts(groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    firsts = np.ones(len(groups), np.bool_)
    firsts[1:] = groups[1:] != groups[:-1]
    return firsts


def _top(at: NDArray[np.int64], groups: NDArray[np.int64], sums: NDArray[np.int64], units: int) -> int:
    """Characters in all occurrences of the most frequent run; of equally frequent ones, the longest."""
    counts = np.bincount(groups)
    most = int(counts.max())
    firsts = at[_firsts(groups)]
    frequent = firsts[counts[groups[_firsts(groups)]] == most]
    return most * int((sums[frequent + units] - sums[frequent]).max())


def _covered(at: NDArray[np.int64], lengths: NDArray[np.int64], units: int) -> int:
    """Characters in units that lie in a run from any of these positions."""
    depth = np.zeros(len(lengths) + 1, np.int64)
    depth[at] += 1
    depth[at + units] -= 1
    return int(lengths[np.cumsum(depth[:-1]) > 0].sum())
