"""Batches of packed sequences: what :class:`tasks.tokens.loader.Loader` is for text that runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.tokens import packing
from tasks.tokens.loader import spaced
from tasks.tokens.packing import Plan
from tasks.tokens.sampler import Order, Sampler
from tasks.tokens.streams import ArrayShard, Ids, Run, Stream

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PackedBatch:
    """Packed sequences, (B, T) each; places without a token have the end-of-text id as input and target."""

    inputs: Ints
    targets: Ints
    pieces: NDArray[np.int32]
    """Which piece of its sequence each place belongs to, from 0; -1 where there is none. Attention within
    documents is where two places have the same number."""

    @property
    def arrays(self) -> tuple[Ints, Ints, NDArray[np.int32]]:
        """What a trainer takes."""
        return self.inputs, self.targets, self.pieces


class PackedLoader:
    """Global batches of packed sequences, of which this rank gets its slice; in order as a Loader's."""

    def __init__(self, streams: Sequence[Stream], plans: Sequence[Plan], *, eos: int, order: Order) -> None:
        """Raises as :class:`tasks.tokens.loader.Loader` does."""
        self.order, self.eos = order, eos
        self._runs = [Run(stream) for stream in streams]
        self._plans = list(plans)
        self._sampler = Sampler(
            [plan.sequences for plan in plans],
            [stream.repeats for stream in streams],
            sum(run.tokens for run in self._runs),
            order,
            [stream.name for stream in streams],
        )

    @property
    def sequences(self) -> int:
        """Sequences in an epoch."""
        return self._sampler.sequences

    @property
    def tokens(self) -> int:
        """Places for tokens in an epoch, padding included."""
        return self.sequences * self.order.seq_len

    def batch(self, index: int) -> tuple[Ints, Ints, NDArray[np.int32]]:
        """Inputs, targets and pieces, (B, T) each: what a trainer takes."""
        return self.packed(index).arrays

    def packed(self, index: int) -> PackedBatch:
        """This rank's slice of global batch ``index`` with its documents' places."""
        numbers, streams = (array.tolist() for array in self._sampler.mine(index))
        batch = _empty(len(numbers), self.order.seq_len, self.eos)
        for row, (number, stream) in enumerate(zip(numbers, streams, strict=True)):
            _fill(batch, row, self._runs[stream], _pieces(self._plans[stream], number))
        return batch

    def documents(self, index: int) -> list[str]:
        """Identities of the documents in global batch ``index``, each once, over all ranks."""
        found: dict[str, None] = {}
        for number, stream in zip(*(array.tolist() for array in self._sampler.all(index)), strict=True):
            for start, length in _pieces(self._plans[stream], number):
                found |= dict.fromkeys(self._runs[stream].documents(start, length))
        return list(found)

    def upcoming(self, index: int, batches: int) -> list[tuple[int, int]]:
        """Which (stream, shard) global batches ``index`` to ``index + batches`` - 1 read, of all ranks."""
        numbers, streams = self._sampler.all(index, batches)
        found: list[tuple[int, int]] = []
        for which, (run, plan) in enumerate(zip(self._runs, self._plans, strict=True)):
            spans = [
                np.arange(plan.offsets[n], plan.offsets[n + 1]) for n in numbers[streams == which].tolist()
            ]
            pieces = np.concatenate(spans) if spans else np.zeros(0, np.int64)
            # With the token before it, which is a piece's first input where a document goes on.
            before = np.minimum(plan.starts[pieces], 1)
            places, widths = plan.starts[pieces] - before, plan.lengths[pieces] + before
            found += [(which, shard) for shard in run.touched(places, widths)]
        return found

    def state(self) -> dict[str, Any]:
        """As a Loader's."""
        return self._sampler.state()

    def restore(self, state: dict[str, Any]) -> int:
        """As a Loader's."""
        return self._sampler.restore(state)


def held_out(ids: Ids, eos: int, seq_len: int, count: int) -> PackedBatch:
    """At most ``count`` of the sequences that documents are packed into, evenly spaced; perhaps none.

    For held-out losses: the same sequences each time. ``ids`` are the documents' tokens one after another,
    each with the end-of-text id at its end.
    """
    ends = np.flatnonzero(ids == eos) + 1
    plan = packing.plan(np.diff(ends, prepend=0), seq_len)
    chosen, run = spaced(plan.sequences, count), Run(Stream([ArrayShard(ids)]))
    batch = _empty(len(chosen), seq_len, eos)
    for row, number in enumerate(chosen):
        _fill(batch, row, run, _pieces(plan, number))
    return batch


def _empty(sequences: int, seq_len: int, eos: int) -> PackedBatch:
    shape = (sequences, seq_len)
    return PackedBatch(
        np.full(shape, eos, np.int64), np.full(shape, eos, np.int64), np.full(shape, -1, np.int32)
    )


def _pieces(plan: Plan, number: int) -> list[tuple[int, int]]:
    """Where each piece of a sequence starts in its run of tokens, and how long it is."""
    pieces = slice(int(plan.offsets[number]), int(plan.offsets[number + 1]))
    return list(zip(plan.starts[pieces].tolist(), plan.lengths[pieces].tolist(), strict=True))


def _fill(batch: PackedBatch, row: int, run: Run, pieces: Sequence[tuple[int, int]]) -> None:
    place = 0
    for nth, (start, length) in enumerate(pieces):
        tokens = run.piece(start, length)
        places = slice(place, place + length)
        batch.targets[row, places] = tokens
        batch.inputs[row, place + 1 : place + length] = tokens[:-1]
        if start:
            batch.inputs[row, place] = run.piece(start - 1, 1)[0]
        batch.pieces[row, places] = nth
        place += length
