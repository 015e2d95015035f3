"""Shards one after another, read as one run of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint16]
Ints = NDArray[np.int64]


class Shard(Protocol):
    """A run of tokens, document after document."""

    @property
    def tokens(self) -> int:
        """How many tokens it has, known without reading them."""

    @property
    def ids(self) -> Ids:
        """The tokens: uint16[tokens], memory-mapped or fetched now."""

    def documents(self, start: int, stop: int) -> list[str]:
        """Identities of the documents that tokens ``start`` to ``stop`` - 1 belong to, in order."""


class ArrayShard:
    """Tokens that are in memory already, without documents' names."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return len(self.ids)

    def documents(self, start: int, stop: int) -> list[str]:
        """Nothing is known of them."""
        return []


@dataclass(frozen=True)
class Stream:
    """Shards that are read as one run of tokens, and how often an epoch goes over them."""

    shards: Sequence[Shard]
    repeats: float = 1.0
    """Above 0; 1.5 reads all of it once and half of it again, the other half in the next epoch."""
    name: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of all shards together."""
        return sum(shard.tokens for shard in self.shards)


def as_streams(given: Sequence[Stream] | Sequence[Ids]) -> tuple[Stream, ...]:
    """Streams as they are; plain arrays become the shards of one."""
    streams = tuple(item for item in given if isinstance(item, Stream))
    arrays = [ArrayShard(item) for item in given if not isinstance(item, Stream)]
    return (*streams, Stream(arrays)) if arrays else streams


class Run:
    """Where in which shard each token of a stream is."""

    def __init__(self, stream: Stream) -> None:
        self.shards = stream.shards
        self.sizes = [shard.tokens for shard in stream.shards]
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def tokens(self) -> int:
        """How many the run has."""
        return int(self._starts[-1])

    def read(self, places: Ints, out: Ints) -> None:
        """Copy the tokens from each place on into a row of ``out``: int64, (places, width).

        Row by row: gathering each shard's rows at once saves a tenth where there is one shard, and takes
        three times as long where there are sixteen.
        """
        width, ids = out.shape[1], dict[int, Ids]()
        shards = np.searchsorted(self._starts, places, side="right") - 1
        starts = places - self._starts[shards]
        for row, (shard, start) in enumerate(zip(shards.tolist(), starts.tolist(), strict=True)):
            if shard not in ids:
                ids[shard] = self.shards[shard].ids
            if start + width <= self.sizes[shard]:
                out[row] = ids[shard][start : start + width]
            else:
                out[row] = self.piece(int(places[row]), width)

    def piece(self, place: int, width: int) -> Ids:
        """``width`` tokens from a place on, over the ends of shards."""
        parts = [self.shards[shard].ids[start:stop] for shard, start, stop in self._spans(place, width)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def documents(self, place: int, width: int) -> list[str]:
        """Identities of the documents that ``width`` tokens from a place on belong to."""
        found: list[str] = []
        for shard, start, stop in self._spans(place, width):
            found += self.shards[shard].documents(start, stop)
        return found

    def touched(self, places: Ints, width: int | Ints) -> list[int]:
        """Shards that ``width`` tokens (one number, or one a place) from each place on lie in, in order."""
        first = np.searchsorted(self._starts, places, side="right") - 1
        last = np.searchsorted(self._starts, places + width, side="left") - 1
        found: dict[int, None] = {}
        for start, stop in zip(first.tolist(), last.tolist(), strict=True):
            found |= dict.fromkeys(shard for shard in range(start, stop + 1) if self.sizes[shard])
        return list(found)

    def _spans(self, place: int, width: int) -> list[tuple[int, int, int]]:
        """(shard, start, stop) of the pieces that make up ``width`` tokens from a place on."""
        spans, stop = [], place + width
        shard = int(np.searchsorted(self._starts, place, side="right")) - 1
        while place < stop:
            first, end = int(self._starts[shard]), int(min(self._starts[shard + 1], stop))
            if place < end:
                spans.append((shard, place - first, end - first))
            place, shard = max(place, end), shard + 1
        return spans
