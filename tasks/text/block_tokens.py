"""The words of a block's element and of its text, as one number each.

Class names and ids are written by people for people: ``post-body``, ``related-items``, ``cookie-banner``. So
are the few words of a short block: "Add to cart", "Share this". Linear models learn what each such word says;
their sums are what the classifier sees. A word that was never seen says nothing, whatever its language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

LABEL_WORDS = 24
HEAD_WORDS, TAIL_WORDS = 6, 2
HEAD_CHARACTERS, TAIL_CHARACTERS = 120, 60
MOST_KNOWN = 100_000
"""Labels and texts whose scores are remembered: a site's pages share most of theirs."""

Score = TypeVar("Score")

_PART = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|[$€£¥©|»›→…•]|0")
_ZEROS = str.maketrans("123456789", "000000000")


def label_words(label: str) -> list[str]:
    """Lower-case words of an element's class, id, role and itemprop, each once; digits tell nothing."""
    return list(dict.fromkeys([word.lower() for word in _PART.findall(label)[:LABEL_WORDS]]))


def text_words(text: str) -> list[str]:
    """A block's first and last words, lower-case, the place marked; every digit as 0, symbols as they are."""
    head = _WORD.findall(text[:HEAD_CHARACTERS].lower().translate(_ZEROS))
    if len(head) <= HEAD_WORDS and len(text) <= HEAD_CHARACTERS:
        return [*head, f"={' '.join(head)}"]
    tail = _WORD.findall(text[-TAIL_CHARACTERS:].lower().translate(_ZEROS))
    return [f"^{word}" for word in head[:HEAD_WORDS]] + [f"{word}$" for word in tail[-TAIL_WORDS:]]


class Words:
    """What words say of a block, as weights in log-odds: three linear models."""

    __slots__ = ("_labels", "_texts", "far", "near", "text")

    def __init__(
        self, near: Mapping[str, float], far: Mapping[str, float], text: Mapping[str, float]
    ) -> None:
        self.near = near
        """For words of the three innermost elements, tags included as ``<p>``."""
        self.far = far
        """For words of all elements around."""
        self.text = text
        self._labels: dict[str, tuple[float, float]] = {}
        self._texts: dict[str, float] = {}

    def label_scores(self, label: str) -> tuple[float, float]:
        """What an element's label says of blocks near below it, and of all below it."""
        found = self._labels.get(label)
        if found is None:
            words = label_words(label)
            found = (_sum(words, self.near), _sum(words, self.far))
            _remember(self._labels, label, found)
        return found

    def text_score(self, text: str) -> float:
        """What a block's own words say."""
        found = self._texts.get(text)
        if found is None:
            found = _sum(text_words(text), self.text)
            if len(text) <= HEAD_CHARACTERS:  # longer ones hardly ever come again
                _remember(self._texts, text, found)
        return found


def _sum(words: list[str], weights: Mapping[str, float]) -> float:
    get = weights.get
    return sum([get(word, 0.0) for word in words])


def _remember(known: dict[str, Score], key: str, score: Score) -> None:
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[key] = score
