"""The languages of a document in several of them, line by line.

What a page holds beside its language is rarely spread evenly: an untranslated chapter, a console session, a
quotation. So the lines of a mixed document are identified one by one, over the whole text, and its shares are
counted from those lines whose language can be told. Lines of code have none: they count for nothing and stay.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tasks.text.language import HAN, Identifier, Shares, mostly_kana, quotes_japanese
from tasks.text.language_codes import UNKNOWN

LEAST_LETTERS = 25
"""A line with fewer letters is too short to tell its language by the words."""
LEAST_HAN = 10
"""The same for Han characters, each of which says as much as several letters."""
LEAST_OF_SCRIPT = 5
"""The same for letters whose script leaves few languages to choose from."""
LEAST_SHARE = 0.5
"""Share of a line that must be in a language to call the line by it."""

_LATIN = re.compile("[\x00-\u02ff]+")
_PROMPT = re.compile(r"\s*(?:[$#%>]|>>>|\.\.\.|[\w.-]+@[\w.-]+[:~$#]\S*)\s")
_WORD = re.compile(r"[(\"'\[]*[A-Za-z]+(?:['/-][A-Za-z]+)*[)\"'\]]*[.,;:!?]*")


@dataclass(frozen=True, slots=True)
class Lines:
    """A text's lines and the language of each; empty where it cannot be told."""

    lines: list[str]
    codes: list[str]
    shares: Shares
    """Shares of what has a language, by bytes of UTF-8 as CLD2 counts, largest first; may be empty."""

    def without(self, foreign: Collection[str]) -> tuple[str, list[str]]:
        """The text without the lines in some languages, and those lines."""
        gone = [line for line, code in zip(self.lines, self.codes, strict=True) if code in foreign]
        stay = [line for line, code in zip(self.lines, self.codes, strict=True) if code not in foreign]
        return "\n".join(stay), gone


def line_languages(text: str, known: Collection[str], identifier: Identifier) -> Lines:
    """Each line's language, of those that are known to be in the document: a stray line can look like any.

    Lines that are too short to tell are told all together, for the shares alone.
    """
    lines = text.split("\n")
    told = [_language(line, identifier) for line in lines]
    codes = [code if code and code in known and code != UNKNOWN else "" for code in told]
    short = "\n".join(line for line, code in zip(lines, told, strict=True) if code is None)
    sizes = {code: share * _size(short) for code, share in identifier(short) if code in known}
    for line, code in zip(lines, codes, strict=True):
        if code:
            sizes[code] = sizes.get(code, 0.0) + _size(line)
    total = sum(sizes.values())
    shares = sorted(((code, size / total) for code, size in sizes.items()), key=lambda item: -item[1])
    return Lines(lines, codes, tuple(shares))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _language(line: str, identifier: Identifier) -> str | None:
    """A line's language, empty where it has none, and None where the line is too short to tell."""
    letters = sum(map(str.isalpha, line))
    if not letters or is_code(line):
        return ""
    least = LEAST_LETTERS
    if letters >= LEAST_OF_SCRIPT and not line.isascii() and _outside_latin(line) * 2 > letters:
        if mostly_kana(line):
            return "ja"
        least = LEAST_HAN if HAN.search(line) else LEAST_OF_SCRIPT
    if letters < least:
        return None
    found = identifier(line)
    if not found or found[0][1] < LEAST_SHARE:
        return ""
    return "zh" if found[0][0] == "ja" and quotes_japanese(line) else found[0][0]


def _outside_latin(line: str) -> int:
    return sum(map(str.isalpha, _LATIN.sub("", line)))


def is_code(line: str) -> bool:
    """Whether a line is a command at a prompt, or has fewer words than paths, options or data."""
    if _PROMPT.match(line):
        return True
    if not line.isascii():
        return False
    tokens = line.split()
    return 2 * sum(_WORD.fullmatch(token) is not None for token in tokens) < len(tokens)
