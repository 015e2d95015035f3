"""What each character is to the quality signals: one bit set a kind, for all of Unicode."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.text.categories import CODE_POINTS, TABLED, categories, in_categories
from tasks.text.dedup_units import ALONE as UNIT_ALONE
from tasks.text.dedup_units import classes

LETTER, DIGIT, UPPER, SPACE, ALONE, STOP, WIDE_STOP, CLOSING = (1 << bit for bit in range(8))
"""A letter; a digit; an upper-case letter; white space; a character of a script without spaces; a sentence's
end if a space follows; one wherever it stands; a closing quote or bracket."""

STOPS = ".!?…؟۔।॥։။។"
WIDE_STOPS = "。！？｡．"
CLOSINGS = "\"'”’»)]）】」』〉》〕"
TERMINAL = frozenset(STOPS + WIDE_STOPS + "\"'”’»」』》；")
"""What a line of running text ends in: C4's period, exclamation mark, question mark and quotation mark, and
what stands for them in other scripts. Chinese list items end in a semicolon."""
BULLETS = frozenset("•‣⁃◦●○■□▪▫▶►▸‧∙·-–—*➤➢✓✔※◆◇★☆")
"""What a list's line begins with: Gopher's bullet point, and the others in use."""


@cache
def kinds() -> NDArray[np.uint8]:
    """The kinds of each of Unicode's code points: uint8[1114112], bits as above."""
    table = np.zeros(CODE_POINTS, np.uint8)
    tabled = table[:TABLED]
    tabled[np.fromiter(map(str.isspace, map(chr, range(TABLED))), np.bool_, TABLED)] = SPACE
    tabled[in_categories("N")] = DIGIT
    tabled[in_categories("L")] = LETTER
    tabled[(categories() == tuple(b"Lu")).all(1)] |= UPPER
    table[classes() == UNIT_ALONE] |= ALONE
    table[0x20000:0x323B0] |= LETTER
    for bit, characters in ((STOP, STOPS), (WIDE_STOP, WIDE_STOPS), (CLOSING, CLOSINGS)):
        table[[ord(character) for character in characters]] |= bit
    return table
