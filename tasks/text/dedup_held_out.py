"""Which documents are held out, and which others are too near to them to be learned from.

A document's own hash is its draw in 0..1, so that a page is held out in every run or in none; a language's
held-out documents are those with the smallest draws. What leaks is found with a finer net than duplicates:
32 bands of 4 values meet at similarity .5 in 87 of 100 cases and at .7 always, and then the whole
signatures are compared.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup import SHINGLE, band_keys, is_empty, similarity
from tasks.text.dedup_config import HoldOutConfig
from tasks.text.dedup_units import HashSet, shingles, units

LEAK_BANDS, LEAK_ROWS = 32, 4
FEWEST_QUOTED = 20
"""Shingles that a document needs for its quotation to mean something."""


@dataclass(frozen=True)
class Leak:
    """A document of the corpus that is near a held-out one."""

    doc_id: str
    of: str
    """doc_id of the held-out document that it is most similar to."""
    similarity: float


def draw(doc_id: str, salt: str) -> float:
    """A document's place in the order of holding out: 0 to 1, uniform, the document's alone."""
    digest = hashlib.sha256(f"{salt}\n{doc_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Selection:
    """Chooses the held-out documents from a stream of all of them; remembers a bounded number."""

    def __init__(self, config: HoldOutConfig) -> None:
        self._config = config
        self._smallest: dict[str, list[tuple[float, str, int]]] = {}
        self.documents: Counter[str] = Counter()
        """Documents seen by language."""

    def offer(self, doc_id: str, language: str, text_bytes: int) -> None:
        """Look at one document of the corpus."""
        self.documents[language] += 1
        heap = self._smallest.setdefault(language, [])
        entry = (-draw(doc_id, self._config.salt), doc_id, text_bytes)
        if len(heap) < self._config.max_documents:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def chosen(self) -> frozenset[str]:
        """The doc_ids of the held-out documents; one at least, where there are two or more."""
        names = {name for language in self._smallest for name in self._of(language)}
        if not names and self.documents.total() > 1:
            names = {max(entry for heap in self._smallest.values() for entry in heap)[1]}
        return frozenset(names)

    def _of(self, language: str) -> Iterator[str]:
        config, room = self._config, self._config.max_bytes
        order = sorted(self._smallest[language], reverse=True)
        least = min(config.min_documents, math.floor(config.max_share * self.documents[language]))
        for number, (negative, doc_id, text_bytes) in enumerate(order):
            if number >= least and -negative >= config.fraction:
                return
            room -= text_bytes
            if room < 0:
                return
            yield doc_id


class NearIndex:
    """Finds documents that are near any of some given ones, among as many as are streamed past."""

    def __init__(self, doc_ids: Sequence[str], minhashes: NDArray[np.uint32]) -> None:
        usable = np.flatnonzero(~is_empty(minhashes))
        self._names = list(doc_ids)
        self._minhashes = minhashes
        keys = band_keys(minhashes[usable], LEAK_BANDS, LEAK_ROWS).ravel()
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], np.repeat(usable, LEAK_BANDS)[order]

    def near(self, doc_ids: Sequence[str], minhashes: NDArray[np.uint32], threshold: float) -> Iterator[Leak]:
        """Which of these documents reach ``threshold``, in their order, each with the nearest given one."""
        usable = np.flatnonzero(~is_empty(minhashes))
        keys = band_keys(minhashes[usable], LEAK_BANDS, LEAK_ROWS).ravel()
        rows = np.repeat(usable, LEAK_BANDS)
        first = np.searchsorted(self._keys, keys, "left")
        count = np.searchsorted(self._keys, keys, "right") - first
        pairs = np.unique(
            np.stack([np.repeat(rows, count), self._owners[np.repeat(first, count) + _steps(count)]], axis=1),
            axis=0,
        )
        likeness = np.concatenate(
            [
                similarity(minhashes[chunk[:, 0]], self._minhashes[chunk[:, 1]])
                for chunk in np.array_split(pairs, len(pairs) // 4096 + 1)
            ]
        )
        enough = likeness >= np.float32(threshold)
        pairs, likeness = pairs[enough], likeness[enough]
        order = np.lexsort((pairs[:, 1], -likeness, pairs[:, 0]))
        _, best = np.unique(pairs[order, 0], return_index=True)
        for at in order[best]:
            row, owner = pairs[at]
            yield Leak(doc_ids[row], self._names[owner], float(likeness[at]))


class Quotations:
    """Finds documents that hold most of a given one, however much else they hold."""

    def __init__(self, documents: Iterable[tuple[str, str]]) -> None:
        """``documents``: doc_id and text. Texts of fewer than 20 shingles are not looked for."""
        self._names: list[str] = []
        hashes: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
        for doc_id, text in documents:
            found = np.unique(shingles(units(text).hashes, SHINGLE))
            if len(found) >= FEWEST_QUOTED:
                self._names.append(doc_id)
                hashes.append(found)
        self._sizes = np.array([len(found) for found in hashes[1:]], np.int64)
        everything = np.concatenate(hashes)
        order = np.argsort(everything, kind="stable")
        self._hashes = everything[order]
        self._owners = np.repeat(np.arange(len(self._names)), self._sizes)[order]
        self._known = HashSet(everything)

    def quoted(self, doc_id: str, text: str, threshold: float) -> Leak | None:
        """The given document of which this text holds the largest share, if that reaches ``threshold``."""
        found = shingles(units(text).hashes, SHINGLE)
        known = np.unique(found[self._known.places(found)])
        if not len(known):
            return None
        first = np.searchsorted(self._hashes, known, "left")
        count = np.searchsorted(self._hashes, known, "right") - first
        owners = self._owners[np.repeat(first, count) + _steps(count)]
        shares = np.bincount(owners, minlength=len(self._names)) / self._sizes
        best = int(shares.argmax())
        return Leak(doc_id, self._names[best], float(shares[best])) if shares[best] >= threshold else None


def _steps(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … count[0] - 1, 0, 1, … count[1] - 1, and so on."""
    steps: NDArray[np.int64] = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return steps


def near_duplicates_of(
    held_out: tuple[Sequence[str], NDArray[np.uint32]],
    corpus: Iterable[tuple[Sequence[str], NDArray[np.uint32]]],
    threshold: float,
) -> Iterator[Leak]:
    """The corpus's documents that are near a held-out one, itself left out.

    Both sides are doc_ids with their signatures, uint32[n, 128]; the corpus comes in batches.
    """
    index, own = NearIndex(*held_out), frozenset(held_out[0])
    for doc_ids, minhashes in corpus:
        yield from (leak for leak in index.near(doc_ids, minhashes, threshold) if leak.doc_id not in own)
