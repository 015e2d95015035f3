"""Training text as flat token ids, and exact search in it: repeated passages, copies, sources.

A passage is found by a polynomial hash over random 64-bit values of its tokens, taken for every position at
once: with B odd, S[i] = sum over j < i of value[id_j] * B^j wraps modulo 2^64 and is a running sum, so

    hash of the window at i = (S[i + length] - S[i]) * B^-i

which is the same for equal windows wherever they stand. A hit is compared token by token before it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]
Hashes = NDArray[np.uint64]

BASE = np.uint64(0x9E3779B97F4A7C15)
BASE_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
CHUNK = 2**22
"""Positions hashed at once: 100 MB of work space."""


class Names(Protocol):
    """Strings by document, perhaps read only when asked for."""

    def __getitem__(self, index: int, /) -> str:
        """The document's."""


@dataclass(frozen=True)
class TokenText:
    """Documents one after another, each with its end-of-text token."""

    ids: Ids
    """All tokens, (N,); may be a memory map."""
    starts: NDArray[np.integer]
    """Where each document begins, and N at the end: (documents + 1,)."""
    doc_ids: Names
    urls: Names

    def document_at(self, position: int) -> int:
        """Index of the document that the token at this position belongs to."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1


@dataclass(frozen=True)
class Place:
    """Where a passage was found."""

    doc_id: str
    url: str
    position: int
    """Tokens from the beginning of the document."""


def window_hashes(ids: Ids, length: int) -> Hashes:
    """Hash of every window of ``length`` tokens, (max(N - length + 1, 0),)."""
    if len(ids) < length:
        return np.zeros(0, dtype=np.uint64)
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**64, size=max(2**16, int(ids.max()) + 1), dtype=np.uint64)
    with np.errstate(over="ignore"):
        powers = np.full(len(ids), BASE)
        powers[0] = 1
        sums = np.cumsum(values[ids] * np.cumprod(powers))
        before = np.concatenate([np.zeros(1, dtype=np.uint64), sums[:-length]])
        inverses = np.full(len(before), BASE_INVERSE)
        inverses[0] = 1
        hashes: Hashes = (sums[length - 1 :] - before) * np.cumprod(inverses)
    return hashes


def within_documents(text: TokenText, length: int) -> NDArray[np.int64]:
    """Positions at which a window of ``length`` tokens lies in one document's text."""
    spans = [
        np.arange(start, end - length, dtype=np.int64)
        for start, end in zip(text.starts[:-1], text.starts[1:], strict=True)
        if end - start > length
    ]
    return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)


def chunks(text: TokenText, length: int) -> Iterator[tuple[int, Hashes]]:
    """Hashes of all windows in bounded memory: the first position of each stretch, and its hashes."""
    for begin in range(0, max(len(text.ids) - length + 1, 0), CHUNK):
        yield begin, window_hashes(np.asarray(text.ids[begin : begin + CHUNK + length - 1]), length)


def find(texts: Sequence[TokenText], passages: Sequence[Ids]) -> list[Place | None]:
    """The first place of each passage in the texts, in order, or None; empty passages are nowhere."""
    found: list[Place | None] = [None] * len(passages)
    for length in sorted({len(passage) for passage in passages} - {0}):
        wanted: dict[int, list[int]] = {}
        for index, passage in enumerate(passages):
            if len(passage) == length:
                wanted.setdefault(int(window_hashes(np.asarray(passage), length)[0]), []).append(index)
        for text in texts:
            _search(text, length, passages, wanted, found)
    return found


def _search(
    text: TokenText,
    length: int,
    passages: Sequence[Ids],
    wanted: dict[int, list[int]],
    found: list[Place | None],
) -> None:
    keys = np.array(sorted(wanted), dtype=np.uint64)
    for begin, hashes in chunks(text, length):
        place = np.minimum(np.searchsorted(keys, hashes), len(keys) - 1)
        for offset in np.flatnonzero(keys[place] == hashes):
            position = begin + int(offset)
            for index in wanted[int(hashes[offset])]:
                same = np.array_equal(text.ids[position : position + length], passages[index])
                if found[index] is None and same:
                    document = text.document_at(position)
                    start = int(text.starts[document])
                    found[index] = Place(text.doc_ids[document], text.urls[document], position - start)
