"""Whether a document is in the languages that are kept: by its text, and by what its page states.

The text decides. Where it is in one language, windows of it tell which; where it is mixed, its lines are
counted one by one. The language that the page states (``lang`` attributes and their like) is a witness who is
often wrong, templates being copied: it cannot drop a page whose text is all in a kept language, but it turns
the scale for a mixed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.text.config import LanguageConfig
from tasks.text.language import Shares, line_identifier, share_in, shares
from tasks.text.language_codes import code_of
from tasks.text.language_lines import Lines, line_languages

MIXED_FROM = 0.1
"""Share of kept languages in the windows from which a mixed document's lines are looked at; the rest of one
with less cannot make up for it."""
STATED_WEIGHT = 0.2
"""Part of a document's share that goes to the language its page states."""
_REGIONS = frozenset({"cn", "hk", "tw", "us", "gb", "jp", "xx"})
"""What pages write for a language though it is none."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What languages a document is in."""

    found: Shares
    """Languages with their shares, largest first; at least one."""
    share: float
    """Of the kept languages together, after what the page states: 0..1, and 1 where all are kept."""
    lines: Lines | None = None
    """Of a mixed document, the lines with their languages."""


def judge(text: str, stated: str, config: LanguageConfig, model: Path | None) -> Judgement:
    """A document's languages, and its share of those that are kept.

    ``stated`` is the page's own language tag or empty, ``model`` the fastText model's file where the
    configuration asks for one. Raises LanguageError where the method cannot be used.
    """
    found = shares(text, config.method, model)
    if not config.keep:
        return Judgement(found, 1.0)
    share, lines = share_in(found, config.keep), None
    if MIXED_FROM <= share < 1:
        known = {*config.keep, *(code for code, _ in found)}
        lines = line_languages(text, known, line_identifier(config.method))
        found = lines.shares or found
        share = share_in(found, config.keep)
    if config.stated != "ignore" and stated_code(stated) not in {"", *config.keep}:
        share *= 1 - STATED_WEIGHT if config.stated == "weigh" else 0
    return Judgement(found, share, lines)


def without_foreign(text: str, judged: Judgement, config: LanguageConfig) -> tuple[str, list[str]]:
    """The text without the lines in languages that are not kept, and those lines."""
    foreign = {code for code, _ in judged.found if code not in config.keep}
    if not foreign or judged.lines is None:
        return text, []
    return judged.lines.without(foreign)


def stated_code(tag: str) -> str:
    """The two-letter code that a page's tag begins with; empty where it says no language to rely on."""
    code = code_of(tag)
    return code if len(code) == 2 and code not in _REGIONS else ""
