"""Stages: a tokenizer from a sample of the corpus, and the corpus as shards of its ids."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts import Artifact
from storage.documents import count_rows, read_batches
from storage.token_shards import (
    GroupInfo,
    PlanInfo,
    ShardInfo,
    TokenIndex,
    open_shard,
    write_index,
    write_plan,
    write_shard,
)
from tasks.stage import StageRun, stage
from tasks.tokens import bpe, packing, vocabulary
from tasks.tokens import corpus as corpora
from tasks.tokens.config import MixtureConfig, TokenizeConfig, TokenizerConfig
from tasks.tokens.cutting import Cut, Cutter, Source
from tasks.tokens.encode import Encoder, Tokenizers, open_encoder
from tasks.tokens.errors import CanaryError, TooLittleTextError
from tasks.tokens.mixture import check_named, shares
from tasks.tokens.sample import choose, cut

BATCH_ROWS = 256
HELD_OUT = "heldout/heldout.arrow"
DONE = ".done"
"""Folder with one JSON file a finished shard; dropped at the commit."""
MEASURED_BYTES = 2**18
"""Text of each language on which a new tokenizer is measured."""


@stage("train_tokenizer", summary="Train a byte-level BPE tokenizer on a sample of the corpus")
def train_tokenizer(
    run: StageRun, corpus: Artifact, excluded: Artifact, config: TokenizerConfig
) -> dict[str, Any]:
    """Write the folder that AutoTokenizer loads.

    Raises TooLittleTextError where the corpus does not give the vocabulary asked for, TokenizerError where
    the tokenizer to adopt cannot be used.
    """
    folder, left_out = run.open(corpus), _excluded(run, excluded)
    budget = int(config.sample_megabytes * 1e6)
    chosen = choose(corpora.candidates(_texts(folder), left_out), budget, config.sample_seed)
    if config.adopt:
        tokenizer = bpe.load(Path(config.adopt))
    else:
        texts = (text for _, text in corpora.sampled(_texts(folder), chosen))
        tokenizer = bpe.train(
            texts, config.vocab_size, min_frequency=config.min_frequency, split=config.split
        )
    bpe.save(tokenizer, run.path)
    measured: dict[str, list[str]] = defaultdict(list)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for language, text in corpora.sampled(_texts(folder), chosen):
        size = len(text.encode())
        if counts[language]["bytes"] < MEASURED_BYTES:
            measured[language].append(cut(text, MEASURED_BYTES))
        counts[language].update(documents=1, bytes=size)
    return {
        "vocab_size": bpe.size_of(tokenizer),
        "tokenizer": bpe.digest(tokenizer),
        "adopted": config.adopt,
        "documents": len(chosen),
        "bytes": sum(chosen.values()),
        "languages": {name: dict(count) for name, count in sorted(counts.items())},
        "measured": vocabulary.measure(tokenizer, measured, halves=not config.adopt),
    }


@stage("tokenize", summary="Encode the corpus into shards of token ids", resumable=True)
def tokenize(
    run: StageRun,
    corpus: Artifact,
    heldout: Artifact,
    excluded: Artifact,
    tokenizer: Artifact,
    config: TokenizeConfig,
) -> dict[str, Any]:
    """Write training shards, the held-out shard, and the index that lists them.

    Raises TooLittleTextError where nothing is left to train on.
    """
    reference = bpe.load(run.open(tokenizer))
    encoder = open_encoder(reference, config.encoding.engine)
    work = (run.open(corpus), run.open(heldout), _excluded(run, excluded))
    try:
        result = _Tokenizing(run, encoder, bpe.digest(reference), config).all(*work)
    except CanaryError as error:
        encoder = Encoder(reference, Tokenizers(reference), str(error))
        result = _Tokenizing(run, encoder, bpe.digest(reference), config).all(*work)
    if encoder.reason:
        run.log.warning("encoded by tokenizers, which is slower: %s", encoder.reason)
    return {**result, "engine": encoder.engine.name, "engine_reason": encoder.reason}


class _Tokenizing:
    """One pass over the documents with one encoder."""

    def __init__(self, run: StageRun, encoder: Encoder, tokenizer: str, config: TokenizeConfig) -> None:
        self.run, self.encoder, self.tokenizer, self.config = run, encoder, tokenizer, config
        self.vocab_size = encoder.vocab_size
        self.skipped: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.shards: list[ShardInfo] = []

    def all(self, corpus: Path, heldout: Path, left_out: frozenset[str]) -> dict[str, Any]:
        """Write everything; returns the stage's statistics."""
        self._check_mixture(corpus, left_out)
        held_out, held_out_counts = self._held_out(heldout)
        self._training(corpus, left_out)
        if not self.shards:
            raise TooLittleTextError(
                f"no document is left to train on: of {sum(self.skipped.values()):,}, "
                f"{self.skipped['excluded']:,} are held out or repeat what is, {self.skipped['empty']:,} are "
                f"empty and {self.skipped['not_in_mixture']:,} are outside tokenize.mixture. Add sources"
            )
        groups = self._groups()
        index = TokenIndex(
            tokenizer=self.tokenizer,
            vocab_size=self.vocab_size,
            eos=self.encoder.eos,
            shards=tuple(self.shards),
            groups=tuple(groups),
            held_out=held_out,
            plans=tuple(self._plan(number, group.name) for number, group in enumerate(groups))
            if self.config.packed_length
            else (),
        )
        write_index(self.run.path, index)
        self.run.rows.update({shard.name: shard.documents for shard in self.shards})
        return {
            **corpora.summary(self.counts),
            "shards": len(self.shards),
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer,
            "held_out": corpora.summary(held_out_counts),
            "skipped": dict(sorted(self.skipped.items())),
            "packing": [plan.model_dump() for plan in index.plans],
            "mixture": [group.model_dump() for group in groups] if self.config.mixture.weights else [],
        }

    def _check_mixture(self, corpus: Path, left_out: frozenset[str]) -> None:
        """Before hours of encoding, whether there is what the weights name."""
        mixture = self.config.mixture
        if mixture.weights:
            columns = ["doc_id", corpora.GROUP_COLUMN[mixture.by]]
            batches = _batches(_parts(corpus), columns)
            check_named(corpora.documents_by_group(batches, left_out, mixture), mixture)

    def _training(self, corpus: Path, left_out: frozenset[str]) -> None:
        parts = _parts(corpus)
        cutter = Cutter(int(self.config.shard_megatokens * 1e6), self._sample_bytes)
        done = self._take_up()
        batches = _batches(parts, corpora.columns(self.config.mixture))
        sources = corpora.sources(batches, left_out, self.config.mixture, self.skipped)
        fresh = corpora.skip(_counted(sources, self.run, sum(map(count_rows, parts))), done)
        for document in corpora.encoded(self.encoder, fresh, self.config.encoding.workers):
            if full := cutter.add(document):
                self._write(full)
        for last in cutter.rest():
            self._write(last)

    def _held_out(self, folder: Path) -> tuple[ShardInfo | None, Mapping[str, Counter[str]]]:
        cutter = Cutter(2**31 - 1, self._sample_bytes)
        plain = MixtureConfig()
        batches = _batches([folder / "heldout.parquet"], corpora.columns(plain))
        sources = corpora.sources(batches, frozenset(), plain, Counter())
        for document in corpora.encoded(self.encoder, sources, self.config.encoding.workers):
            cutter.add(document)
        for whole in cutter.rest():
            info = self._shard(HELD_OUT, whole)
            self.run.rows[HELD_OUT] = info.documents
            return info, whole.counts
        return None, {}

    def _write(self, full: Cut) -> None:
        """Check, write and note down one shard."""
        info = self._shard(f"shard-{len(self.shards):05d}.arrow", full)
        note = {"engine": self.encoder.engine.name, "shard": info.model_dump(), "counts": full.counts}
        place = self.run.path / DONE / f"{info.name}.json"
        place.parent.mkdir(exist_ok=True)
        place.with_suffix(".partial").write_text(json.dumps(note), encoding="utf-8")
        place.with_suffix(".partial").rename(place)
        self._count(info, full.counts)

    def _shard(self, name: str, full: Cut) -> ShardInfo:
        self.encoder.check(full.samples)
        doc_ids, urls, digests = zip(*full.documents, strict=True)
        info = write_shard(
            self.run.path / name,
            doc_ids=doc_ids,
            urls=urls,
            source_sha256=digests,
            ids=full.ids,
            offsets=full.offsets,
            tokenizer=self.tokenizer,
            eos=self.encoder.eos,
            vocab_size=self.vocab_size,
            group=full.group,
        )
        return info.model_copy(update={"name": name})

    def _count(self, info: ShardInfo, counts: Mapping[str, Mapping[str, int]]) -> None:
        self.shards.append(info)
        for language, count in counts.items():
            self.counts[language].update(count)

    def _take_up(self) -> Counter[str]:
        """Count what an earlier attempt finished with this encoder, in order: documents done by group."""
        done: Counter[str] = Counter()
        for index in range(len(list((self.run.path / DONE).glob("*.json")))):
            name = f"shard-{index:05d}.arrow"
            try:
                note = json.loads((self.run.path / DONE / f"{name}.json").read_text(encoding="utf-8"))
                info = ShardInfo(**note["shard"])
                whole = (self.run.path / name).stat().st_size == info.bytes
            except (OSError, ValueError, KeyError):
                break
            if not whole or note["engine"] != self.encoder.engine.name:
                break
            self._count(info, note["counts"])
            done[info.group] += info.documents
        for later in [*self.run.path.glob("shard-*"), *(self.run.path / DONE).glob("*")]:
            if int(later.name[6:11]) >= len(self.shards):
                later.unlink()
        return done

    def _groups(self) -> list[GroupInfo]:
        tokens: Counter[str] = Counter()
        for shard in self.shards:
            tokens[shard.group] += shard.tokens
        found = shares(tokens, self.config.mixture)
        return [GroupInfo(name=s.name, tokens=s.tokens, repeats=s.repeats, share=s.share) for s in found]

    def _plan(self, number: int, group: str) -> PlanInfo:
        """Pack one group's documents and keep the plan."""
        length, name = self.config.packed_length, f"packing/{number:05d}.arrow"
        names = [shard.name for shard in self.shards if shard.group == group]
        lengths = [np.diff(open_shard(self.run.path / name).offsets) for name in names]
        plan = packing.plan(np.concatenate(lengths), length)
        write_plan(self.run.path / name, plan.starts, plan.lengths, plan.offsets)
        self.run.rows[name] = plan.sequences
        padding = round(plan.padding(length), 6)
        return PlanInfo(name=name, group=group, length=length, sequences=plan.sequences, padding=padding)

    @property
    def _sample_bytes(self) -> int:
        return self.config.encoding.canary_kilobytes * 1000


def _counted(sources: Iterable[list[Source]], run: StageRun, total: int) -> Iterator[list[Source]]:
    """Report how many documents went by."""
    seen = 0
    for batch in sources:
        yield batch
        seen += len(batch)
        run.progress(seen, total, "documents")
    run.progress(total, total, "documents")


def _excluded(run: StageRun, excluded: Artifact) -> frozenset[str]:
    batches = read_batches(run.open(excluded) / "excluded.parquet", ["doc_id"], 65536)
    return frozenset(name for batch in batches for name in batch["doc_id"].to_pylist())


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _batches(parts: Iterable[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for part in parts:
        yield from read_batches(part, columns, BATCH_ROWS)


def _texts(folder: Path) -> Iterator[pa.RecordBatch]:
    return _batches(_parts(folder), ["doc_id", "language", "text"])
