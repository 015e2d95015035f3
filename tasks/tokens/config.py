"""Configuration of `train_tokenizer` and `tokenize`: vocabulary, shards, mixture and packing."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator

from tasks.settings import StageConfig


class TokenizerConfig(StageConfig):
    """What decides a tokenizer. Another value here is the decision to make new ids."""

    vocab_size: int = Field(
        8192,
        title="Vocabulary",
        description="Entries of the tokenizer, the 256 bytes and the end-of-text token included, 257 to "
        "65,535 (ids are stored in 16 bits).",
        ge=257,
        le=65_535,
    )
    sample_megabytes: float = Field(
        32.0,
        title="Sample",
        description="Text the tokenizer is trained on at most, in megabytes of UTF-8, languages in the "
        "corpus's own shares, 0.01 to 10,000. Training takes about 25 times as much memory.",
        ge=0.01,
        le=10_000,
    )
    sample_seed: int = Field(
        0,
        title="Sample seed",
        description="Which documents the sample takes, 0 to 2,147,483,648.",
        ge=0,
        le=2**31,
    )
    min_frequency: int = Field(
        2,
        title="Least count",
        description="Times a pair must occur in the sample to be merged, 1 to 1,000,000.",
        ge=1,
        le=1_000_000,
    )
    split: Literal["cl100k", "gpt2"] = Field(
        "cl100k",
        title="Word split",
        description="Where merges end: cl100k as in GPT-4 (numbers in threes, newlines kept together), gpt2 "
        "as in GPT-2. Both let runs of Chinese merge freely.",
    )
    adopt: str = Field(
        "",
        title="Adopt",
        description="A folder with a tokenizer.json (or the file) to take as it is instead of training one; "
        "empty trains. What was first taken under a path stays: name another path to take a changed file.",
        max_length=4096,
    )


class MixtureConfig(StageConfig):
    """Which share of the training tokens each language or source has."""

    by: Literal["language", "source", "domain"] = Field(
        "language", title="Groups", description="What the weights name: languages, source files or domains."
    )
    weights: tuple[str, ...] = Field(
        (),
        title="Weights",
        description="Wanted share of each group, each as 'zh=0.5': above 0 to 1,000,000, scaled to a sum of "
        "1. '*=1' weighs all groups that are not named; without it they are left out. Empty takes the text "
        "as it is, each document once an epoch.",
    )
    max_repeats: float = Field(
        4.0,
        title="Most repeats",
        description="Times a group's text may come up in one epoch, 1 to 1,000. Up to 4 repeats are worth "
        "nearly as much as new text (Muennighoff et al. 2023).",
        ge=1,
        le=1000,
    )

    @field_validator("weights")
    @classmethod
    def _readable(cls, weights: tuple[str, ...]) -> tuple[str, ...]:
        names = [_weight_of(line)[0] for line in weights]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: named more than once")
        return weights

    @cached_property
    def by_group(self) -> dict[str, float]:
        """Weight by group; empty where the text is taken as it is."""
        return dict(map(_weight_of, self.weights))


def _weight_of(line: str) -> tuple[str, float]:
    """Group and weight of a line such as ``zh=0.5``; raises ValueError."""
    name, _, value = line.rpartition("=")
    try:
        weight = float(value)
    except ValueError:
        weight = 0.0
    if not name.strip() or not 0 < weight <= 1_000_000:
        raise ValueError(
            f"{line!r}: write group and weight as 'zh=0.5', the weight above 0 and at most 1,000,000; to "
            "drop a group leave it out"
        )
    return name.strip(), weight


class EncodingConfig(StageConfig):
    """How fast, and on how much of the machine; nothing here changes the ids."""

    workers: int = Field(
        0, title="Workers", description="Threads that encode; 0 takes every core. 0 to 256.", ge=0, le=256
    )
    engine: Literal["auto", "tokenizers"] = Field(
        "auto",
        title="Encoder",
        description="auto: fastokens where it is installed and agrees with tokenizers; tokenizers: only "
        "that.",
    )
    canary_kilobytes: int = Field(
        64,
        title="Canary",
        description="Text of each shard that is encoded by tokenizers as well and compared, in kilobytes of "
        "UTF-8, 1 to 1,000,000.",
        ge=1,
        le=1_000_000,
    )


class TokenizeConfig(TokenizerConfig):
    """The tokenizer, and how the corpus becomes shards of its ids."""

    shard_megatokens: float = Field(
        64.0,
        title="Shard size",
        description="Tokens in a shard at most, in millions, 0.001 to 1,000; each takes 2 bytes in memory "
        "while it is written.",
        ge=0.001,
        le=1000,
    )
    packed_length: int = Field(
        0,
        title="Packed length",
        description="Length in tokens of training sequences for which a best-fit packing plan is stored: "
        "sequences of whole documents, split only where longer, with next to no padding. 0 stores none, and "
        "sequences run on from document to document. 0 to 65,536.",
        ge=0,
        le=65_536,
    )
    mixture: MixtureConfig = Field(
        MixtureConfig(), title="Mixture", description="Shares of languages or sources."
    )
    encoding: EncodingConfig = Field(
        EncodingConfig(),
        title="Encoding",
        description="How the machine is used.",
        json_schema_extra={"affects_result": False},
    )

    @property
    def tokenizer(self) -> TokenizerConfig:
        """The part that decides the tokenizer, so that another mixture does not make another tokenizer."""
        return TokenizerConfig(**{name: getattr(self, name) for name in TokenizerConfig.model_fields})
