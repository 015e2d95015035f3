"""The languages of a document in several of them, line by line.

What a page holds beside its language is rarely spread evenly: an untranslated chapter, a console session, a
quotation. So the lines of a mixed document are identified one by one, over the whole text, and its shares are
counted from those lines whose language can be told. Lines of code have none: they count for nothing and stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tasks.text.language import UNKNOWN, Identifier, Shares, mostly_kana

LEAST_LETTERS = 25
"""A line with fewer letters is too short to tell its language by the words."""
LEAST_HAN = 10
"""The same for Han characters, each of which says as much as several letters."""
LEAST_OF_SCRIPT = 5
"""The same for letters whose script leaves few languages to choose from."""
LEAST_SHARE = 0.5
"""Share of a line that must be in a language to call the line by it."""

_LATIN = re.compile("[\x00-\u02ff]+")
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_PROMPT = re.compile(r"\s*(?:[$#%>]|>>>|\.\.\.|[\w.-]+@[\w.-]+[:~$#]\S*)\s")
_WORD = re.compile(r"[(\"'\[]*[A-Za-z]+(?:['/-][A-Za-z]+)*[)\"'\]]*[.,;:!?]*")


@dataclass(frozen=True, slots=True)
class Lines:
    """A text's lines and the language of each; empty where it cannot be told."""

    lines: list[str]
    codes: list[str]

    def shares(self) -> Shares:
        """Shares of the lines that have a language, by bytes of UTF-8 as CLD2 counts; may be empty."""
        sizes = Counter[str]()
        for line, code in zip(self.lines, self.codes, strict=True):
            if code:
                sizes[code] += len(line.encode("utf-8", "replace"))
        total = sizes.total()
        return tuple((code, size / total) for code, size in sizes.most_common())

    def without(self, foreign: Collection[str]) -> tuple[str, list[str]]:
        """The text without the lines in some languages, and those lines."""
        gone = [line for line, code in zip(self.lines, self.codes, strict=True) if code in foreign]
        stay = [line for line, code in zip(self.lines, self.codes, strict=True) if code not in foreign]
        return "\n".join(stay), gone


def line_languages(text: str, known: Collection[str], identifier: Identifier) -> Lines:
    """Each line's language, of those that are known to be in the document: a stray line can look like any."""
    lines = text.split("\n")
    codes = (_language(line, identifier) for line in lines)
    return Lines(lines, [code if code in known and code != UNKNOWN else "" for code in codes])


def _language(line: str, identifier: Identifier) -> str:
    letters = sum(map(str.isalpha, line))
    if letters < LEAST_OF_SCRIPT or is_code(line):
        return ""
    least = LEAST_LETTERS
    if not line.isascii() and 2 * sum(map(str.isalpha, _LATIN.sub("", line))) > letters:
        if mostly_kana(line):
            return "ja"
        least = LEAST_HAN if _HAN.search(line) else LEAST_OF_SCRIPT
    found = identifier(line) if letters >= least else ()
    return found[0][0] if found and found[0][1] >= LEAST_SHARE else ""


def is_code(line: str) -> bool:
    """Whether a line is a command at a prompt, or has fewer words than paths, options or data."""
    if _PROMPT.match(line):
        return True
    if not line.isascii():
        return False
    tokens = line.split()
    return 2 * sum(_WORD.fullmatch(token) is not None for token in tokens) < len(tokens)
