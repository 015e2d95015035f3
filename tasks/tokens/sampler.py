"""Which sequence stands at which position of a training: arithmetic, so that any position costs the same.

position -> epoch -> shuffle -> (stream, number of the sequence in it). Ranks take slices of each global
batch, so that any number of them sees one order.

The shuffle goes in blocks, for those that come from afar: blocks of neighbouring sequences are shuffled,
and the sequences of ``pool_blocks`` of them among each other, so that a reader needs few shards at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.tokens.errors import ChangedDataError, TooLittleTextError
from tasks.tokens.permutation import combine, permute

Ints = NDArray[np.int64]

CHUNK = 4096
"""Positions that are computed at once, at most: half a millisecond, and memory of 64 kB."""
BLOCK = 1024
POOL_BLOCKS = 16
"""16,384 sequences are shuffled among each other, from 16 places of the data. The order is the same wherever
the shards are, and has to leave a cache of a few of them enough: with one pool over a hundred shards of an
object store and room for twenty, each batch of 512 sequences fetched 97 shards; with pools of 16 blocks, .7.
"""


@dataclass(frozen=True)
class Order:
    """What decides the order of sequences, and which part of it this process gets."""

    seq_len: int
    """T, tokens in a sequence."""
    global_batch: int
    """Sequences in a batch of all ranks together."""
    seed: int
    manifest_digest: str
    """Of the data: a saved position is only good for the same."""
    rank: int = 0
    world: int = 1
    block: int = BLOCK
    pool_blocks: int = POOL_BLOCKS


class Sampler:
    """From positions to sequences of several streams, each gone over ``repeats`` times an epoch."""

    def __init__(
        self,
        sizes: Sequence[int],
        repeats: Sequence[float],
        tokens: int,
        order: Order,
        names: Sequence[str] = (),
    ) -> None:
        """Raises TooLittleTextError and ValueError as :class:`tasks.tokens.loader.Loader` does.

        Args:
            sizes: sequences in each stream.
            repeats: times an epoch goes over each.
            tokens: in all of them together, for messages.
            order: of the sequences.
            names: of the streams; one that is named is not left out for being too short.
        """
        self.order = order
        if order.global_batch % order.world or not 0 <= order.rank < order.world:
            raise ValueError(
                f"a batch of {order.global_batch} sequences cannot be shared by {order.world} processes "
                f"(rank {order.rank}): choose a multiple of {order.world}"
            )
        self._sizes = np.array(sizes, np.int64)
        self._counts = np.array([round(n * r) for n, r in zip(sizes, repeats, strict=True)], np.int64)
        self.sequences = int(self._counts.sum())
        """Sequences in an epoch."""
        _check(self.sequences, tokens, order)
        _check_none_is_left_out(names, self._counts, order)
        self._bounds = np.concatenate([[0], np.cumsum(self._counts)])
        self._shuffle = _Shuffle(self.sequences, order)
        self._chunk: tuple[int, Ints, Ints] | None = None
        self._samples_seen = 0

    def mine(self, index: int) -> tuple[Ints, Ints]:
        """Numbers and streams of this rank's sequences in global batch ``index``."""
        share = self.order.global_batch // self.order.world
        first = index * self.order.global_batch + self.order.rank * share
        self._samples_seen = (index + 1) * self.order.global_batch
        return self._look_up(first, first + share)

    def all(self, index: int, batches: int = 1) -> tuple[Ints, Ints]:
        """Numbers and streams of all ranks' sequences in ``batches`` global batches from ``index`` on."""
        first = index * self.order.global_batch
        return self._look_up(first, first + batches * self.order.global_batch)

    def _look_up(self, first: int, stop: int) -> tuple[Ints, Ints]:
        if self._chunk is None or not self._chunk[0] <= first <= stop <= self._chunk[0] + len(self._chunk[1]):
            size = min(CHUNK, 8 * self._shuffle.run)
            start = first - first % size
            self._chunk = (start, *self._locate(np.arange(start, max(start + size, stop), dtype=np.int64)))
        start, numbers, streams = self._chunk
        return numbers[first - start : stop - start], streams[first - start : stop - start]

    def _locate(self, positions: Ints) -> tuple[Ints, Ints]:
        """Part of a stream that an epoch leaves out comes first in the next one."""
        epochs, virtual = positions // self.sequences, self._shuffle.at(positions)
        streams = np.searchsorted(self._bounds, virtual, side="right") - 1
        nth = virtual - self._bounds[streams] + epochs * self._counts[streams]
        return nth % self._sizes[streams], streams

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: which data, which order, and how many sequences were taken."""
        return {
            "manifest_digest": self.order.manifest_digest,
            "seed": self.order.seed,
            "sequence_length": self.order.seq_len,
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
        if seen < 0 or seen % self.order.global_batch:
            changed.append(f"{seen} samples are no multiple of the batch of {self.order.global_batch}")
        if changed:
            raise ChangedDataError(
                f"the saved position belongs to other data: {'; '.join(changed)}. Restore the shards and the "
                f"settings it was made with, or begin a new training"
            )
        self._samples_seen = seen
        return seen // self.order.global_batch


def _check(sequences: int, tokens: int, order: Order) -> None:
    if sequences >= order.global_batch:
        return
    if sequences < 1:
        raise TooLittleTextError(
            f"the training text has {tokens:,} tokens, but one sequence takes {order.seq_len + 1:,}: add "
            f"text, or set train.model.context to at most {max(tokens - 1, 0)}"
        )
    raise TooLittleTextError(
        f"the training text of {tokens:,} tokens has {sequences:,} sequences of {order.seq_len:,}, but one "
        f"batch takes {order.global_batch:,}: add text, or set train.batch_sequences to at most {sequences}"
    )


def _check_none_is_left_out(names: Sequence[str], counts: Ints, order: Order) -> None:
    absent = [name for name, count in zip(names, counts.tolist(), strict=False) if name and not count]
    if absent:
        raise TooLittleTextError(
            f"the text of {', '.join(absent)} is too little for one sequence of {order.seq_len:,} tokens an "
            f"epoch, so that the mixture would never have it: add text, leave it out of "
            f"tokenize.mixture.weights, or set train.model.context lower"
        )


class _Shuffle:
    """Position -> place in an epoch, shuffled anew each epoch, in blocks and pools of blocks."""

    def __init__(self, length: int, order: Order) -> None:
        self.length, self.seed, self.block = length, order.seed, order.block
        self.blocks = length // self.block
        self.pool = min(order.pool_blocks, max(self.blocks, 1)) * self.block
        self.last = max(self.blocks * self.block // self.pool - 1, 0)
        """The last pool, to which what is left over at the end belongs."""
        self.run = min(self.pool, length)
        """Positions that one permutation serves."""

    def at(self, positions: Ints) -> Ints:
        """The place of each position in its epoch."""
        epochs, inside = positions // self.length, positions % self.length
        result = np.empty_like(positions)
        pools = np.minimum(inside // self.pool, self.last)
        rounds = epochs * (self.last + 1) + pools  # one number for both
        for number in np.unique(rounds).tolist():
            epoch, pool = divmod(number, self.last + 1)
            mine = rounds == number
            result[mine] = self._in_pool(inside[mine], epoch, pool)
        return result

    def _in_pool(self, inside: Ints, epoch: int, pool: int) -> Ints:
        start = pool * self.pool
        size = self.length - start if pool == self.last else self.pool
        slot = start + permute(inside - start, size, combine(self.seed, epoch, pool, 1))
        block = slot // self.block
        full = block < self.blocks  # the last, shorter block stays where it is
        block[full] = permute(block[full], self.blocks, combine(self.seed, epoch, 0, 2))
        return block * self.block + slot % self.block
