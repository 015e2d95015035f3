"""Thresholds of the quality rules, named by the terms of the papers that they come from."""

from __future__ import annotations

from functools import cache

from pydantic import Field

from tasks.settings import StageConfig
from tasks.text.files_config import FilesConfig


class RepetitionConfig(StageConfig):
    """Repetition removal of MassiveText (Rae et al. 2021, table A1): largest shares that are allowed."""

    enabled: bool = Field(True, title="Repetition rules", description="Apply the rules below.")
    dup_line_frac: float = Field(
        0.30,
        title="Duplicate lines",
        description="Share of lines that occurred before in the document, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    dup_para_frac: float = Field(
        0.30,
        title="Duplicate paragraphs",
        description="Share of paragraphs that occurred before, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    dup_line_char_frac: float = Field(
        0.20,
        title="Characters in duplicate lines",
        description="Share of characters in such lines, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    dup_para_char_frac: float = Field(
        0.20,
        title="Characters in duplicate paragraphs",
        description="Share of characters in such paragraphs, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    top_2_gram: float = Field(
        0.20,
        title="Most frequent 2-gram",
        description="Share of characters in the most frequent run of 2 words, 0 to 1; 1 switches the rule "
        "off.",
        ge=0,
        le=1,
    )
    top_3_gram: float = Field(
        0.18,
        title="Most frequent 3-gram",
        description="Share of characters in the most frequent run of 3 words, 0 to 1; 1 switches the rule "
        "off.",
        ge=0,
        le=1,
    )
    top_4_gram: float = Field(
        0.16,
        title="Most frequent 4-gram",
        description="Share of characters in the most frequent run of 4 words, 0 to 1; 1 switches the rule "
        "off.",
        ge=0,
        le=1,
    )
    dup_5_gram: float = Field(
        0.15,
        title="Duplicate 5-grams",
        description="Share of characters in runs of 5 words that occurred before, 0 to 1; 1 switches the "
        "rule off.",
        ge=0,
        le=1,
    )
    dup_6_gram: float = Field(
        0.14,
        title="Duplicate 6-grams",
        description="Share of characters in runs of 6 words that occurred before, 0 to 1; 1 switches the "
        "rule off.",
        ge=0,
        le=1,
    )
    dup_7_gram: float = Field(
        0.13,
        title="Duplicate 7-grams",
        description="Share of characters in runs of 7 words that occurred before, 0 to 1; 1 switches the "
        "rule off.",
        ge=0,
        le=1,
    )
    dup_8_gram: float = Field(
        0.12,
        title="Duplicate 8-grams",
        description="Share of characters in runs of 8 words that occurred before, 0 to 1; 1 switches the "
        "rule off.",
        ge=0,
        le=1,
    )
    dup_9_gram: float = Field(
        0.11,
        title="Duplicate 9-grams",
        description="Share of characters in runs of 9 words that occurred before, 0 to 1; 1 switches the "
        "rule off.",
        ge=0,
        le=1,
    )
    dup_10_gram: float = Field(
        0.10,
        title="Duplicate 10-grams",
        description="Share of characters in runs of 10 words that occurred before, 0 to 1; 1 switches the "
        "rule off.",
        ge=0,
        le=1,
    )


class GopherConfig(StageConfig):
    """Quality rules of MassiveText (Rae et al. 2021, section A.1.1)."""

    enabled: bool = Field(True, title="Gopher rules", description="Apply the rules below.")
    min_words: int = Field(
        50,
        title="Least words",
        description="Words, 0 to 1,000,000; 0 switches the rule off. For scripts without spaces words are "
        "estimated.",
        ge=0,
        le=1000000,
    )
    max_words: int = Field(
        100_000,
        title="Most words",
        description="Words, 1 to 1,000,000,000.",
        ge=1,
        le=1000000000,
    )
    min_mean_word_length: float = Field(
        3.0,
        title="Least mean word length",
        description="Characters, 0 to 1,000; 0 switches the rule off.",
        ge=0,
        le=1000,
    )
    max_mean_word_length: float = Field(
        10.0,
        title="Largest mean word length",
        description="Characters, 1 to 1,000,000.",
        ge=1,
        le=1000000,
    )
    symbol_word_ratio: float = Field(
        0.10,
        title="Symbols to words",
        description="Hash signs, or ellipses, for each word, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    bullet_lines: float = Field(
        0.90,
        title="Bullet lines",
        description="Share of lines that begin with a bullet, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    ellipsis_lines: float = Field(
        0.30,
        title="Ellipsis lines",
        description="Share of lines that end with an ellipsis, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    min_alpha_words: float = Field(
        0.80,
        title="Words with a letter",
        description="Least share of words with at least one letter, 0 to 1; 0 switches the rule off.",
        ge=0,
        le=1,
    )
    min_stop_words: int = Field(
        2,
        title="Stop words",
        description="Least different words out of the language's most frequent, 0 to 8; 0 switches the rule "
        "off. Languages without a list are exempt.",
        ge=0,
        le=8,
    )


class C4Config(StageConfig):
    """Page rules of C4 (Raffel et al. 2020, section 2.2); its line rules are under lines."""

    enabled: bool = Field(True, title="C4 rules", description="Apply the rules below.")
    min_sentences: int = Field(
        3,
        title="Least sentences",
        description="Sentences, 0 to 10,000; 0 switches the rule off (3 in the paper, 5 in its first "
        "version and in datatrove).",
        ge=0,
        le=10000,
    )
    curly_bracket_lines: float = Field(
        0.2,
        title="Lines with a curly bracket",
        description="Largest share of lines with { or } in them, 0 to 1; 1 switches the rule off. The "
        "paper has 0, which drops every page that shows a line of code.",
        ge=0,
        le=1,
    )
    max_lorem_ipsum: int = Field(
        0,
        title="Lorem ipsum",
        description="Times that the placeholder text may occur, 0 to 1,000,000.",
        ge=0,
        le=1000000,
    )
    bad_words: FilesConfig = Field(
        FilesConfig(),
        title="Bad words",
        description="Text files with a word or a phrase a line. A file named by a language, such as en or "
        "zh.txt, counts in that language alone, any other in all.",
    )
    max_bad_words: int = Field(
        0,
        title="Most bad words",
        description="Times that words of these files may occur in a page, 0 to 1,000,000 (C4: 0).",
        ge=0,
        le=1000000,
    )


class FineWebConfig(StageConfig):
    """FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

    enabled: bool = Field(True, title="FineWeb rules", description="Apply the rules below.")
    min_line_punct: float = Field(
        0.12,
        title="Lines that end as sentences",
        description="Least share of lines that end with punctuation, 0 to 1; 0 switches the rule off. Thai "
        "and others that write none are exempt.",
        ge=0,
        le=1,
    )
    short_lines: float = Field(
        0.67,
        title="Short lines",
        description="Largest share of lines shorter than 30 characters (10 in Chinese), 0 to 1; 1 switches "
        "the rule off.",
        ge=0,
        le=1,
    )
    char_dup_lines: float = Field(
        0.10,
        title="Characters in duplicated lines",
        description="Largest share of characters in lines that occur more than once: 0.1 in the paper, 0.01 "
        "in its code, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )
    new_line_ratio: float = Field(
        0.30,
        title="Line breaks to words",
        description="Largest number of line breaks for each word, 0 to 1; 1 switches the rule off.",
        ge=0,
        le=1,
    )


BY_LANGUAGE: dict[str, dict[str, float]] = {
    "zh": {
        "repetition.top_2_gram": 0.256,
        "repetition.top_3_gram": 0.201,
        "repetition.top_4_gram": 0.171,
        "repetition.dup_5_gram": 0.198,
        "repetition.dup_6_gram": 0.182,
        "repetition.dup_7_gram": 0.167,
        "repetition.dup_8_gram": 0.154,
        "repetition.dup_9_gram": 0.14,
        "repetition.dup_10_gram": 0.127,
        "gopher.min_alpha_words": 0.735,
        "fineweb.min_line_punct": 0.106,
    },
    "ja": {
        "repetition.dup_line_frac": 0.375,
        "repetition.dup_5_gram": 0.307,
        "repetition.dup_6_gram": 0.283,
        "repetition.dup_7_gram": 0.264,
        "repetition.dup_8_gram": 0.248,
        "repetition.dup_9_gram": 0.234,
        "repetition.dup_10_gram": 0.223,
        "gopher.min_alpha_words": 0.759,
    },
    "th": {
        "repetition.dup_line_frac": 0.349,
        "repetition.top_2_gram": 0.221,
        "repetition.top_3_gram": 0.197,
        "repetition.top_4_gram": 0.162,
        "repetition.dup_5_gram": 0.185,
        "repetition.dup_6_gram": 0.168,
        "repetition.dup_7_gram": 0.152,
        "repetition.dup_8_gram": 0.137,
        "repetition.dup_9_gram": 0.124,
        "repetition.dup_10_gram": 0.111,
    },
}
"""Limits that FineWeb2 (Penedo et al. 2025) found for languages without spaces, each set so that it drops as
much as its English limit does; where theirs are stricter than English, the English one holds."""

SECTIONS: dict[str, type[StageConfig]] = {
    "repetition": RepetitionConfig,
    "gopher": GopherConfig,
    "c4": C4Config,
    "fineweb": FineWebConfig,
}


@cache
def limits() -> dict[str, float]:
    """The default limit of every rule, by the name that rejects carry: ``section.field``."""
    return {
        f"{section}.{name}": float(field.default)
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
        if name != "enabled" and isinstance(field.default, int | float)
    }
