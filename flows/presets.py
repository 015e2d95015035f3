"""Complete configurations, each a function; a variant is a call and an assignment.

| preset | model | training | for |
|---|---|---|---|
| tiny | 2 layers, 256 wide | two minutes on two cores | a first look, tests of a set-up |
| small | 4 layers, 320 wide | fifteen minutes on two cores | a model that writes |
| gpt2-124m | GPT-2 as published | a GPU | real corpora |
"""

from __future__ import annotations

from collections.abc import Callable

from flows.config import PipelineConfig
from tasks.gpt.config import HeldOutConfig, ModelShape, OptimizerConfig, ScheduleConfig, TrainConfig
from tasks.text.config import CleanConfig, LinesConfig
from tasks.text.rules_config import FineWebConfig, RepetitionConfig
from tasks.tokens.config import TokenizeConfig


def reference_pages() -> CleanConfig:
    """Cleaning for reference documentation: signatures and tables are short lines that repeat.

    What repeats from page to page goes line by line in deduplication, so the rules against repetition
    within a page, made for web pages, would only cost the pages that document the most.
    """
    return CleanConfig(
        lines=LinesConfig(min_words_per_line=0),
        repetition=RepetitionConfig(enabled=False),
        fineweb=FineWebConfig(enabled=False),
    )


def tiny() -> PipelineConfig:
    """The documentation that every Python serves, and two minutes of training."""
    return PipelineConfig(
        name="modelmill-tiny",
        clean=reference_pages(),
        tokenize=TokenizeConfig(vocab_size=2048),
        train=TrainConfig(
            model=ModelShape(layers=2, heads=4, width=256, context=128),
            steps=900,
            batch_sequences=8,
            optimizer=OptimizerConfig(embedding_lr=1e-2, vector_lr=1e-2),
            held_out=HeldOutConfig(every_steps=300, sequences=64),
        ),
    )


def small() -> PipelineConfig:
    """The same text, a deeper model with twice the context, fifteen minutes of training."""
    config = tiny()
    train = config.train.model_copy(
        update={
            "model": ModelShape(layers=4, heads=5, width=320, context=256),
            "steps": 1600,
            "schedule": ScheduleConfig(warmup_steps=50),
        }
    )
    return config.model_copy(update={"name": "modelmill-small", "train": train})


def gpt2_124m() -> PipelineConfig:
    """GPT-2's smallest published shape, for a corpus of billions of tokens and a GPU."""
    return PipelineConfig(
        name="gpt2-124m",
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


PRESETS: dict[str, Callable[[], PipelineConfig]] = {"tiny": tiny, "small": small, "gpt2-124m": gpt2_124m}
