"""Complete configurations, each a function of the sources; a variant is a call and an assignment.

| preset | model | training | for |
|---|---|---|---|
| tiny | 2 layers, 256 wide | two minutes on two cores | a first look, tests of a set-up |
| small | 4 layers, 320 wide | thirteen minutes on two cores | a model that writes |
| gpt2-124m | GPT-2 as published | a GPU, 10 billion tokens | real corpora |
| gpt2-355m | GPT-2 medium as published | GPUs, 20 billion tokens | real corpora |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flows.config import PipelineConfig
from tasks.gpt.config import HeldOutConfig, ModelShape, OptimizerConfig, ScheduleConfig, TrainConfig
from tasks.text.config import CleanConfig
from tasks.text.documentation_config import documentation
from tasks.text.extract_config import ExtractConfig
from tasks.tokens.config import TokenizeConfig

DOCUMENTATION = ("pydoc:stdlib,numpy",)
"""A site that every Python serves itself, so that a first run needs no network."""


def cleaning(sources: Sequence[str]) -> CleanConfig:
    """The cleaning that suits the sources: documentation's limits for `pydoc:`, else the papers'."""
    return documentation() if all(source.startswith("pydoc:") for source in sources) else CleanConfig()


def extraction(sources: Sequence[str]) -> ExtractConfig:
    """How text is taken out of the sources: documentation's pages need no more than rules."""
    fast = all(source.startswith("pydoc:") for source in sources)
    return ExtractConfig(mode="fast" if fast else "best")


def tiny(sources: Sequence[str] = DOCUMENTATION) -> PipelineConfig:
    """The documentation that every Python serves, and two minutes of training."""
    return PipelineConfig(
        name="modelmill-tiny",
        sources=list(sources),
        extract=extraction(sources),
        clean=cleaning(sources),
        tokenize=TokenizeConfig(vocab_size=2048),
        train=TrainConfig(
            model=ModelShape(layers=2, heads=4, width=256, context=128),
            steps=1100,
            batch_sequences=8,
            optimizer=OptimizerConfig(embedding_lr=1e-2, vector_lr=1e-2),
            held_out=HeldOutConfig(every_steps=300, sequences=64),
        ),
    )


def small(sources: Sequence[str] = DOCUMENTATION) -> PipelineConfig:
    """The same text, a deeper model with twice the context, a quarter of an hour in all."""
    config = tiny(sources)
    train = config.train.model_copy(
        update={
            "model": ModelShape(layers=4, heads=5, width=320, context=256),
            "steps": 1400,
            "schedule": ScheduleConfig(warmup_steps=50),
        }
    )
    return config.model_copy(update={"name": "modelmill-small", "train": train})


def gpt2_124m(sources: Sequence[str] = DOCUMENTATION) -> PipelineConfig:
    """GPT-2's smallest published shape, for a corpus of billions of tokens and a GPU."""
    return PipelineConfig(
        name="gpt2-124m",
        sources=list(sources),
        extract=extraction(sources),
        clean=cleaning(sources),
        tokenize=TokenizeConfig(vocab_size=50_257, sample_megabytes=200),
        train=TrainConfig(
            model=ModelShape(layers=12, heads=12, width=768, context=1024),
            steps=19_000,
            batch_sequences=512,
            optimizer=OptimizerConfig(matrix_lr=2e-3, embedding_lr=2e-3, vector_lr=2e-3),
            schedule=ScheduleConfig(warmup_steps=250),
            held_out=HeldOutConfig(every_steps=250, sequences=256),
        ),
    )


def gpt2_355m(sources: Sequence[str] = DOCUMENTATION) -> PipelineConfig:
    """GPT-2 medium: wider and deeper, twice the tokens, and smaller steps, as wider models need."""
    config = gpt2_124m(sources)
    train = config.train.model_copy(
        update={
            "model": ModelShape(layers=24, heads=16, width=1024, context=1024),
            "steps": 38_000,
            "optimizer": OptimizerConfig(matrix_lr=1.5e-3, embedding_lr=1.5e-3, vector_lr=1.5e-3),
            "schedule": ScheduleConfig(warmup_steps=500),
        }
    )
    return config.model_copy(update={"name": "gpt2-355m", "train": train})


PRESETS: dict[str, Callable[..., PipelineConfig]] = {
    "tiny": tiny,
    "small": small,
    "gpt2-124m": gpt2_124m,
    "gpt2-355m": gpt2_355m,
}
