"""Training sequences from memory-mapped shards, in an order that any position of it can be asked for.

position -> epoch -> shuffle -> window -> (shard, place): all of it arithmetic, so that resuming costs
nothing, and ranks take slices of one global order, whatever their number. A window is T + 1 tokens, of
which the last is the next window's first; it runs on over the ends of documents and shards, and only the
last few tokens of a stream (fewer than T) are left out.

Reading windows wherever they lie needs all shards at hand. Where they come from afar, the shuffle goes in
blocks: blocks of neighbouring windows are shuffled, and the windows of ``pool_blocks`` of them among each
other, so that a reader needs few shards at a time (``upcoming`` says which ones are next).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.tokens.errors import ChangedDataError, TooLittleTextError
from tasks.tokens.permutation import combine, permute

Ints = NDArray[np.int64]
Ids = NDArray[np.uint16]

CHUNK = 4096
"""Positions whose windows are computed at once, at most: half a millisecond, and memory of 64 kB."""
BLOCK_WINDOWS = 1024
POOL_BLOCKS = 2**20
"""So many that everything at hand is one pool; remote shards ask for fewer."""


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
        block_windows: int = BLOCK_WINDOWS,
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
            TooLittleTextError: there is not one batch of different sequences; says both numbers.
            ValueError: the batch cannot be divided among the ranks.
        """
        if global_batch % world or not 0 <= rank < world:
            raise ValueError(
                f"a batch of {global_batch} sequences cannot be shared by {world} processes (rank {rank}): "
                f"choose a multiple of {world}"
            )
        self.seq_len, self.global_batch, self.seed = seq_len, global_batch, seed
        self.manifest_digest, self.rank, self.world = manifest_digest, rank, world
        self.streams = _as_streams(streams)
        self._tables = [_Table(stream, seq_len) for stream in self.streams]
        counts = [
            round(table.windows * stream.repeats)
            for table, stream in zip(self._tables, self.streams, strict=True)
        ]
        self._check(counts)
        self._bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._order = _Order(int(self._bounds[-1]), seed, block_windows, pool_blocks)
        self._chunk: tuple[int, Ints, Ints] | None = None
        self._samples_seen = 0

    @property
    def sequences(self) -> int:
        """Sequences in an epoch."""
        return self._order.length

    @property
    def tokens(self) -> int:
        """Tokens that an epoch trains on."""
        return self.sequences * self.seq_len

    def batch(self, index: int) -> tuple[Ints, Ints]:
        """Inputs and targets of global batch ``index``, this rank's slice: int64, (B, T) each.

        Any index, at the same price; with two ranks, one's slice after the other's is what one alone gets.
        """
        places, streams = self._windows(index)
        w_BT1 = np.empty((len(places), self.seq_len + 1), np.uint16)
        for which, table in enumerate(self._tables):
            mine = streams == which
            if mine.all():
                table.read(places, w_BT1)
                break
            if mine.any():
                rows = np.empty((int(mine.sum()), self.seq_len + 1), np.uint16)
                table.read(places[mine], rows)
                w_BT1[mine] = rows
        self._samples_seen = (index + 1) * self.global_batch
        return w_BT1[:, :-1].astype(np.int64), w_BT1[:, 1:].astype(np.int64)

    def documents(self, index: int) -> list[str]:
        """Identities of the documents in global batch ``index``, each once, over all ranks."""
        first = index * self.global_batch
        found: dict[str, None] = {}
        places, streams = self._look_up(first, first + self.global_batch)
        for place, which in zip(places.tolist(), streams.tolist(), strict=True):
            found |= dict.fromkeys(self._tables[which].documents(place))
        return list(found)

    def upcoming(self, index: int, batches: int) -> list[tuple[int, int]]:
        """Which (stream, shard) batches ``index`` to ``index + batches`` - 1 of all ranks read, in order."""
        first = index * self.global_batch
        places, streams = self._look_up(first, first + batches * self.global_batch)
        found: dict[tuple[int, int], None] = {}
        for which, table in enumerate(self._tables):
            shards = table.shards_of(places[streams == which])
            found |= dict.fromkeys((which, shard) for shard in shards)
        return list(found)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: which data, which order, and how many sequences were taken."""
        return {
            "manifest_digest": self.manifest_digest,
            "seed": self.seed,
            "sequence_length": self.seq_len,
            "samples_seen": self._samples_seen,
        }

    def restore(self, state: dict[str, Any]) -> int:
        """Check a kept state and return the next global batch's index; another number of ranks is fine.

        Raises ChangedDataError, naming each difference, where the state is of another manifest, seed,
        sequence length, or does not lie between two batches.
        """
        mine = self.state()
        changed = [
            f"{name} was {state.get(name)!r} and is {mine[name]!r}"
            for name in ("manifest_digest", "seed", "sequence_length")
            if state.get(name) != mine[name]
        ]
        seen = int(state.get("samples_seen", -1))
        if seen < 0 or seen % self.global_batch:
            changed.append(f"{seen} samples are no multiple of the batch of {self.global_batch}")
        if changed:
            raise ChangedDataError(
                f"the saved position belongs to other data: {'; '.join(changed)}. Restore the shards and the "
                f"settings it was made with, or begin a new training"
            )
        self._samples_seen = seen
        return seen // self.global_batch

    def _check(self, counts: list[int]) -> None:
        total = sum(counts)
        if total >= self.global_batch:
            return
        tokens = sum(stream.tokens for stream in self.streams)
        if total < 1:
            raise TooLittleTextError(
                f"the training text has {tokens:,} tokens, but one sequence takes {self.seq_len + 1:,}: add "
                f"text, or set train.model.context to at most {max(tokens - 1, 0)}"
            )
        raise TooLittleTextError(
            f"the training text of {tokens:,} tokens has {total:,} sequences of {self.seq_len:,}, but one "
            f"batch takes {self.global_batch:,}: add text, or set train.batch_sequences to at most {total}"
        )

    def _windows(self, index: int) -> tuple[Ints, Ints]:
        share = self.global_batch // self.world
        first = index * self.global_batch + self.rank * share
        return self._look_up(first, first + share)

    def _look_up(self, first: int, stop: int) -> tuple[Ints, Ints]:
        """First token in its stream, and stream, of the windows at positions ``first`` to ``stop`` - 1."""
        if self._chunk is None or not self._chunk[0] <= first <= stop <= self._chunk[0] + len(self._chunk[1]):
            size = min(CHUNK, 8 * self._order.run)
            start = first - first % size
            self._chunk = (start, *self._locate(np.arange(start, max(start + size, stop), dtype=np.int64)))
        start, places, streams = self._chunk
        return places[first - start : stop - start], streams[first - start : stop - start]

    def _locate(self, positions: Ints) -> tuple[Ints, Ints]:
        epochs, virtual = positions // self.sequences, self._order.at(positions)
        streams = np.searchsorted(self._bounds, virtual, side="right") - 1
        counts = np.diff(self._bounds)[streams]
        windows = np.array([table.windows for table in self._tables], np.int64)[streams]
        nth = virtual - self._bounds[streams] + epochs * counts
        return (nth % windows) * self.seq_len, streams


def _as_streams(given: Sequence[Stream] | Sequence[Ids]) -> tuple[Stream, ...]:
    streams = tuple(item for item in given if isinstance(item, Stream))
    arrays = [ArrayShard(item) for item in given if not isinstance(item, Stream)]
    return (*streams, Stream(arrays)) if arrays else streams


class _Order:
    """Position -> window of an epoch, shuffled anew each epoch, in blocks and pools of blocks."""

    def __init__(self, length: int, seed: int, block: int, pool: int) -> None:
        self.length, self.seed, self.block = length, seed, block
        self.blocks = length // block
        self.pool = min(pool, max(self.blocks, 1)) * block
        self.run = min(self.pool, length)
        """Positions that one permutation serves."""

    def at(self, positions: Ints) -> Ints:
        epochs, inside = positions // self.length, positions % self.length
        result = np.empty_like(positions)
        pools = inside // self.pool
        last = max(self.blocks * self.block // self.pool - 1, 0)
        pools = np.minimum(pools, last)  # what is left over at the end belongs to the last pool
        for epoch, pool in sorted(set(zip(epochs.tolist(), pools.tolist(), strict=True))):
            mine = (epochs == epoch) & (pools == pool)
            result[mine] = self._in_pool(inside[mine], epoch, pool, last)
        return result

    def _in_pool(self, inside: Ints, epoch: int, pool: int, last: int) -> Ints:
        start = pool * self.pool
        size = self.length - start if pool == last else self.pool
        slot = start + permute(inside - start, size, combine(self.seed, epoch, pool, 1))
        block = slot // self.block
        full = block < self.blocks  # the last, shorter block stays where it is
        block[full] = permute(block[full], self.blocks, combine(self.seed, epoch, 0, 2))
        return block * self.block + slot % self.block


class _Table:
    """A stream's windows."""

    def __init__(self, stream: Stream, seq_len: int) -> None:
        self.stream, self.seq_len = stream, seq_len
        self.sizes = [shard.tokens for shard in stream.shards]
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self.windows = max(0, (int(self.starts[-1]) - 1) // seq_len)

    def shards_of(self, places: Ints) -> list[int]:
        """The shards that windows at these places touch, in the order of the first to need each."""
        ends = np.stack([places, places + self.seq_len], axis=1).ravel()
        found = np.searchsorted(self.starts, ends, side="right") - 1
        touched: dict[int, None] = {}
        for first, last in found.reshape(-1, 2).tolist():
            touched |= dict.fromkeys(range(first, last + 1))
        return [shard for shard in touched if self.sizes[shard]]

    def read(self, places: Ints, out: Ids) -> None:
        """Copy the windows at these places into the rows of ``out``: uint16, (B, T + 1)."""
        width = self.seq_len + 1
        shards = np.searchsorted(self.starts, places, side="right") - 1
        local = places - self.starts[shards]
        for row, (shard, start) in enumerate(zip(shards.tolist(), local.tolist(), strict=True)):
            if start + width <= self.sizes[shard]:
                out[row] = self.stream.shards[shard].ids[start : start + width]
            else:
                out[row] = np.concatenate(self._pieces(int(places[row])))

    def documents(self, place: int) -> list[str]:
        """Identities of the documents that the window at a place touches."""
        found: list[str] = []
        for shard, start, stop in self._spans(place):
            found += self.stream.shards[shard].documents(start, stop)
        return found

    def _pieces(self, place: int) -> list[Ids]:
        return [self.stream.shards[shard].ids[start:stop] for shard, start, stop in self._spans(place)]

    def _spans(self, place: int) -> list[tuple[int, int, int]]:
        """(shard, start, stop) of the runs of tokens that make up the window at a place."""
        spans, stop = [], place + self.seq_len + 1
        shard = int(np.searchsorted(self.starts, place, side="right")) - 1
        while place < stop:
            first, end = int(self.starts[shard]), int(min(self.starts[shard + 1], stop))
            if place < end:
                spans.append((shard, place - first, end - first))
            place, shard = max(place, end), shard + 1
        return spans


def evenly_spaced(ids: Ids, seq_len: int, count: int) -> Ints:
    """At most ``count`` windows of T + 1 tokens that do not overlap, evenly spaced: int64, (windows, T + 1).

    For held-out losses: the same windows each time. Empty where the tokens do not make one window.
    """
    width = seq_len + 1
    windows = len(ids) // width
    if not windows:
        return np.zeros((0, width), np.int64)
    chosen = np.unique(np.linspace(0, windows - 1, min(count, windows)).astype(np.int64)).tolist()
    return np.stack([ids[index * width : (index + 1) * width] for index in chosen]).astype(np.int64)
