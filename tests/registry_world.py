"""A small world to register models in: a store with a corpus, and models that were really trained on it."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.artifacts import Artifact, Parent, Recipe
from storage.documents import PartWriter
from storage.schemas import DOCUMENTS
from storage.store import Draft, open_store
from storage.token_shards import TokenIndex, write_index, write_shard
from tasks.evals.config import (
    BootstrapConfig,
    EvaluateConfig,
    GatePolicy,
    MemorizationConfig,
    RegistryConfig,
    SamplesConfig,
)
from tasks.evaluation import evaluate
from tasks.gpt.export import save_hf
from tasks.gpt.model import GPT, GPTConfig
from tasks.registration import register
from tasks.tokens import bpe

NAMES, PLACES = ("Ada", "Bo", "Cy", "Di", "Ed"), ("mill", "river", "field", "bridge")
PEOPLE_ZH, PLACES_ZH = ("小明", "小红", "老王", "阿花"), ("磨坊", "河边", "田里", "桥上")
CONTEXT, VOCABULARY = 48, 320

EVALUATION = EvaluateConfig(
    bootstrap=BootstrapConfig(resamples=200),
    samples=SamplesConfig(prompts=["Ada ", "小明"], per_prompt=1, max_new_tokens=12),
    memorization=MemorizationConfig(windows=20, repeated=10, prefix_tokens=8, continuation_tokens=24),
)
LENIENT = RegistryConfig(
    gate=GatePolicy(baseline="unigram", slice_documents=5, max_extractable=1, max_extractable_repeated=10**5)
)


def documents(count: int, seed: int) -> list[dict[str, Any]]:
    """Made-up documents, a third of them Chinese; the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        chinese = i % 3 == 0
        people, places = (PEOPLE_ZH, PLACES_ZH) if chinese else (NAMES, PLACES)
        pattern = (
            "{0}和{1}在{2}，{1}去了{3}。" if chinese else "{0} and {1} met at the {2}; {1} went to the {3}. "
        )
        picks = [
            (rng.choice(people), rng.choice(people), rng.choice(places), rng.choice(places)) for _ in range(6)
        ]
        text = "".join(pattern.format(*pick) for pick in picks)
        name = f"{seed:04d}{i:060d}"
        row = {
            "doc_id": name,
            "url": f"https://{seed}.example/{i}",
            "domain": f"{seed}.example",
            "text": text,
        }
        rows.append(
            {**row, "source_file": "made.warc", "source_offset": i, "language": "zh" if chinese else "en"}
        )
    return rows


class World:
    """A store with a corpus in it, and models trained on that corpus."""

    def __init__(self) -> None:
        self.store = open_store()
        self.train_rows = documents(300, seed=1)
        self.tokenizer = bpe.train((row["text"] for row in self.train_rows), VOCABULARY)
        self.counter = itertools.count()
        self.heldout = self.make("hold_out", self._held_out)
        self.shards = self.make("tokenize", self._tokenize, self.heldout)

    def make(self, kind: str, work: Callable[[Path], dict[str, Any]], *parents: Artifact) -> Artifact:
        """An artifact of a kind, with what ``work`` writes into its folder."""
        recipe = Recipe(stage=kind, code={}, inputs={"number": next(self.counter)})
        links = tuple(Parent(kind=p.kind, key=p.key, digest=p.digest) for p in parents)

        def run(draft: Draft) -> dict[str, Any]:
            return work(draft.path)

        return self.store.make(recipe, links, run)

    def _held_out(self, folder: Path, seed: int = 2) -> dict[str, Any]:
        with PartWriter(folder / "heldout.parquet", DOCUMENTS) as writer:
            writer.write_all(documents(60, seed))
        return {"documents": 60}

    def _tokenize(self, folder: Path) -> dict[str, Any]:
        encoded = [e.ids for e in self.tokenizer.encode_batch([r["text"] for r in self.train_rows])]
        eos = bpe.eos_of(self.tokenizer)
        ids = np.concatenate([[*row, eos] for row in encoded]).astype(np.uint16)
        settings: dict[str, Any] = {
            "tokenizer": bpe.digest(self.tokenizer),
            "eos": eos,
            "vocab_size": VOCABULARY,
        }
        shard = write_shard(
            folder / "shard-00000.arrow",
            doc_ids=[r["doc_id"] for r in self.train_rows],
            urls=[r["url"] for r in self.train_rows],
            source_sha256=[bytes(32)] * len(encoded),
            ids=ids,
            offsets=np.concatenate([[0], np.cumsum([len(row) + 1 for row in encoded])]),
            **settings,
        )
        write_index(folder, TokenIndex(**settings, shards=(shard,), groups=()))
        self.ids = torch.from_numpy(ids.astype(np.int64))
        return {"documents": len(encoded), "tokens": len(ids)}

    def train(self, steps: int, *, rate: float = 3e-3, seed: int = 1) -> GPT:
        """A tiny model after so many steps on the world's shards."""
        model = GPT(GPTConfig(VOCABULARY, n_layer=1, n_head=2, n_embd=32, block_size=CONTEXT))
        model.init_weights(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            starts = torch.randint(len(self.ids) - CONTEXT - 1, (8,), generator=generator)
            window = self.ids[starts[:, None] + torch.arange(CONTEXT + 1)]
            loss = model(window[:, :-1], window[:, 1:])[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model

    def trained(self, model: GPT) -> Artifact:
        """A model as the artifact that training leaves."""

        def work(folder: Path) -> dict[str, Any]:
            bpe.save(self.tokenizer, folder / "tokenizer")
            save_hf(model, folder / "tokenizer", folder / "hf")
            return {"parameters": model.count_parameters(), "steps": 1, "tokens": 1}

        return self.make("pretrain", work, self.shards)

    def register(
        self, model: Artifact, heldout: Artifact | None = None, config: RegistryConfig = LENIENT
    ) -> dict[str, Any]:
        """Evaluate and register a model artifact; the statistics of the registration."""
        report = evaluate.run_now(model, self.shards, heldout or self.heldout, EVALUATION)
        return register.run_now("gated", model, report, self.shards, config).stats


@contextmanager
def world_in(home: Path) -> Iterator[World]:
    """A world in a home of its own, with MLflow's database there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELMILL_HOME", str(home))
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        for name in ("MODELMILL_STORE", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.delenv(name, raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the models are so small that a second thread only waits
        yield World()
        torch.set_num_threads(threads)
