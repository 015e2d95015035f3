"""The measured quality numbers of a text: everything that the rules judge, in one pass over its code points.

A share of characters counts a Chinese character as three Latin letters (1.6 of them make a word, as five
letters do), so that in a mixed text a repeated listing does not weigh more than the prose around it.

They are kept beside the text, so that thresholds can be studied and changed without extracting again.

| signal | what it is | whose |
|---|---|---|
| characters, words, lines | counts; a word: a run of letters and digits, or 1.6 Chinese characters | Gopher |
| mean_word_length | characters in what stands between spaces | Gopher |
| hash_word_ratio, ellipsis_word_ratio | # and … (or ...) for each word | Gopher |
| bullet_lines, ellipsis_lines | share of lines that begin, or end, so | Gopher |
| alpha_words | share of words with a letter | Gopher |
| stop_words | how many of the language's most frequent words occur | Gopher |
| dup_line_frac, dup_para_frac | share of lines, paragraphs that occurred before | Gopher |
| dup_line_char_frac, dup_para_char_frac | share of characters in them | Gopher, FineWeb |
| top_2_gram … top_4_gram, dup_5_gram … dup_10_gram | see :mod:`tasks.text.quality_ngrams` | Gopher |
| sentences | ends of sentences, and lines that end without one | C4 |
| curly_bracket_lines | share of lines with a curly bracket | C4 |
| lorem_ipsum | times it occurs | C4 |
| bad_words | times that words of the user's lists occur; where there are any | C4 |
| line_punct | share of lines that end as a sentence does | FineWeb |
| short_lines | share of lines of at most 30 characters (10 in Chinese) | FineWeb |
| new_line_ratio | line breaks for each word, blank lines left out | FineWeb |
| digits, upper | share of digits in letters and digits; of upper case in letters | |
| unspaced | share of letters that are of scripts without spaces | |

Gopher: Rae et al. 2021. C4: Raffel et al. 2020. FineWeb: Penedo et al. 2024.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup_units import Units, units
from tasks.text.folding import code_points
from tasks.text.quality_characters import (
    ALONE,
    BULLETS,
    CLOSING,
    DIGIT,
    LETTER,
    SPACE,
    STOP,
    TERMINAL,
    UPPER,
    WIDE_STOP,
    kinds,
)
from tasks.text.quality_ngrams import repetition
from tasks.text.quality_profiles import Profile, judged_as, profile_of

_ELLIPSES = ("...", "…")
_ELLIPSIS = re.compile(r"\.{3,}+|…++")
"""A whole one: in Chinese it is written as two characters, or as six periods."""


def measure(text: str, language: str, found: Units | None = None) -> dict[str, float]:
    """Every signal of the table above that exists in the language (ISO 639-1, or anything else if unknown).

    ``found`` are the text's units, where they are at hand.

    Costs about 0.1 ms and 60 ns a character; memory some 100 bytes a character while it runs.
    """
    kind = kinds()[code_points(text)]
    letters = _count(kind & LETTER)
    alone = _count(kind & ALONE)
    unspaced = min(1.0, alone / letters) if letters else 0.0
    profile = profile_of(judged_as(language, unspaced))
    split = units(text) if found is None else found
    words = max(0, len(split) - alone) + alone / profile.chars_per_word
    signals = {"characters": float(len(text)), "words": words, "unspaced": unspaced}
    signals |= _words(kind, alone, profile)
    weight = profile.character_weight if unspaced else 1
    signals |= _lines(text, profile, words)
    total = len(text) + (weight - 1) * alone
    signals |= _repeated_pieces(text, weight, total)
    if profile.sentence_marks:
        open_lines = round((1 - signals["line_punct"]) * signals["lines"])
        signals["sentences"] = float(_sentences(kind) + open_lines)
    signals |= _shares_of_kinds(kind, letters)
    if profile.stop_words:
        signals["stop_words"] = float(_stop_words(text, split, profile))
    scale = 1.0 if profile.spaced else len(split) / max(1.0, words)
    return signals | repetition(split.hashes, _weights(split, weight), scale, total)


def _count(bits: NDArray[Any]) -> int:
    return int(np.count_nonzero(bits))


def _words(kind: NDArray[np.uint8], alone: int, profile: Profile) -> dict[str, float]:
    """Alphabetic words, and their length, among what spaces separate; where none do, among runs of letters
    and digits, and single characters."""
    if profile.spaced:
        solid, letter = (kind & SPACE) == 0, (kind & LETTER) != 0
    else:
        own = (kind & ALONE) == 0
        solid, letter = own & ((kind & (LETTER | DIGIT)) != 0), own & ((kind & LETTER) != 0)
    at = _starts(solid)
    lettered = _count(np.logical_or.reduceat(letter, at)) if len(at) else 0
    if not profile.spaced:
        return {"alpha_words": (lettered + alone) / max(1, len(at) + alone)}
    found = {"alpha_words": lettered / max(1, len(at))}
    if profile.word_length:
        found["mean_word_length"] = _count(solid) / max(1, len(at))
    return found


def _starts(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    starts = inside.copy()
    starts[1:] &= ~inside[:-1]
    return np.flatnonzero(starts)


def _lines(text: str, profile: Profile, words: float) -> dict[str, float]:
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    total, words = max(1, len(lines)), max(1.0, words)
    curly = sum("{" in line or "}" in line for line in lines) if "{" in text or "}" in text else 0
    found = {
        "lines": float(len(lines)),
        "bullet_lines": sum(line[0] in BULLETS for line in lines) / total,
        "ellipsis_lines": sum(line.endswith(_ELLIPSES) for line in lines) / total,
        "short_lines": sum(len(line) <= profile.short_line for line in lines) / total,
        "curly_bracket_lines": curly / total,
        "new_line_ratio": max(0, len(lines) - 1) / words,
        "hash_word_ratio": text.count("#") / words,
        "ellipsis_word_ratio": _ellipses(text) / words,
        "lorem_ipsum": float(text.count("orem ipsum") + text.count("OREM IPSUM")),
    }
    if profile.sentence_marks:
        found["line_punct"] = sum(line[-1] in TERMINAL for line in lines) / total
    return found


def _ellipses(text: str) -> int:
    return len(_ELLIPSIS.findall(text)) if any(mark in text for mark in _ELLIPSES) else 0


def _repeated_pieces(text: str, weight: int, total: int) -> dict[str, float]:
    """Share of the lines and of the paragraphs that occurred before, and of the text's characters in them."""
    found = {}
    for name, separator in (("line", "\n"), ("para", "\n\n")):
        pieces = [piece for raw in text.split(separator) if (piece := raw.strip())]
        counts = Counter(pieces)
        again = [(piece, times - 1) for piece, times in counts.items() if times > 1]
        repeated = sum(_weight(piece, weight) * times for piece, times in again)
        found[f"dup_{name}_frac"] = (len(pieces) - len(counts)) / max(1, len(pieces))
        found[f"dup_{name}_char_frac"] = repeated / max(1, total)
    return found


def _weight(piece: str, weight: int) -> int:
    if weight == 1 or piece.isascii():
        return len(piece)
    return len(piece) + (weight - 1) * _count(kinds()[code_points(piece)] & ALONE)


def _weights(split: Units, weight: int) -> NDArray[np.int64]:
    """What each unit counts where shares of characters are measured: int64[len(split)]."""
    lengths = split.ends - split.starts
    if weight == 1:
        return lengths
    single = np.flatnonzero(lengths == 1)
    at = split.starts[single]
    lengths[single[(kinds()[split.folded[at]] & ALONE) != 0]] = weight
    return lengths


def _sentences(kind: NDArray[np.uint8]) -> int:
    """Marks that end a sentence: wide ones anywhere, others before a space, a closing quote or the end."""
    stop, wide = (kind & STOP) != 0, (kind & WIDE_STOP) != 0
    follows = np.ones(len(kind), np.bool_)
    follows[:-1] = (kind[1:] & (SPACE | CLOSING)) != 0
    wide[:-1] &= ~wide[1:]
    return _count(stop & follows) + _count(wide)


def _shares_of_kinds(kind: NDArray[np.uint8], letters: int) -> dict[str, float]:
    digits = _count(kind & DIGIT)
    return {
        "digits": digits / max(1, digits + letters),
        "upper": _count(kind & UPPER) / max(1, letters),
    }


def _stop_words(text: str, split: Units, profile: Profile) -> int:
    if not profile.spaced:
        return sum(word in text for word in profile.stop_words)
    return sum(bool((split.hashes == word).any()) for word in _hashes(profile.stop_words))


@cache
def _hashes(words: tuple[str, ...]) -> NDArray[np.uint64]:
    return units(" ".join(words)).hashes
