"""The training process: `python -m tasks.train_process SPEC.json`.

Ties the stored token shards and the loader to the trainer, and nothing else. The spec is a JSON object with
the fields of :class:`Spec`; everything the process has to tell goes into metrics files in its folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from storage.shard_cache import RemoteSet, ShardCache
from storage.token_shards import TokenSet, open_set
from tasks.gpt.config import TrainConfig
from tasks.gpt.supervisor import die_with_parent
from tasks.tokens import packed
from tasks.tokens.errors import ChangedDataError, TokensError
from tasks.tokens.loader import Loader, Stream, evenly_spaced
from tasks.tokens.packed import PackedLoader
from tasks.tokens.packing import Plan
from tasks.tokens.sampler import Order


class Spec(BaseModel):
    """What a training process is started with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: TrainConfig
    tokens: str
    """Folder with the token set, or its address in an object store."""
    tokenizer: Path
    """Folder with tokenizer.json."""
    folder: Path
    """Gets metrics, checkpoints and the model."""


AHEAD = 64
"""Batches whose shards are fetched before they are needed, where shards are fetched at all."""
GB = 10**9


def open_tokens(place: str, folder: Path, config: TrainConfig) -> TokenSet | RemoteSet:
    """The token set in a local folder, or in an object store and read through a cache in ``folder``.

    Each process of a training has a cache of its own, with its share of the disk that they may take. Raises
    TokensError where that does not hold a single shard.
    """
    if "://" not in place:
        return open_set(Path(place))
    rank, hardware = os.environ.get("LOCAL_RANK", "0"), config.hardware
    share = int(hardware.shard_cache_gb * GB / hardware.processes)
    tokens = RemoteSet(ShardCache(place, folder / f"shards-{rank}", share))
    largest = max((info.bytes for info in tokens.index.shards), default=0)
    if largest > share:
        raise TokensError(
            f"train.hardware.shard_cache_gb is {hardware.shard_cache_gb:g}, of which each of "
            f"{hardware.processes} processes gets its share, but a shard of {place} takes "
            f"{largest / GB:g} GB: set it to at least {largest * hardware.processes / GB:g}, better twenty "
            f"times that"
        )
    return tokens


class TokenBatches:
    """A token set's batches for one of several processes; packed sequences where the set has a plan.

    Raises TooLittleTextError, and ChangedDataError where the plan is for sequences of another length.
    """

    def __init__(self, tokens: TokenSet | RemoteSet, config: TrainConfig, rank: int, world: int) -> None:
        self._tokens, self._stretch = tokens, -1
        index, context = tokens.index, config.model.context
        _check_packing(tokens, context)
        streams = [Stream(tokens.group(group.name), group.repeats, group.name) for group in index.groups]
        self._loader: Loader | PackedLoader
        if index.plans:
            order = Order(context, config.batch_sequences, config.seed, index.digest, rank, world)
            plans = [Plan(*tokens.plan(info)) for info in index.plans]
            self._loader = PackedLoader(streams, plans, eos=index.eos, order=order)
        else:
            self._loader = Loader(
                streams,
                seq_len=context,
                global_batch=config.batch_sequences,
                seed=config.seed,
                manifest_digest=index.digest,
                rank=rank,
                world=world,
            )
        state = {name: value for name, value in self._loader.state().items() if name != "samples_seen"}
        self.identity = {**state, "batch_sequences": config.batch_sequences}

    def batch(self, index: int) -> tuple[np.ndarray, ...]:
        """This process's share of a global batch: inputs, targets and, where packed, documents."""
        stretch = index // AHEAD
        if isinstance(self._tokens, RemoteSet) and stretch != self._stretch:  # also where it was resumed
            self._tokens.prefetch(self._loader.upcoming(index, (stretch + 2) * AHEAD - index))
            self._stretch = stretch
        return self._loader.batch(index)

    def documents(self, index: int) -> list[str]:
        """Ids of the documents in a global batch, in order."""
        return self._loader.documents(index)


def _check_packing(tokens: TokenSet | RemoteSet, context: int) -> None:
    lengths = {info.length for info in tokens.index.plans}
    if lengths - {context}:
        raise ChangedDataError(
            f"the shards are packed into sequences of {min(lengths)} tokens, but train.model.context is "
            f"{context}: set tokenize.packed_length to {context}, or to 0 for text that runs on"
        )


def held_out_sequences(tokens: TokenSet | RemoteSet, config: TrainConfig) -> tuple[np.ndarray, ...]:
    """Held-out sequences to watch while training, laid out as training's are: as a batch of them all.

    There are none without a held-out set.
    """
    index, context, count = tokens.index, config.model.context, config.held_out.sequences
    ids = np.zeros(0, np.uint16) if tokens.held_out is None else tokens.held_out.ids
    if index.plans:
        return packed.held_out(ids, index.eos, context, count).arrays
    windows = evenly_spaced(ids, context, count)
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def main(spec_path: Path) -> int:
    """Train as the spec says; returns the exit status."""
    die_with_parent()
    from tasks.gpt import launch  # torch only after the process is tied to its parent

    spec = Spec.model_validate_json(spec_path.read_text(encoding="utf-8"))
    config = spec.config
    launch.become_torchrun(config.hardware.processes)
    tokens = open_tokens(spec.tokens, spec.folder, config)
    job = launch.Job(
        config=config,
        vocab_size=tokens.index.vocab_size,
        corpus_tokens=tokens.index.tokens,
        held_out=held_out_sequences(tokens, config),
        tokenizer=spec.tokenizer,
        folder=spec.folder,
        batches=lambda world: TokenBatches(tokens, config, world.rank, world.size),
    )
    return launch.train(job)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
