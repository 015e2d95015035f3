"""Compatibility forms unified and case folded (NFKC, then case folding), as a look-up of code points.

Both are defined character by character, but for marks that compose with what stands before them. So a text
without such marks is folded by one table; only with them is Python's own, ten times slower, asked.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.text.tidying import without_endless_marks

SEVERAL = 0x110000
"""Stands in the table for a character that becomes several."""
COMPOSES = 0x110001
"""Stands in the table for a character that may change with its neighbours: a mark, or a part of Hangul."""
UNKNOWN = 0x110002
"""Stands in the table for a character that no text has had yet."""
JAMO = frozenset(map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))))
"""Vowels and finals that Hangul syllables are composed of; all else that composes is a mark."""


def code_points(text: str) -> NDArray[np.uint32]:
    """The text's code points: uint32[len(text)]; lone surrogates are code points as well."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def fold(text: str) -> NDArray[np.uint32]:
    """The folded text's code points: full-width letters, ligatures and case unified."""
    codes = code_points(text)
    table = _table()
    folded = table[codes]
    if text.isascii():
        return folded
    special = folded >= SEVERAL
    if not special.any():
        return folded
    if (folded == UNKNOWN).any():
        for code in _distinct(codes[folded == UNKNOWN]):
            table[code] = _entry(chr(code))
        folded = table[codes]
        special = folded >= SEVERAL
    if (folded == COMPOSES).any():
        return code_points(_fold_whole(text))
    return _expanded(codes, folded, special)


def _distinct(codes: NDArray[np.uint32]) -> list[int]:
    return sorted(set(codes.tolist()))  # for these few, numpy's function would load all its masked arrays


def _expanded(
    codes: NDArray[np.uint32], folded: NDArray[np.uint32], special: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """The folded text with what each special character becomes in its place."""
    forms = {code: code_points(_fold_whole(chr(code))) for code in _distinct(codes[special])}
    counts = np.ones(len(codes), np.intp)
    for code, form in forms.items():
        counts[codes == code] = len(form)
    out = np.repeat(folded, counts)
    starts = np.cumsum(counts) - counts
    for code, form in forms.items():
        at = starts[codes == code]
        for place, each in enumerate(form.tolist()):
            out[at + place] = each
    return out


def _fold_whole(text: str) -> str:
    text = without_endless_marks(text)
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return text.casefold()


def _entry(letter: str) -> int:
    """What the table says of a character."""
    first = unicodedata.normalize("NFKD", letter)[0]
    if first in JAMO or unicodedata.category(first)[0] == "M":
        return COMPOSES
    folded = _fold_whole(letter)
    return ord(folded) if len(folded) == 1 else SEVERAL


@cache
def _table() -> NDArray[np.uint32]:
    """What each code point folds to, or one of the three above: uint32[0x110000], filled as texts come."""
    table = np.full(0x110000, UNKNOWN, np.uint32)
    table[:0x80] = code_points(bytes(range(0x80)).decode("ascii").lower())
    return table
