"""Batches of packed sequences: what :class:`tasks.tokens.loader.Loader` is for text that runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.tokens.packing import Plan
from tasks.tokens.sampler import Order, Sampler
from tasks.tokens.streams import Run, Stream

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PackedBatch:
    """Packed sequences, (B, T) each; places without a token have the end-of-text id as input and target."""

    inputs: Ints
    targets: Ints
    pieces: NDArray[np.int32]
    """Which piece of its sequence each place belongs to, from 0; -1 where there is none. Attention within
    documents is where two places have the same number."""


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
        packed = self.packed(index)
        return packed.inputs, packed.targets, packed.pieces

    def packed(self, index: int) -> PackedBatch:
        """This rank's slice of global batch ``index`` with its documents' places."""
        numbers, streams = (array.tolist() for array in self._sampler.mine(index))
        shape = (len(numbers), self.order.seq_len)
        batch = PackedBatch(
            np.full(shape, self.eos, np.int64),
            np.full(shape, self.eos, np.int64),
            np.full(shape, -1, np.int32),
        )
        for row, (number, stream) in enumerate(zip(numbers, streams, strict=True)):
            self._fill(batch, row, stream, number)
        return batch

    def documents(self, index: int) -> list[str]:
        """Identities of the documents in global batch ``index``, each once, over all ranks."""
        found: dict[str, None] = {}
        for number, stream in zip(*(array.tolist() for array in self._sampler.all(index)), strict=True):
            for start, length in self._pieces(stream, number):
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

    def _fill(self, batch: PackedBatch, row: int, stream: int, number: int) -> None:
        place = 0
        for nth, (start, length) in enumerate(self._pieces(stream, number)):
            tokens = self._runs[stream].piece(start, length)
            places = slice(place, place + length)
            batch.targets[row, places] = tokens
            batch.inputs[row, place + 1 : place + length] = tokens[:-1]
            if start:
                batch.inputs[row, place] = self._runs[stream].piece(start - 1, 1)[0]
            batch.pieces[row, places] = nth
            place += length

    def _pieces(self, stream: int, number: int) -> list[tuple[int, int]]:
        plan = self._plans[stream]
        pieces = slice(int(plan.offsets[number]), int(plan.offsets[number + 1]))
        return list(zip(plan.starts[pieces].tolist(), plan.lengths[pieces].tolist(), strict=True))
