"""Text as a sequence of hashed units: words where words are spaced, single characters where they are not.

Which of the two a character belongs to is decided by the character, not by a guess at the document's
language, so a Chinese page with English names needs no setting and a wrong guess changes nothing. All of it
is array arithmetic over code points: no Python object is made for a word.

A word's hash is polynomial, H = sum(code[i] * B**i) modulo 2**64, taken from prefix sums: for the word at
start..end, (P[end] - P[start]) * B**-start, which is the same wherever the word stands. A final mix spreads
it over all bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.text.categories import CODE_POINTS, TABLED, in_categories
from tasks.text.folding import code_points, fold

SEPARATOR, IN_WORD, ALONE = 0, 1, 2

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark and zero
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo and Katakana extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x1B000, 0x1B16F),  # Kana extensions
    (0x20000, 0x3FFFF),  # Han, extensions B and later
)
"""Ranges of code points of scripts that are written without spaces; each character is a unit."""

BLOCK = 1 << 18
"""Code points hashed at a time: bounds the working memory at some 10 MB whatever the text's length."""
BASE = 0x9E3779B97F4A7C15
"""Odd and 5 modulo 8, so that its powers have the longest period there is modulo 2**64."""


@dataclass(frozen=True)
class Units:
    """The units of one text, in order."""

    folded: NDArray[np.uint32]
    """Code points of the text that starts and ends refer to: NFKC, case folded."""
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hashes)

    def span(self, first: int, last: int) -> str:
        """The text from unit ``first`` to unit ``last``, both included."""
        codes = self.folded[int(self.starts[first]) : int(self.ends[last])]
        return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


class HashSet:
    """A set of hashes: a bitmap lets through one in 32 of those that are not in it, a search the rest."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = np.unique(hashes)
        self._shift = np.uint64(64 - max(16, (32 * len(hashes)).bit_length()))
        self._bits = np.zeros(1 << (61 - int(self._shift)), np.uint8)
        place, bit = self._places(hashes)
        np.bitwise_or.at(self._bits, place, bit)

    def places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Positions of the hashes that are in the set, in order."""
        place, bit = self._places(hashes)
        maybe = np.flatnonzero(self._bits[place] & bit)
        if not len(maybe):
            return maybe
        at = np.minimum(np.searchsorted(self._hashes, hashes[maybe]), len(self._hashes) - 1)
        found: NDArray[np.int64] = maybe[self._hashes[at] == hashes[maybe]]
        return found

    def _places(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        top = hashes >> self._shift
        bit = np.left_shift(np.uint8(1), (top & np.uint64(7)).astype(np.uint8))
        return (top >> np.uint64(3)).astype(np.int64), bit


def units(text: str) -> Units:
    """Split a text into hashed units; punctuation, spaces and symbols only separate.

    A word that lies across a multiple of 262,144 code points is cut there.
    """
    folded = fold(text)
    blocks = [_block(folded[at : at + BLOCK], at) for at in range(0, max(1, len(folded)), BLOCK)]
    hashes, starts, ends = (np.concatenate(columns) for columns in zip(*blocks, strict=True))
    return Units(folded, hashes, starts, ends)


def shingles(hashes: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Hashes of every ``size`` consecutive units, in order: uint64[n - size + 1], empty for fewer units."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    total = np.zeros(count, np.uint64)
    for offset, factor in enumerate(_powers()[1][1 : size + 1]):
        total += hashes[offset : offset + count] * factor
    return mix(total)


def shingles_at(hashes: NDArray[np.uint64], starts: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
    """As :func:`shingles`, of those alone that begin at ``starts``: uint64[len(starts)]."""
    windows = hashes[starts[:, None] + np.arange(size)]
    total: NDArray[np.uint64] = (windows * _powers()[1][1 : size + 1]).sum(axis=1, dtype=np.uint64)
    return mix(total)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread each value over all 64 bits (the finalizer of splitmix64: Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def letters(text: str) -> int:
    """How many letters, digits and marks a text has; spaces, punctuation and symbols do not count."""
    return int(np.count_nonzero(classes()[code_points(text)]))


@cache
def classes() -> NDArray[np.uint8]:
    """SEPARATOR, IN_WORD or ALONE for each of Unicode's 1,114,112 code points."""
    table = np.zeros(CODE_POINTS, np.uint8)
    table[:TABLED][in_categories("LNM")] = IN_WORD
    for first, last in UNSPACED:
        block = table[first : last + 1]
        block[(block == IN_WORD) | (first >= TABLED)] = ALONE
    return table


def _block(
    codes: NDArray[np.uint32], at: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    kinds = np.zeros(len(codes) + 2, np.uint8)
    kinds[1:-1] = classes()[codes]
    here = kinds[1:-1]
    alone, inside = here == ALONE, here == IN_WORD
    starts = np.flatnonzero(alone | (inside & (kinds[:-2] != IN_WORD)))
    ends = np.flatnonzero(alone | (inside & (kinds[2:] != IN_WORD))) + 1
    powers, inverses = _powers()
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    hashes = mix((sums[ends] - sums[starts]) * inverses[starts])
    return hashes, starts + at, ends + at


@cache
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Powers of BASE and of its inverse modulo 2**64: two uint64[BLOCK]."""
    bases = np.ones((2, BLOCK), np.uint64)
    bases[0, 1:] = BASE
    bases[1, 1:] = pow(BASE, -1, 1 << 64)
    powers = np.cumprod(bases, axis=1, dtype=np.uint64)
    return powers[0], powers[1]
