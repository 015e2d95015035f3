"""The words of a block's element and of its text, as one number each.

Class names and ids are written by people for people: ``post-body``, ``related-items``, ``cookie-banner``. So
are the few words of a short block: "Add to cart", "Share this". Linear models learn what each such word says;
their sums are what the classifier sees. A word that was never seen says nothing, whatever its language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

LABEL_WORDS = 24
HEAD_WORDS, TAIL_WORDS = 6, 2

_PART = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}|\d+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|[$€£¥©|»›→…•]|\d")


@lru_cache(maxsize=50_000)
def label_words(label: str) -> tuple[str, ...]:
    """Lower-case words of an element's class, id, role and itemprop; digits tell nothing and are left out."""
    words = [word.lower() for word in _PART.findall(label) if not word[0].isdigit()]
    return tuple(dict.fromkeys(words[:LABEL_WORDS]))


def text_words(text: str) -> tuple[str, ...]:
    """A block's first and last words, lower-case, the place marked; digits as 0, symbols as they are."""
    head = [("0" if word.isdigit() else word.lower()) for word in _WORD.findall(text[:120])]
    if len(head) <= HEAD_WORDS and len(text) <= 120:
        return (*head, f"={' '.join(head)}")
    tail = [("0" if word.isdigit() else word.lower()) for word in _WORD.findall(text[-60:])]
    first = [f"^{word}" for word in head[:HEAD_WORDS]]
    return (*first, *(f"{word}$" for word in tail[-TAIL_WORDS:]))


def score(words: tuple[str, ...], weights: Mapping[str, float]) -> float:
    """Sum of the words' weights."""
    get = weights.get
    return sum([get(word, 0.0) for word in words])
