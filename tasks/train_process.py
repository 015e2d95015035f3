"""The training process: `python -m tasks.train_process SPEC.json`.

Ties the stored token shards and the loader to the trainer, and nothing else. The spec is a JSON object with
the fields of :class:`Spec`; everything the process has to tell goes into metrics files in its folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from storage.token_shards import ShardView, open_shard
from tasks.gpt.config import TrainConfig
from tasks.gpt.supervisor import die_with_parent
from tasks.tokens.loader import Loader, Stream


class Spec(BaseModel):
    """What a training process is started with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: TrainConfig
    shards: list[Path]
    held_out: list[Path]
    shards_digest: str
    """Content digest of the shards' artifact: a loader refuses to go on over others."""
    tokenizer: Path
    folder: Path


def main(spec_path: Path) -> int:
    """Train as the spec says; returns the exit status."""
    spec = Spec.model_validate_json(spec_path.read_text(encoding="utf-8"))
    die_with_parent()
    from tasks.gpt import launch  # torch only after the process is tied to its parent

    launch.become_torchrun(spec.config.hardware.processes)
    shards = [open_shard(path) for path in spec.shards]
    config = spec.config
    job = launch.Job(
        config=config,
        vocab_size=shards[0].vocab_size,
        corpus_tokens=sum(len(shard.ids) for shard in shards),
        held_out=held_out_windows(
            [open_shard(path) for path in spec.held_out], config.held_out.sequences, config.model.context
        ),
        tokenizer=spec.tokenizer,
        folder=spec.folder,
        batches=lambda world: ShardBatches(spec, shards, world.rank, world.size),
    )
    return launch.train(job)


class ShardBatches:
    """The loader's batches, and which documents are in one."""

    def __init__(self, spec: Spec, shards: list[ShardView], rank: int, world: int) -> None:
        self._loader = Loader(
            [Stream(shards)],
            seq_len=spec.config.model.context,
            global_batch=spec.config.batch_sequences,
            seed=spec.config.seed,
            manifest_digest=spec.shards_digest,
            rank=rank,
            world=world,
        )

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of this process's share of a global batch."""
        return self._loader.batch(index)

    def documents(self, index: int) -> list[str]:
        """Ids of the documents in a global batch, in order."""
        return self._loader.documents(index)


def held_out_windows(shards: list[ShardView], count: int, context: int) -> np.ndarray:
    """Up to ``count`` windows of context + 1 tokens, evenly spaced over the held-out text, int64."""
    ids = np.concatenate([shard.ids for shard in shards]) if shards else np.zeros(0, np.uint16)
    available = len(ids) // (context + 1)
    count = min(count, available)
    if not count:
        return np.zeros((0, context + 1), np.int64)
    starts = np.linspace(0, len(ids) - context - 1, count).astype(np.int64)
    windows: np.ndarray = ids[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    return windows


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
