"""How often a text says a word of a list: C4's rule against "dirty, naughty, obscene or otherwise bad" words.

Raffel et al. 2020, 2.2, drop a page with any word of such a list. Lists are the user's own: text files with
a word or a phrase a line. A file that is named by a language (``en``, ``zh.txt``) counts in that language
alone, because a harmless word of one is a bad one of another; any other file counts in all. Words are
compared as whole units (see :mod:`tasks.text.dedup_units`), whatever their case: a bad word inside another is
none, and what is written without spaces is found wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup_units import HashSet, Units, shingles, units
from tasks.text.given_files import GivenFileError, given_text

ANY = ""
"""The language of lists that count in all."""
LONGEST = 32
"""Units in a phrase at most."""
_LANGUAGE = re.compile(r"[a-z]{2,3}")


class BadWords:
    """Lists of words, by language."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Read the lists; raises GivenFileError where one is no UTF-8 text or has a line that is no word."""
        phrases: dict[str, dict[int, list[NDArray[np.uint64]]]] = {}
        for file in files:
            language = file.stem if _LANGUAGE.fullmatch(file.stem) else ANY
            for hashes in _phrases(file):
                phrases.setdefault(language, {}).setdefault(len(hashes), []).append(hashes)
        self._sets = {
            language: {size: HashSet(_keys(found, size)) for size, found in by_size.items()}
            for language, by_size in phrases.items()
        }

    def count(self, split: Units, language: str) -> int:
        """Times that words of the lists for this language (ISO 639-1) occur in a text of these units."""
        return sum(
            len(words.places(shingles(split.hashes, size)))
            for name in {ANY, language}
            for size, words in self._sets.get(name, {}).items()
        )


def _phrases(file: Path) -> Iterable[NDArray[np.uint64]]:
    for number, line in enumerate(given_text(file).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        hashes = units(line).hashes
        if not 1 <= len(hashes) <= LONGEST:
            raise GivenFileError(f"{file}, line {number}: {line.strip()[:60]!r} is no word and no phrase")
        yield hashes


def _keys(phrases: list[NDArray[np.uint64]], size: int) -> NDArray[np.uint64]:
    return np.concatenate([shingles(hashes, size) for hashes in phrases])
