"""What the stage ``evaluate`` measures, and what the stage ``register`` lets become champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.evals.questions_config import HarnessConfig, TaskFilesConfig
from tasks.settings import StageConfig

PROMPTS = [
    "The ",
    "In this section, ",
    "Returns a ",
    "在本章中，",
    "如果你想",
]
"""Beginnings in both languages that no single source is likely to hold word for word."""


class HeldOutConfig(StageConfig):
    """Which part of the held-out documents is scored, and how."""

    max_documents: int = Field(
        2_000,
        title="Documents",
        description="Most held-out documents that are scored, the first by document id (a hash, so a fair "
        "sample), 1 to 1,000,000.",
        ge=1,
        le=1_000_000,
    )
    max_document_kilobytes: int = Field(
        64,
        title="Document size",
        description="A longer document is scored up to here, in kilobytes of UTF-8, 1 to 100,000.",
        ge=1,
        le=100_000,
    )
    max_megabytes: float = Field(
        1.0,
        title="Text",
        description="Most text that is scored in all, in megabytes of UTF-8, 0.001 to 10,000.",
        ge=0.001,
        le=10_000,
    )
    overlap: float = Field(
        0.5,
        title="Overlap",
        description="A document longer than the model's context is scored in windows; each repeats this "
        "share of the context, so that no token but the first ones has less context than that. 0 to 0.95.",
        ge=0,
        le=0.95,
    )
    domains: int = Field(
        20,
        title="Domains",
        description="How many domains, those with the most text, get a slice of their own, 0 to 1,000.",
        ge=0,
        le=1000,
    )


class BootstrapConfig(StageConfig):
    """How sure the figures are."""

    resamples: int = Field(
        1_000,
        title="Resamples",
        description="Bootstrap resamples of the documents, 100 to 100,000.",
        ge=100,
        le=100_000,
    )
    confidence: float = Field(
        0.95,
        title="Confidence",
        description="Two-sided confidence of the intervals, 0.5 to 0.999.",
        ge=0.5,
        le=0.999,
    )
    seed: int = Field(1, title="Seed", description="Of the resampling, 0 to 2,147,483,648.", ge=0, le=2**31)


class NgramConfig(StageConfig):
    """The baselines: interpolated Kneser-Ney models of the same training tokens."""

    max_tokens: int = Field(
        20_000_000,
        title="Tokens",
        description="Training tokens they are counted on at most (about 60 bytes of memory each), 1,000 to "
        "1,000,000,000.",
        ge=1_000,
        le=1_000_000_000,
    )


class SamplesConfig(StageConfig):
    """What the model writes, for people to read and for the leak audit."""

    prompts: list[str] = Field(
        PROMPTS,
        title="Prompts",
        description="Beginnings that the model goes on from; an empty one starts a document. At least one.",
        min_length=1,
        max_length=1_000,
    )
    per_prompt: int = Field(
        1, title="Samples", description="Samples for each prompt, 1 to 1,000.", ge=1, le=1_000
    )
    max_new_tokens: int = Field(
        64, title="Length", description="Most new tokens in a sample, 1 to 4,096.", ge=1, le=4_096
    )
    temperature: float = Field(
        0.8, title="Temperature", description="0 always takes the likeliest token, 0 to 10.", ge=0, le=10
    )
    top_k: int = Field(
        50,
        title="Top k",
        description="Only the k likeliest tokens; 0 takes all, 0 to 1,000,000.",
        ge=0,
        le=10**6,
    )
    top_p: float = Field(
        1.0,
        title="Top p",
        description="Only the likeliest tokens that together have this probability; 1 takes all, above "
        "0 to 1.",
        gt=0,
        le=1,
    )
    seed: int = Field(
        1,
        title="Seed",
        description="Of the first sample; the others count on, 0 to 2,147,483,648.",
        ge=0,
        le=2**31,
    )


class MemorizationConfig(StageConfig):
    """How much training text the model reproduces word for word."""

    windows: int = Field(
        200,
        title="Windows",
        description="Training windows drawn evenly, and held-out windows as many; 0 leaves the audit out, "
        "0 to 100,000.",
        ge=0,
        le=100_000,
    )
    repeated: int = Field(
        50,
        title="Repeated windows",
        description="Further windows: the ones that training text repeats most and held-out text does not "
        "have, 0 to 100,000.",
        ge=0,
        le=100_000,
    )
    prefix_tokens: int = Field(
        32,
        title="Prefix",
        description="Tokens of each window that the model is given, 1 to 1,024.",
        ge=1,
        le=1024,
    )
    continuation_tokens: int = Field(
        32,
        title="Continuation",
        description="Tokens that it must go on with exactly, at temperature 0, to count as extracted, 1 to "
        "1,024.",
        ge=1,
        le=1024,
    )
    copy_tokens: int = Field(
        32,
        title="Copy",
        description="So many tokens in a row of a sample that training text also has are a copy, 8 to 1,024.",
        ge=8,
        le=1024,
    )
    seed: int = Field(1, title="Seed", description="Of the drawing, 0 to 2,147,483,648.", ge=0, le=2**31)


class ScoringHardware(StageConfig):
    """How the machine is used: matters for speed alone."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", title="Device", description="auto takes a GPU where there is one."
    )
    batch_tokens: int = Field(
        8_192,
        title="Batch",
        description="Tokens scored at once, 64 to 10,000,000; a GPU takes 65,536 and more.",
        ge=64,
        le=10_000_000,
    )


class EvaluateConfig(StageConfig):
    """Everything that ``evaluate`` measures."""

    held_out: HeldOutConfig = Field(
        HeldOutConfig(), title="Held-out text", description="What bits per byte are measured on."
    )
    bootstrap: BootstrapConfig = Field(
        BootstrapConfig(), title="Bootstrap", description="The confidence intervals."
    )
    ngram: NgramConfig = Field(NgramConfig(), title="Baselines", description="The n-gram models.")
    samples: SamplesConfig = Field(SamplesConfig(), title="Samples", description="What the model writes.")
    memorization: MemorizationConfig = Field(
        MemorizationConfig(), title="Memorization", description="The audit for what it reproduces."
    )
    files: TaskFilesConfig = Field(
        TaskFilesConfig(), title="Questions", description="Minimal pairs and multiple choice from files."
    )
    lm_eval: HarnessConfig = Field(
        HarnessConfig(), title="Harness", description="Tasks of lm-evaluation-harness."
    )
    hardware: ScoringHardware = Field(
        ScoringHardware(),
        title="Hardware",
        description="How the machine is used.",
        json_schema_extra={"affects_result": False},
    )


class GatePolicy(StageConfig):
    """What a version must show to become champion. Every rule that fails is named as a reason."""

    baseline: Literal["none", "unigram", "bigram", "trigram"] = Field(
        "bigram",
        title="Baseline",
        description="The n-gram model that must be beaten in bits per byte; a broken training does not.",
    )
    margin: float = Field(
        0.0,
        title="Margin",
        description="By how many bits per byte the champion must be beaten, 0 to 10.",
        ge=0,
        le=10,
    )
    confidence: float = Field(
        0.95,
        title="Confidence",
        description="How sure the paired bootstrap over documents must be that the margin is reached, "
        "one-sided, 0.5 to 0.9999.",
        ge=0.5,
        le=0.9999,
    )
    min_documents: int = Field(
        5,
        title="Documents",
        description="Fewest held-out documents on which a model can be shown to be better, 2 to 1,000,000.",
        ge=2,
        le=10**6,
    )
    slices: list[Literal["language", "domain", "length"]] = Field(
        ["language"],
        title="Slices",
        description="Where it may not be worse than the champion: within each language, domain or length.",
    )
    slice_tolerance: float = Field(
        0.02,
        title="Slice tolerance",
        description="How many bits per byte worse still counts as no worse in a slice, 0 to 10.",
        ge=0,
        le=10,
    )
    slice_documents: int = Field(
        20,
        title="Slice size",
        description="Documents that a slice needs to be judged by itself, 1 to 1,000,000.",
        ge=1,
        le=10**6,
    )
    max_extractable: float = Field(
        0.05,
        title="Extractable",
        description="Largest share of evenly drawn training windows that the model may reproduce, above "
        "the share of held-out windows; 1 sets no bound, 0 to 1.",
        ge=0,
        le=1,
    )
    max_extractable_repeated: int = Field(
        0,
        title="Extractable, repeated",
        description="Most of the repeated training windows that it may reproduce; 100,000 sets no bound, 0 "
        "to 100,000.",
        ge=0,
        le=100_000,
    )
    max_sample_pii: int = Field(
        0,
        title="Personal data",
        description="Most matches of personal data that training text also has in the samples; 1,000,000 "
        "sets no bound, 0 to 1,000,000.",
        ge=0,
        le=10**6,
    )
    minimal_pairs: float = Field(
        0.0,
        title="Minimal pairs",
        description="Lowest accuracy on minimal pairs, where they are measured; 0 sets no bound, 0 to 1.",
        ge=0,
        le=1,
    )


class RegistryConfig(StageConfig):
    """What is registered, and when it is promoted."""

    gate: GatePolicy = Field(GatePolicy(), title="Gate", description="What a champion must show.")
    promote: bool = Field(
        True,
        title="Promote",
        description="Make the version champion where the gate holds; else it stays candidate for a person "
        "to promote.",
    )
    licence: str = Field(
        "",
        title="Licence",
        description="The model's licence for its card, as an SPDX name; empty says that none was given.",
        max_length=200,
    )
    data_licence: str = Field(
        "",
        title="Licence of the text",
        description="What is known of the sources' licences, for the card; empty says that none was given.",
        max_length=2_000,
    )
    notes: str = Field(
        "",
        title="Notes",
        description="Further words for the model card: intended use, limits.",
        max_length=20_000,
    )
