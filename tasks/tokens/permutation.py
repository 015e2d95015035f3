"""Shuffles that are computed, not stored: any place of a random order in O(1), from a seed.

A Feistel network over pairs of digits is a bijection whatever its round function (Luby and Rackoff 1988);
with digits in base ceil(sqrt(n)) instead of bits (Black and Rogaway 2002) the domain is hardly larger than
n, so that walking on to the next value below n is rare. A shuffle of a billion windows takes no memory and
is the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

ROUNDS = 6
MASK = 2**64 - 1


def permute(positions: NDArray[np.integer], n: int, key: int) -> NDArray[np.int64]:
    """Where each position of 0..n-1 goes under the permutation named by ``key``: int64, the same shape.

    Raises ValueError for a position outside 0..n-1.
    """
    if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= n):
        raise ValueError(f"positions {positions.min()}..{positions.max()} are outside 0..{n - 1}")
    base = math.isqrt(n - 1) + 1 if n > 1 else 1
    keys = np.array([combine(key, number) for number in range(ROUNDS)], np.uint64)
    result = _encipher(positions.astype(np.uint64), base, keys)
    while len(outside := np.flatnonzero(result >= n)):
        result[outside] = _encipher(result[outside], base, keys)
    return result.astype(np.int64)


def _encipher(values: U64, base: int, keys: U64) -> U64:
    left, right = values // np.uint64(base), _modulo(values, base)
    for key in keys:
        left, right = right, _modulo(left + mix(right ^ key), base)
    return left * np.uint64(base) + right


def _modulo(values: U64, base: int) -> U64:
    """``values % base``; numpy divides by a constant several times faster than it takes a remainder."""
    return values - values // np.uint64(base) * np.uint64(base)


def mix(values: U64) -> U64:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit changes half of the output's."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def combine(*parts: int) -> int:
    """One 64-bit key from several numbers, different for another order of them."""
    key = 0
    for part in parts:
        key = (key ^ (part & MASK)) + 0x9E3779B97F4A7C15 & MASK
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & MASK
        key = (key ^ key >> 27) * 0x94D049BB133111EB & MASK
        key ^= key >> 31
    return key
