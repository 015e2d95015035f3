"""Lines that are taken out of a page, counted by the rule that took them (C4, Raffel et al. 2020, 2.2).

| C4 removes | here |
|---|---|
| lines that do not end in terminal punctuation | off, as in FineWeb |
| lines of fewer than 3 words | the same, but a heading stays; without spaces words are estimated |
| lines with the word JavaScript | those of at most 200 letters that ask for it |
| lines about terms of use, privacy or cookies | those of at most 200 letters |
| [1], [edit], [citation needed] | the same, but not in code: a[0] stays |
| words of over 1,000 characters (its code) | the same; scripts without spaces are exempt |
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from tasks.text.config import LinesConfig
from tasks.text.folding import code_points
from tasks.text.quality_characters import ALONE, TERMINAL, kinds
from tasks.text.quality_profiles import Profile, judged_as, profile_of

NOTICE = 200
"""Letters in a notice at most, of which a Chinese character counts as three; a longer line that speaks of
cookies speaks of more than that."""

_HINTS = (
    *("ookie", "COOKIE", "rivacy", "PRIVACY", "erms of", "TERMS", "ascript", "aScript", "ASCRIPT"),
    *("隐私", "隱私", "条款", "條款"),
)
_POLICY = re.compile(
    r"terms of (?:use|service)|privacy (?:policy|notice)|cookie(?:s)? policy|uses? (?:of )?cookies"
    r"|(?:accept|manage|allow) (?:all )?cookies|隐私权?(?:政策|声明|条款)|隱私權?(?:政策|聲明|條款)"
    r"|(?:使用|服务|用户)条款|(?:使用|服務|用戶)條款|使用\s*cookie",
    re.IGNORECASE,
)
_SWITCHED = "启用|啟用|禁用|停用|开启|開啟|打开|打開|关闭|關閉"
_JAVASCRIPT = re.compile(
    r"(?=.*(?:enable|disable|require|turn(?:ed)? o|support|need|must|without)).*javascript"
    rf"|.*(?:{_SWITCHED}|支持|支援).{{0,10}}javascript|.*javascript.{{0,10}}(?:{_SWITCHED})",
    re.IGNORECASE,
)
"""In Chinese the verb stands beside it; what JavaScript itself supports is said in text about it."""
_CITATION = re.compile(r"\[(?:(\d{1,3})|edit|citation needed|编辑|編輯|来源请求|來源請求)\]")
_BEFORE_CITATION = re.compile(r"[.,;:!?)\]\"”’。，；：！？）」』\u4e00-\u9fff]")
_AFTER_CITATION = re.compile(r"[\s\[.,;:!?)。，；：！？）\u4e00-\u9fff]|$")
_BLANKS = re.compile(r"\n{3,}")


def clean_lines(text: str, language: str, config: LinesConfig) -> tuple[str, dict[str, int]]:
    """Take lines and marks out of a text; gives the rest, and how many each rule took.

    Blank lines stay, at most one in a row; they are not counted.
    """
    if not config.enabled:
        return text, {}
    removed: dict[str, int] = {}
    if config.citations and "]" in text:
        text, marks = _without_citations(text)
        if marks:
            removed["citations"] = marks
    lines = text.split("\n")
    rules = _rules_broken(lines, text, language, config)
    if not rules:
        return (_BLANKS.sub("\n\n", text).strip("\n"), removed) if removed else (text, removed)
    for rule in rules.values():
        removed[rule] = removed.get(rule, 0) + 1
    rest = "\n".join(line for number, line in enumerate(lines) if number not in rules)
    return _BLANKS.sub("\n\n", rest).strip("\n"), removed


def _without_citations(text: str) -> tuple[str, int]:
    marks = 0

    def replacement(found: re.Match[str]) -> str:
        nonlocal marks
        before, after = text[max(0, found.start() - 1) : found.start()], text[found.end() : found.end() + 1]
        if found[1] and not (_BEFORE_CITATION.match(before) and _AFTER_CITATION.match(after)):
            return found[0]
        marks += 1
        return ""

    return _CITATION.sub(replacement, text), marks


def _rules_broken(lines: list[str], text: str, language: str, config: LinesConfig) -> dict[int, str]:
    """The rule that each bad line breaks, by the line's number."""
    broken: dict[int, str] = {}
    full = [number for number, line in enumerate(lines) if line and not line.isspace()]
    if hints := [hint for hint in _HINTS if hint in text and (config.policy or config.javascript)]:
        spoken = [n for n in full if _is_short(lines[n]) and any(hint in lines[n] for hint in hints)]
        broken |= _each(spoken, lines, lambda line: _notice(line, config))
    if config.terminal_punctuation and (marks := _last_characters(text, language)):
        broken |= _each(
            full, lines, lambda line: "" if line.rstrip()[-1] in marks else "terminal_punctuation"
        )
    if longest := config.max_word_length:
        long = [number for number in full if len(lines[number]) > longest]
        broken |= _each(long, lines, lambda line: "max_word_length" if _long_word(line, longest) else "")
    if least := config.min_words_per_line:
        broken |= _short(full, lines, least, broken)
    return broken


def _each(numbers: list[int], lines: list[str], rule: Callable[[str], str]) -> dict[int, str]:
    return {number: name for number in numbers if (name := rule(lines[number]))}


def _short(full: list[int], lines: list[str], least: int, broken: dict[int, str]) -> dict[int, str]:
    """Lines with too few words, but not one that stands alone between longer ones: that is a heading."""
    left = [number for number in full if number not in broken]
    short = [
        len(lines[number].split(None, least)) < least and not _enough_by_characters(lines[number], least)
        for number in left
    ]
    found = {}
    for place, number in enumerate(left):
        if short[place]:
            after = short[place + 1] if place + 1 < len(left) else True
            before = short[place - 1] if place else False
            if before or after:
                found[number] = "min_words_per_line"
    return found


def _last_characters(text: str, language: str) -> frozenset[str]:
    profile = profile_of(judged_as(language, _alone(text) / max(1, len(text))))
    return TERMINAL if profile.sentence_marks else frozenset()


def _is_short(line: str) -> bool:
    return len(line) <= NOTICE and (
        line.isascii() or len(line) + (Profile.character_weight - 1) * _alone(line) <= NOTICE
    )


def _notice(line: str, config: LinesConfig) -> str:
    if config.policy and _POLICY.search(line):
        return "policy"
    if config.javascript and _JAVASCRIPT.match(line):
        return "javascript"
    return ""


def _enough_by_characters(line: str, least: int) -> bool:
    """Whether a line that spaces cut into fewer words has enough, by its characters without spaces."""
    if line.isascii():
        return False
    return len(line.split(None, least)) + _alone(line) / Profile.chars_per_word >= least


def _long_word(line: str, longest: int) -> bool:
    return any(len(word) > longest and _alone(word) * 2 < len(word) for word in line.split())


def _alone(text: str) -> int:
    return int(np.count_nonzero(kinds()[code_points(text)] & ALONE))
