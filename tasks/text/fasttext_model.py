"""Reads and runs fastText's classifiers (.bin, and .ftz with product quantisation) with numpy alone.

The library itself has no maintained wheel, and packages that provide a module ``fasttext`` overwrite each
other. This reads format version 12 of a supervised model and computes what ``predict`` computes: Bojanowski
et al. 2017 (subwords), Joulin et al. 2016 (classification; quantisation). Slower than the original: some
1 to 5 ms a page.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.text.model_errors import ModelError

MAGIC, VERSION = 793712314, 12
SUPERVISED = 3
LOSSES: dict[int, Literal["hs", "softmax", "ova"]] = {1: "hs", 2: "softmax", 3: "softmax", 4: "ova"}
END = b"</s>"
LABEL = "__label__"
HEAD_BYTES = 64
CENTROIDS = 256
PAIR_FACTOR = 116049371
"""By which fastText joins the hashes of neighbouring words."""


class Rows:
    """A matrix, plain or product-quantised: rows are made when asked for."""

    def __init__(self, file: _Reader, *, quantised: bool) -> None:
        self._norms: NDArray[np.float32] | None = None
        if not quantised:
            rows, width = file.numbers("qq")
            self._plain: NDArray[np.float32] = file.array(np.float32, rows * width).reshape(rows, width)
            self._codes: NDArray[np.uint8] | None = None
            return
        (normed,) = file.numbers("?")
        rows, _ = file.numbers("qq")
        (size,) = file.numbers("i")
        codes = file.array(np.uint8, size)
        self._codes, self._quantiser = codes.reshape(rows, -1), _Quantiser(file)
        if normed:
            norm_codes = file.array(np.uint8, rows)
            self._norms = _Quantiser(file).decode(norm_codes.reshape(-1, 1))[:, 0]

    def __len__(self) -> int:
        return len(self._plain if self._codes is None else self._codes)

    def take(self, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at these places: float32[len(at), width]."""
        if self._codes is None:
            return self._plain[at]
        rows = self._quantiser.decode(self._codes[at])
        return rows if self._norms is None else rows * self._norms[at, None]

    @cached_property
    def all(self) -> NDArray[np.float32]:
        """Every row."""
        return self.take(np.arange(len(self)))


class _Quantiser:
    def __init__(self, file: _Reader) -> None:
        self.width, self.parts, self.step, self.last = file.numbers("iiii")
        self.centroids = file.array(np.float32, self.width * CENTROIDS)

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors of codes: uint8[n, parts] gives float32[n, width]."""
        pieces = []
        for part in range(self.parts):
            size = self.last if part == self.parts - 1 else self.step
            start = part * CENTROIDS * self.step
            table = self.centroids[start : start + CENTROIDS * size].reshape(CENTROIDS, size)
            pieces.append(table[codes[:, part]])
        return np.concatenate(pieces, axis=1)


class _Reader:
    def __init__(self, content: bytes, path: Path) -> None:
        self._file, self._path = BytesIO(content), path

    def numbers(self, form: str) -> tuple[Any, ...]:
        """The next numbers, little-endian, by a struct format."""
        size = struct.calcsize("<" + form)
        return struct.unpack("<" + form, self._exactly(size))

    def array(self, kind: Any, count: int) -> Any:
        """The next ``count`` numbers of one type."""
        return np.frombuffer(self._exactly(count * np.dtype(kind).itemsize), kind)

    def word(self) -> bytes:
        """The next word, up to its zero byte."""
        content, start = self._file.getbuffer(), self._file.tell()
        end = bytes(content[start : start + 65536]).find(b"\0")
        word = self._exactly(max(0, end))
        self._exactly(1)
        return word

    def _exactly(self, size: int) -> bytes:
        found = self._file.read(size) if size >= 0 else b""
        if len(found) != size:
            raise ModelError(f"{self._path} ends too early: it is cut off, or no fastText model")
        return found


@dataclass(frozen=True)
class _Settings:
    word_ngrams: int
    loss: Literal["hs", "softmax", "ova"]
    buckets: int
    shortest: int
    longest: int


def _head(file: _Reader, path: Path) -> _Settings:
    if file.numbers("ii") != (MAGIC, VERSION):
        raise ModelError(f"{path} is no fastText model of format {VERSION}")
    (_, _, _, _, _, ngrams, loss, kind, buckets, shortest, longest, _, _) = file.numbers("iiiiiiiiiiiid")
    if kind != SUPERVISED or loss not in LOSSES:
        raise ModelError(f"{path} holds word vectors; a classifier (fasttext supervised) is expected")
    return _Settings(ngrams, LOSSES[loss], buckets, shortest, longest)


class FastText:
    """A classifier: a text's words and subwords are averaged and compared with each label."""

    def __init__(
        self,
        settings: _Settings,
        words: dict[bytes, int],
        labels: list[str],
        counts: list[int],
        pruned: dict[int, int] | None,
        inputs: Rows,
        outputs: Rows,
    ) -> None:
        self._settings, self._words, self.labels, self._counts = settings, words, labels, counts
        self._pruned, self._inputs, self._outputs = pruned, inputs, outputs

    @classmethod
    def load(cls, path: Path) -> FastText:
        """Read a model file. Raises ModelError where it is none, or not a classifier."""
        file = _Reader(path.read_bytes(), path)
        settings = _head(file, path)
        size, _, _, _, prune_size = file.numbers("iiiqq")
        words: dict[bytes, int] = {}
        labels: list[str] = []
        counts: list[int] = []
        for _ in range(size):
            word, (count, entry) = file.word(), file.numbers("qb")
            if entry == 1:
                labels.append(word.decode("utf-8").removeprefix(LABEL))
                counts.append(count)
            else:
                words[word] = len(words)
        pairs = file.array(np.int32, 2 * max(0, prune_size)).reshape(-1, 2).tolist()
        pruned = dict(pairs) if prune_size >= 0 else None
        (quantised,) = file.numbers("?")
        inputs = Rows(file, quantised=quantised)
        (quantised_out,) = file.numbers("?")
        outputs = Rows(file, quantised=quantised and quantised_out)
        return cls(settings, words, labels, counts, pruned, inputs, outputs)

    @classmethod
    def check(cls, path: Path) -> None:
        """Raise ModelError where a file is no classifier, by its head: some are of gigabytes."""
        with path.open("rb") as file:
            _head(_Reader(file.read(HEAD_BYTES), path), path)

    def predict(self, text: str, most: int = 1) -> list[tuple[str, float]]:
        """The most likely labels with their probabilities, largest first; none for an empty text."""
        at = self._features(text.encode("utf-8", "replace"))
        if not len(at):
            return []
        hidden = self._inputs.take(at).mean(axis=0)
        probabilities = self._probabilities(hidden)
        order = np.argsort(-probabilities, kind="stable")[:most]
        return [(self.labels[label], float(probabilities[label])) for label in order]

    def _features(self, text: bytes) -> NDArray[np.int64]:
        """Rows of the input matrix: words, their subwords, and runs of words."""
        words = [*text.split(), END]
        known = [self._words.get(word, -1) for word in words]
        rows = [row for row in known if row >= 0]
        settings, hashed = self._settings, list[NDArray[np.uint64]]()
        if settings.longest > 0:
            pieces = [b"<" + word + b">" for word in words[:-1]]
            hashed.append(_subwords(pieces, settings.shortest, settings.longest))
        if settings.word_ngrams > 1:
            hashed.append(_runs(_hashes(words), settings.word_ngrams))
        if not settings.buckets or not hashed:
            return np.array(rows, np.int64)
        buckets = (np.concatenate(hashed) % np.uint64(settings.buckets)).astype(np.int64)
        if self._pruned is not None:
            kept = [self._pruned[bucket] for bucket in buckets.tolist() if bucket in self._pruned]
            buckets = np.array(kept, np.int64)
        return np.concatenate((np.array(rows, np.int64), buckets + len(self._words)))

    def _probabilities(self, hidden: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = (self._outputs.all @ hidden).astype(np.float64)
        if self._settings.loss == "softmax":
            exponents = np.exp(scores - scores.max())
            return np.asarray(exponents / exponents.sum())
        sigmoid = 1.0 / (1.0 + np.exp(-scores))
        if self._settings.loss == "ova":
            return np.asarray(sigmoid)
        return np.array([_product(sigmoid, path) for path in self._paths])

    @cached_property
    def _paths(self) -> list[list[tuple[int, bool]]]:
        """For each label, the inner nodes from its leaf to the root of the Huffman tree, and the turns."""
        labels = len(self._counts)
        counts = [*self._counts, *[10**15] * (labels - 1)]
        parents, right = [-1] * (2 * labels - 1), [False] * (2 * labels - 1)
        leaf, node = labels - 1, labels
        for inner in range(labels, 2 * labels - 1):
            pair = []
            for _ in range(2):
                if leaf >= 0 and counts[leaf] < counts[node]:
                    pair.append(leaf)
                    leaf -= 1
                else:
                    pair.append(node)
                    node += 1
            counts[inner] = counts[pair[0]] + counts[pair[1]]
            parents[pair[0]] = parents[pair[1]] = inner
            right[pair[1]] = True
        return [list(_climb(label, parents, right, labels)) for label in range(labels)]


def _climb(leaf: int, parents: list[int], right: list[bool], labels: int) -> list[tuple[int, bool]]:
    steps = []
    while parents[leaf] >= 0:
        steps.append((parents[leaf] - labels, right[leaf]))
        leaf = parents[leaf]
    return steps


def _product(sigmoid: NDArray[np.float64], path: list[tuple[int, bool]]) -> float:
    chance = 1.0
    for node, turned in path:
        chance *= sigmoid[node] if turned else 1.0 - sigmoid[node]
    return chance


def _step(hashes: NDArray[np.uint32], values: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One step of FNV-1a as fastText has it: bytes count as signed."""
    signed = values.astype(np.int8).astype(np.int32).astype(np.uint32)
    return (hashes ^ signed) * np.uint32(16777619)


def _hashes(words: list[bytes]) -> NDArray[np.uint32]:
    """FNV-1a of each word: uint32[len(words)]."""
    lengths = np.array([len(word) for word in words])
    text = np.frombuffer(b"".join(words), np.uint8)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    found = np.full(len(words), 2166136261, np.uint32)
    for offset in range(int(lengths.max())):
        inside = np.flatnonzero(lengths > offset)
        found[inside] = _step(found[inside], text[starts[inside] + offset])
    return found


def _subwords(words: list[bytes], shortest: int, longest: int) -> NDArray[np.uint64]:
    """Hashes of all runs of so many characters in each word with its < and >, but not of these alone."""
    text = np.frombuffer(b"".join(words), np.uint8)
    if not len(text):
        return np.zeros(0, np.uint64)
    starts = np.flatnonzero((text & 0xC0) != 0x80)
    bounds = np.append(starts, len(text))
    word_of = np.repeat(np.arange(len(words)), [len(word) for word in words])[starts]
    first = np.concatenate(([True], word_of[1:] != word_of[:-1]))
    last = np.concatenate((word_of[1:] != word_of[:-1], [True]))
    found = np.full(len(starts), 2166136261, np.uint32)
    alive, kept = np.arange(len(starts)), list[NDArray[np.uint32]]()
    for size in range(1, longest + 1):
        here = alive + size - 1
        fits = here < len(starts)
        fits[fits] = word_of[here[fits]] == word_of[alive[fits]]
        alive = alive[fits]
        found = _character(found[fits], text, bounds, alive + size - 1)
        if size >= shortest:
            kept.append(found if size > 1 else found[~(first[alive] | last[alive])])
    return np.concatenate(kept).astype(np.uint64) if kept else np.zeros(0, np.uint64)


def _character(
    hashes: NDArray[np.uint32], text: NDArray[np.uint8], bounds: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Take one more character, of one to four bytes, into each hash."""
    hashes, widths = hashes.copy(), bounds[at + 1] - bounds[at]
    for offset in range(int(widths.max(initial=0))):
        inside = np.flatnonzero(widths > offset)
        hashes[inside] = _step(hashes[inside], text[bounds[at[inside]] + offset])
    return hashes


def _runs(hashes: NDArray[np.uint32], longest: int) -> NDArray[np.uint64]:
    """Hashes of all runs of 2 to ``longest`` words; word hashes count as signed, as in fastText."""
    signed = hashes.astype(np.int32).astype(np.int64).astype(np.uint64)
    found, joined = [], signed
    for size in range(2, longest + 1):
        joined = joined[:-1] * np.uint64(PAIR_FACTOR) + signed[size - 1 :]
        found.append(joined)
    return np.concatenate(found) if found else np.zeros(0, np.uint64)
