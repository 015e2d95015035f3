"""Limits for reference documentation: classes that inherit the same lines, short entries, lines of code."""

from __future__ import annotations

from tasks.text.config import CleanConfig, LinesConfig
from tasks.text.rules_config import C4Config, FineWebConfig, GopherConfig, RepetitionConfig


def documentation() -> CleanConfig:
    """The default rules with the limits loosened that drop reference pages.

    Of the standard library's pages (pydoc) the papers' limits keep 45 % and 14 % of their characters, these
    95 % and 87 %. What dropped most: duplicate lines and 5- to 10-grams (inherited methods, listed once a
    class), pages of under 50 words, | and -- as words without a letter, few lines that end as sentences.
    """
    return CleanConfig(
        lines=LinesConfig(min_words_per_line=0),
        repetition=RepetitionConfig(
            dup_line_frac=0.8,
            dup_line_char_frac=0.6,
            dup_5_gram=0.6,
            dup_6_gram=0.6,
            dup_7_gram=0.6,
            dup_8_gram=0.6,
            dup_9_gram=0.6,
            dup_10_gram=0.6,
        ),
        gopher=GopherConfig(
            min_words=30,
            max_words=1_000_000,
            max_mean_word_length=15.0,
            min_alpha_words=0.5,
            min_stop_words=1,
        ),
        c4=C4Config(curly_bracket_lines=0.5),
        fineweb=FineWebConfig(min_line_punct=0.0, short_lines=0.9, char_dup_lines=0.6, new_line_ratio=0.5),
    )
