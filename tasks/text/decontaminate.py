"""Finds evaluation records in training text: n-grams that both have, naming the file and the record.

| record | n-gram | after |
|---|---|---|
| words with spaces | 13 words | GPT-3 (Brown et al. 2020, appendix C) |
| mostly characters without spaces | 26 characters, about as much text | |
| shorter than that | the whole record, from 6 words or 12 characters | |

Shorter records are not looked for: "Who did it?" is no contamination. Case, punctuation and spaces do not
count. One shared n-gram is a hit.

Fast enough for every document: the first 6 units of each n-gram are marked in a bitmap, so that a text needs
one look at its 6-unit shingles; only where one is marked are whole n-grams hashed and searched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup_units import ALONE, HashSet, Units, classes, shingles, shingles_at, units
from tasks.text.given_files import GivenFileError, given_text

WORDS, CHARACTERS = 13, 26
FEWEST_WORDS, FEWEST_CHARACTERS = 6, 12
ANCHOR = 6
"""Units by which a place is recognised that deserves a closer look; no n-gram is shorter."""
BATCH = 100_000
"""Characters of records that are hashed together while an index is built."""
SUFFIXES = (".jsonl", ".json", ".txt", ".md")
"""Files that are read, each also with .gz: JSON lines, a JSON list, or plain text, a line a record."""


class EvaluationFileError(GivenFileError):
    """An evaluation file cannot be used; the message names it, the line and what is expected."""


@dataclass(frozen=True)
class Hit:
    """Where a text repeats an evaluation record."""

    file: str
    """Name of the evaluation file, without its folder."""
    record: int
    """Number of the record in it: of the line, or of the item of a JSON list; from 1."""
    ngram: str
    """What the two share, as the text has it, lower case."""

    def __str__(self) -> str:
        return f"{self.file}:{self.record}: {self.ngram}"


@dataclass(frozen=True)
class _Grams:
    """All n-grams of one length: sorted hashes, and for each the number of the first record that has it."""

    length: int
    hashes: NDArray[np.uint64]
    records: NDArray[np.int64]

    def find(self, units_: NDArray[np.uint64], starts: NDArray[np.int64]) -> tuple[int, int] | None:
        """(start, record) of the first of these starts at which a known n-gram begins."""
        starts = starts[starts + self.length <= len(units_)]
        hashes = shingles_at(units_, starts, self.length)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        known = np.flatnonzero(self.hashes[at] == hashes)
        return (int(starts[known[0]]), int(self.records[at[known[0]]])) if len(known) else None


class Index:
    """The n-grams of some evaluation files."""

    def __init__(
        self,
        files: Sequence[str],
        records: Sequence[tuple[int, int]],
        grams: Sequence[_Grams],
        anchors: HashSet,
    ) -> None:
        self._files, self._records, self._grams, self._anchors = files, records, grams, anchors

    @classmethod
    def build(cls, files: Iterable[Path]) -> Index:
        """Read evaluation files: every text of every record counts, whatever its field is called.

        So BLiMP's sentences, HellaSwag's contexts and endings, LAMBADA's passages and plain text need no
        settings. Raises GivenFileError naming what is missing or malformed, or where there is nothing in any
        of them to look for.
        """
        paths = sorted(files)
        records: list[tuple[int, int]] = []
        found = list(_ngrams(_numbered(paths, records)))
        if paths and not found:
            raise EvaluationFileError(
                f"{', '.join(map(str, paths[:3]))}: none of the {len(records):,} records has a text of "
                f"{FEWEST_WORDS} words, or of {FEWEST_CHARACTERS} characters without spaces, to look for"
            )
        grams = []
        for length in sorted({part.length for part in found}):
            parts = [part for part in found if part.length == length]
            hashes, first = np.unique(np.concatenate([p.hashes for p in parts]), return_index=True)
            grams.append(_Grams(length, hashes, np.concatenate([p.records for p in parts])[first]))
        anchors = np.concatenate([np.zeros(0, np.uint64), *(part.anchors for part in found)])
        return cls([path.name for path in paths], records, grams, HashSet(anchors))

    def __len__(self) -> int:
        return len(self._records)

    @property
    def ngrams(self) -> int:
        """How many different n-grams are looked for."""
        return sum(len(grams.hashes) for grams in self._grams)

    def hit(self, text: str, found: Units | None = None) -> Hit | None:
        """The first of the longest n-grams that the text shares with an evaluation record, or None.

        ``found`` are the text's units, where they are at hand: finding them is most of the work.
        """
        if not self._grams:
            return None
        found = units(text) if found is None else found
        starts = self._anchors.places(shingles(found.hashes, ANCHOR))
        for grams in reversed(self._grams) if len(starts) else ():
            match = grams.find(found.hashes, starts)
            if match is not None:
                at, record = match
                file, number = self._records[record]
                return Hit(self._files[file], number, found.span(at, at + grams.length - 1))
        return None


@dataclass(frozen=True)
class _Found:
    """N-grams of one length in a batch of records."""

    length: int
    hashes: NDArray[np.uint64]
    anchors: NDArray[np.uint64]
    records: NDArray[np.int64]


def _numbered(paths: Sequence[Path], records: list[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """Every text with its record's number among all, while ``records`` takes (file, number in the file)."""
    for file, path in enumerate(paths):
        for number, texts in _records(path):
            records.append((file, number))
            for text in texts:
                yield len(records) - 1, text


def _ngrams(texts: Iterable[tuple[int, str]]) -> Iterator[_Found]:
    """The n-grams of all texts, many texts hashed at once: a record is too short to be done alone."""
    batch: list[tuple[int, str]] = []
    size = 0
    for record, text in texts:
        batch.append((record, text))
        size += len(text)
        if size >= BATCH:
            yield from _batch_ngrams(batch)
            batch, size = [], 0
    if batch:
        yield from _batch_ngrams(batch)


def _batch_ngrams(batch: Sequence[tuple[int, str]]) -> Iterator[_Found]:
    found = units("\0".join(text.replace("\0", " ") for _, text in batch))
    codes = found.folded
    text_of = np.searchsorted(np.flatnonzero(codes == 0), found.starts)
    count = np.bincount(text_of, minlength=len(batch))
    alone = np.bincount(text_of, classes()[codes[found.starts]] == ALONE, minlength=len(batch))
    unspaced = 2 * alone > count
    lengths = np.minimum(np.where(unspaced, CHARACTERS, WORDS), count)
    lengths[count < np.where(unspaced, FEWEST_CHARACTERS, FEWEST_WORDS)] = 0
    records = np.array([record for record, _ in batch], np.int64)
    for length in np.unique(lengths[lengths > 0]).tolist():
        starts = np.flatnonzero(lengths[text_of] == length)
        starts = starts[starts + length <= len(found)]
        starts = starts[text_of[starts] == text_of[starts + length - 1]]
        yield _Found(
            length,
            shingles_at(found.hashes, starts, length),
            shingles_at(found.hashes, starts, ANCHOR),
            records[text_of[starts]],
        )


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """A file's records, numbered from 1, each with its texts."""
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in SUFFIXES:
        raise EvaluationFileError(f"{path}: evaluation files end in {', '.join(SUFFIXES)}, or these with .gz")
    try:
        content = given_text(path)
        # Not splitlines: within a record may be other characters that Unicode takes for a line's end.
        lines = content.split("\n") if kind != ".json" else []
        if kind == ".json":
            items = _items(json.loads(content))
            yield from ((n, list(_texts(item))) for n, item in enumerate(items, 1))
    except (json.JSONDecodeError, TypeError, RecursionError) as error:
        raise EvaluationFileError(f"{path} cannot be read as {kind}: {error}") from error
    for number, line in enumerate(lines, 1):
        if kind in {".txt", ".md"}:
            yield number, [line]
        elif line.strip():
            yield number, _texts_of_line(path, number, line)


def _items(value: Any) -> list[Any]:
    """The records of a JSON file: its list's items, or what an object holds, as SQuAD's under "data"."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise TypeError("neither a list nor an object")
    return [item for held in value.values() for item in (held if isinstance(held, list) else [held])]


def _texts_of_line(path: Path, number: int, line: str) -> list[str]:
    try:
        return list(_texts(json.loads(line)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise EvaluationFileError(f"{path}:{number} is not JSON: {error}") from error


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
