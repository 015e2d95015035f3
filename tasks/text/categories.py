"""Unicode's general categories as one table, read off in a fiftieth of a second: each worker needs it."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

CODE_POINTS = 0x110000
TABLED = 0x20000
"""Code points that the table has. Beyond are ideographs, and nothing else that is text."""


@cache
def categories() -> NDArray[np.uint8]:
    """Both letters of each code point's category, such as ``Lu``: uint8[TABLED, 2]."""
    names = "".join(map(unicodedata.category, map(chr, range(TABLED))))
    return np.frombuffer(names.encode("ascii"), np.uint8).reshape(TABLED, 2)


def in_categories(first_letters: str) -> NDArray[np.bool_]:
    """Which code points' categories begin with one of these letters: bool[TABLED]."""
    wanted = np.zeros(256, np.bool_)
    wanted[list(first_letters.encode("ascii"))] = True
    found: NDArray[np.bool_] = wanted[categories()[:, 0]]
    return found
