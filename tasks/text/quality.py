"""Which documents are kept: the rules of three papers, judged from the measured signals.

| MassiveText repetition (Rae et al. 2021, table A1) | at most |
|---|---|
| duplicate line fraction, duplicate paragraph fraction | .30 |
| characters in duplicate lines, in duplicate paragraphs | .20 |
| characters in the top 2-, 3-, 4-gram | .20, .18, .16 |
| characters in duplicate 5-, 6-, 7-, 8-, 9-, 10-grams | .15, .14, .13, .12, .11, .10 |

| MassiveText quality (Rae et al. 2021, A.1.1) | |
|---|---|
| words | 50 to 100,000 |
| mean word length | 3 to 10 characters |
| hash signs, ellipses for each word | at most .1 |
| lines that begin with a bullet, that end with an ellipsis | at most .9, .3 |
| words with a letter | at least .8 |
| of the, be, to, of, and, that, have, with | at least 2 |

| C4 (Raffel et al. 2020, 2.2) | |
|---|---|
| sentences | at least 3 |
| a curly bracket, "lorem ipsum" | none; here, a curly bracket in at most .2 of the lines |
| a word of a list of bad ones | none, where a list is given: :mod:`tasks.text.bad_words` |

| FineWeb (Penedo et al. 2024, 3.6) | |
|---|---|
| lines that end with punctuation | more than .12 |
| characters in duplicated lines | less than .1 |
| lines shorter than 30 characters | less than .67 |

The line-break rule (at most .3 for each word) is in FineWeb's code. What words, sentences and short lines are
in Chinese, Japanese, Thai and others: :mod:`tasks.text.quality_profiles`; the limits that are theirs:
``BY_LANGUAGE`` in :mod:`tasks.text.rules_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tasks.text.config import CleanConfig
from tasks.text.quality_profiles import judged_as
from tasks.text.quality_signals import measure
from tasks.text.rules_config import SECTIONS

__all__ = ["RULES", "Reject", "Rule", "all_failed", "judge", "measure"]

SCORE = "score.min_score"


@dataclass(frozen=True)
class Reject:
    """Why a document was dropped: the rule, what was measured, and where the line was."""

    reason: str
    value: float
    threshold: float


@dataclass(frozen=True, eq=False)
class Rule:
    """One bound on one signal; its limit is the configuration's field of the same name.

    There is one object a rule, so that tables by rule look it up by identity.
    """

    name: str
    signal: str
    bound: Literal["most", "least"]

    def breaks(self, value: float, limit: float) -> bool:
        """Whether a value is on the wrong side of the limit."""
        return value > limit if self.bound == "most" else value < limit


def _most(section: str, *fields: str) -> list[Rule]:
    return [Rule(f"{section}.{field}", field, "most") for field in fields]


RULES: tuple[Rule, ...] = (
    Rule("gopher.min_words", "words", "least"),
    Rule("gopher.max_words", "words", "most"),
    *_most("repetition", "dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"),
    *_most("repetition", "top_2_gram", "top_3_gram", "top_4_gram"),
    *_most("repetition", "dup_5_gram", "dup_6_gram", "dup_7_gram", "dup_8_gram", "dup_9_gram", "dup_10_gram"),
    Rule("gopher.min_mean_word_length", "mean_word_length", "least"),
    Rule("gopher.max_mean_word_length", "mean_word_length", "most"),
    Rule("gopher.symbol_word_ratio", "hash_word_ratio", "most"),
    Rule("gopher.symbol_word_ratio", "ellipsis_word_ratio", "most"),
    *_most("gopher", "bullet_lines", "ellipsis_lines"),
    Rule("gopher.min_alpha_words", "alpha_words", "least"),
    Rule("gopher.min_stop_words", "stop_words", "least"),
    Rule("c4.min_sentences", "sentences", "least"),
    *_most("c4", "curly_bracket_lines"),
    Rule("c4.max_lorem_ipsum", "lorem_ipsum", "most"),
    Rule("c4.max_bad_words", "bad_words", "most"),
    Rule("fineweb.min_line_punct", "line_punct", "least"),
    *_most("fineweb", "short_lines"),
    Rule("fineweb.char_dup_lines", "dup_line_char_frac", "most"),
    *_most("fineweb", "new_line_ratio"),
    Rule(SCORE, "model_score", "least"),
)
"""In the order in which they are judged; a reject carries the name of the first that fails."""


def judge(signals: Mapping[str, float], language: str, config: CleanConfig) -> Reject | None:
    """The first rule that the signals break, or None; a signal that was not measured is not judged."""
    for rule, limit in _limits(signals, language, config):
        value = signals.get(rule.signal)
        if value is not None and rule.breaks(value, limit):
            return Reject(rule.name, value, limit)
    return None


def all_failed(signals: Mapping[str, float], language: str, config: CleanConfig) -> list[Reject]:
    """Every rule that the signals break, in order."""
    return [
        Reject(rule.name, signals[rule.signal], limit)
        for rule, limit in _limits(signals, language, config)
        if rule.signal in signals and rule.breaks(signals[rule.signal], limit)
    ]


def _limits(
    signals: Mapping[str, float], language: str, config: CleanConfig
) -> tuple[tuple[Rule, float], ...]:
    return limits_of(judged_as(language, signals.get("unspaced", 0.0)), config)


def limits_of(language: str, config: CleanConfig) -> tuple[tuple[Rule, float], ...]:
    """The rules that are switched on, in order, each with its limit in a language ("": the general one)."""
    return _limits_of(language if language in config.by_language else "", _Rules(config))


class _Rules:
    """A configuration, hashable by identity: its limits are looked up once a language."""

    def __init__(self, config: CleanConfig) -> None:
        self.config = config

    def __hash__(self) -> int:
        return id(self.config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rules) and self.config is other.config


@lru_cache(maxsize=64)
def _limits_of(language: str, rules: _Rules) -> tuple[tuple[Rule, float], ...]:
    config = rules.config
    own = config.by_language.get(language, {})
    found = []
    for rule in RULES:
        section, field = rule.name.split(".")
        settings = getattr(config, section)
        if section in SECTIONS and not settings.enabled:
            continue
        found.append((rule, float(own.get(rule.name, getattr(settings, field)))))
    return tuple(found)
