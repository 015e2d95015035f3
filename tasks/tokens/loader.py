"""Training sequences from memory-mapped shards, in an order that any position of it can be asked for.

A window is T + 1 tokens, of which the last is the next window's first; it runs on over the ends of documents
and shards, and only the last few tokens of a stream (fewer than T) are left out. See
:mod:`tasks.tokens.sampler` for the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.tokens.sampler import BLOCK, POOL_BLOCKS, Order, Sampler
from tasks.tokens.streams import ArrayShard, Run, Shard, Stream, as_streams

__all__ = ["ArrayShard", "Loader", "Shard", "Stream", "evenly_spaced"]

Ints = NDArray[np.int64]
Ids = NDArray[np.uint16]


class Loader:
    """Global batches of sequences, of which this rank gets its slice."""

    def __init__(
        self,
        streams: Sequence[Stream] | Sequence[Ids],
        *,
        seq_len: int,
        global_batch: int,
        seed: int,
        manifest_digest: str,
        rank: int = 0,
        world: int = 1,
        block_windows: int = BLOCK,
        pool_blocks: int = POOL_BLOCKS,
    ) -> None:
        """Say what is read and in which order.

        Args:
            streams: what an epoch is made of; plain arrays are the shards of one stream.
            seq_len: T, tokens in a sequence.
            global_batch: sequences in a batch of all ranks together.
            seed: of the order.
            manifest_digest: of the shards' manifest: a saved position is only good for the same one.
            rank, world: which slice of each batch is this process's.
            block_windows, pool_blocks: how far the shuffle reaches; part of the order.

        Raises:
            TooLittleTextError: there is not one batch of different sequences, with both numbers; or not one
                sequence of a named stream.
            ValueError: the batch cannot be divided among the ranks.
        """
        self.streams = as_streams(streams)
        self.seq_len = seq_len
        self._runs = [Run(stream) for stream in self.streams]
        order = Order(seq_len, global_batch, seed, manifest_digest, rank, world, block_windows, pool_blocks)
        windows = [max(0, (run.tokens - 1) // seq_len) for run in self._runs]
        repeats = [stream.repeats for stream in self.streams]
        names = [stream.name for stream in self.streams]
        self._sampler = Sampler(windows, repeats, sum(run.tokens for run in self._runs), order, names)

    @property
    def sequences(self) -> int:
        """Sequences in an epoch."""
        return self._sampler.sequences

    @property
    def tokens(self) -> int:
        """Tokens that an epoch trains on."""
        return self.sequences * self.seq_len

    def batch(self, index: int) -> tuple[Ints, Ints]:
        """Inputs and targets of global batch ``index``, this rank's slice: int64, (B, T) each.

        Any index, at the same price; with two ranks, one's slice after the other's is what one alone gets.
        Both are views of one array: two would take longer to get from the system than to fill.
        """
        numbers, streams = self._sampler.mine(index)
        places = numbers * self.seq_len
        w_BT1 = np.empty((len(places), self.seq_len + 1), np.int64)
        for which, run in enumerate(self._runs):
            mine = streams == which
            if mine.all():
                run.read(places, w_BT1)
                break
            if mine.any():
                rows = np.empty((int(mine.sum()), self.seq_len + 1), np.int64)
                run.read(places[mine], rows)
                w_BT1[mine] = rows
        return w_BT1[:, :-1], w_BT1[:, 1:]

    def documents(self, index: int) -> list[str]:
        """Identities of the documents in global batch ``index``, each once, over all ranks."""
        found: dict[str, None] = {}
        for number, which in zip(*(array.tolist() for array in self._sampler.all(index)), strict=True):
            found |= dict.fromkeys(self._runs[which].documents(number * self.seq_len, self.seq_len + 1))
        return list(found)

    def upcoming(self, index: int, batches: int) -> list[tuple[int, int]]:
        """Which (stream, shard) global batches ``index`` to ``index + batches`` - 1 read, of all ranks."""
        numbers, streams = self._sampler.all(index, batches)
        return [
            (which, shard)
            for which, run in enumerate(self._runs)
            for shard in run.touched(numbers[streams == which] * self.seq_len, self.seq_len + 1)
        ]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: which data, which order, and how many sequences were taken."""
        return self._sampler.state()

    def restore(self, state: dict[str, Any]) -> int:
        """Check a kept state and return the next global batch's index; another number of ranks is fine.

        Raises ChangedDataError, naming each difference.
        """
        return self._sampler.restore(state)


def evenly_spaced(ids: Ids, seq_len: int, count: int) -> Ints:
    """At most ``count`` windows of T + 1 tokens that do not overlap, evenly spaced: int64, (windows, T + 1).

    For held-out losses: the same windows each time. Empty where the tokens do not make one window.
    """
    width = seq_len + 1
    windows = [ids[index * width : (index + 1) * width] for index in spaced(len(ids) // width, count)]
    return np.stack(windows).astype(np.int64) if windows else np.zeros((0, width), np.int64)


def spaced(things: int, count: int) -> list[int]:
    """At most ``count`` numbers below ``things``, evenly spaced and ascending."""
    return [int(number) for number in np.unique(np.linspace(0, things - 1, min(count, things)).astype(int))]
