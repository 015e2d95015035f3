"""What differs between languages when the papers' rules are applied to them.

The papers' terms are English ones: words that spaces separate, sentences that end in a period, lines of 30
letters. A profile says what stands for them in a language, so that the thresholds keep their meaning:

| | English | Chinese | Japanese | Thai |
|---|---|---|---|---|
| a word | what spaces separate | 1.6 characters | 2 characters | 4.5 characters |
| a run of 2, 5, 10 words | 2, 5, 10 words | 3, 8, 16 characters | 4, 10, 20 | 9, 22, 45 |
| a sentence's end | . ! ? | 。 ！ ？ … as well | the same | a space: not judged |
| a short line | 30 characters | 10 | 13 | 25 |
| mean word length 3 to 10 | judged | not judged | not judged | not judged |

A language without a profile of its own is taken for one with spaces, without a list of stop words; a signal
that does not exist in a language is not measured, and what is not measured is not judged.

Characters a word: Chinese 1.5 to 1.7 in segmented news and web text, Japanese about 2, Thai 4 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CHARS_PER_WORD = 1.6
"""For the odd Chinese characters in the text of a language with spaces."""


@dataclass(frozen=True)
class Profile:
    """How the papers' terms read in one language."""

    spaced: bool = True
    """Whether spaces separate words."""
    chars_per_word: float = CHARS_PER_WORD
    """Characters of a script without spaces that make up a word."""
    character_weight: int = 3
    """Latin letters that a character of a script without spaces stands for, where shares of text count."""
    short_line: int = 30
    """Characters; FineWeb's short_line_length."""
    sentence_marks: bool = True
    """Whether sentences end in punctuation."""
    word_length: bool = True
    """Whether Gopher's bounds on the mean word length hold: not for syllables (Vietnamese, Korean)."""
    stop_words: tuple[str, ...] = ()
    """The most frequent words, of which running text has at least two. Lower case; single characters or
    strings where the script has no spaces."""


_SPACED = {
    "en": "the be to of and that have with",
    "de": "der die und in das ist nicht mit",
    "fr": "le la les de et des en est",
    "es": "el la de que y en los es",
    "it": "il la di che e in per un",
    "pt": "o a de que e do da em",
    "nl": "de het een van en in is dat",
    "pl": "w i na z do się nie jest",
    "ru": "и в не на что с по это",
    "uk": "і в не на що з до та",
    "ar": "في من على إلى أن التي عن هذا",
    "tr": "ve bir bu için ile de da olarak",
    "id": "yang dan di dengan untuk dari ini tidak",
    "sv": "och att i det som är en på",
    "cs": "a se v na je že s do",
    "el": "και το να του η της με την",
    "he": "של את על לא זה עם הוא כי",
    "hi": "के में है की से का को और",
    "fa": "و در به از که این را با",
}
"""Gopher's eight for English; for the others, eight of the most frequent words."""

_PROFILES = {code: Profile(stop_words=tuple(words.split())) for code, words in _SPACED.items()} | {
    "vi": Profile(word_length=False, stop_words=("và", "của", "là", "có", "trong", "cho", "được", "không")),
    "ko": Profile(word_length=False, short_line=15),
    "zh": Profile(
        spaced=False, short_line=10, word_length=False, stop_words=tuple("的一是不了在有和这這为為以中人上")
    ),
    "ja": Profile(
        spaced=False,
        chars_per_word=2.0,
        short_line=13,
        word_length=False,
        stop_words=tuple("のはにをたがでてとし"),
    ),
    "th": Profile(
        spaced=False,
        chars_per_word=4.5,
        character_weight=1,
        short_line=25,
        sentence_marks=False,
        word_length=False,
        stop_words=("ที่", "และ", "ใน", "เป็น", "ของ", "มี", "ได้", "ให้"),
    ),
    "lo": Profile(
        spaced=False,
        chars_per_word=4.0,
        character_weight=1,
        short_line=25,
        sentence_marks=False,
        word_length=False,
    ),
    "km": Profile(spaced=False, chars_per_word=5.0, character_weight=1, short_line=25, word_length=False),
    "my": Profile(spaced=False, chars_per_word=6.0, character_weight=1, short_line=25, word_length=False),
    "bo": Profile(spaced=False, chars_per_word=4.0, character_weight=1, short_line=25, word_length=False),
}
_PROFILES["yue"] = _PROFILES["wuu"] = _PROFILES["zh"]

DEFAULT = Profile()
UNSPACED_LEAST = 0.1
"""Share of letters from which a text counts as one of a script without spaces. A tenth of the letters is a
quarter of the words, and a manual in Chinese has three quarters of its letters in commands and names."""
_SCRIPTS = frozenset(code for code, profile in _PROFILES.items() if not profile.spaced)


def profile_of(language: str) -> Profile:
    """The profile of a language (ISO 639-1 code)."""
    return _PROFILES.get(language, DEFAULT)


def judged_as(language: str, unspaced: float) -> str:
    """The language whose rules a text is judged by: its own, unless its script contradicts it.

    ``unspaced`` is the share of its letters that are of scripts without spaces, 0..1. A page that is mostly
    English by its bytes, with a good part of Chinese, is judged as Chinese: the Chinese rules count Latin
    words as words too, the English ones would take a Chinese line for one word. A text in an unknown
    language without spaces is taken for Chinese.
    """
    if unspaced >= UNSPACED_LEAST:
        return language if language in _SCRIPTS else "zh"
    return "und" if language in _SCRIPTS else language


def rules_language(found: Sequence[tuple[str, float]]) -> str:
    """The language whose rules fit a text in several languages (code and share, largest first).

    It is one without spaces, if there is a part in one: its rules know what to do with the other part.
    """
    return next((code for code, share in found if code in _SCRIPTS and share >= UNSPACED_LEAST), found[0][0])
