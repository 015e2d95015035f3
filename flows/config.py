"""The whole pipeline's configuration: the stages' configurations put together."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.evals.config import EvaluateConfig, RegistryConfig
from tasks.gpt.config import TrainConfig
from tasks.settings import StageConfig
from tasks.text.config import CleanConfig
from tasks.text.dedup_config import DeduplicateConfig, HoldOutConfig
from tasks.text.extract_config import ExtractConfig
from tasks.tokens.config import TokenizeConfig
from tasks.web.config import IngestConfig

KEYS_OF_STAGES = {
    "fetch": {"config": "ingest.crawl"},
    "ingest": {"config": "ingest", "extraction": "extract"},
    "clean": {"config": "clean"},
    "deduplicate": {"config": "deduplicate"},
    "hold_out": {"config": "hold_out"},
    "exclude": {"config": "hold_out"},
    "train_tokenizer": {"config": "tokenize"},
    "tokenize": {"config": "tokenize"},
    "pretrain": {"config": "train", "base": "train.init_from"},
    "evaluate": {"config": "evaluate"},
    "register": {"config": "registry", "name": "name"},
}
"""Under which key of the configuration each argument of a stage stands that comes from there."""


class RunConfig(StageConfig):
    """How a run uses the machine or the cluster; nothing here changes what comes out."""

    task_runner: Literal["threads", "ray", "dask"] = Field(
        "threads",
        title="Task runner",
        description="Where mapped parts run: threads of this process, or a Ray or Dask cluster "
        "(install modelmill[ray] or modelmill[dask]).",
    )
    address: str = Field(
        "",
        title="Cluster address",
        description="Address of the Ray or Dask cluster; empty starts a local one.",
    )
    parts_at_once: int = Field(
        2,
        title="Parts at once",
        description="Parts that are worked on at the same time, 1 to 1024.",
        ge=1,
        le=1024,
    )
    max_failed_parts: float = Field(
        0.0,
        title="Most failed parts",
        description="Share of a stage's parts that may fail while the run goes on without them, 0 to 1.",
        ge=0,
        le=1,
    )


class ModelName(StageConfig):
    """Whose corpus, model and versions are meant."""

    name: str = Field(
        "modelmill",
        title="Model name",
        description="Name of the registered model: models:/NAME@champion. Letters, digits, '.', '_' and '-', "
        "1 to 64 of them.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )


class Gathering(ModelName):
    """From sources to a corpus."""

    sources: list[str] = Field(
        ["pydoc:stdlib,numpy"],
        title="Sources",
        description="Where the text comes from: a path or glob, https://…/file.warc.gz, s3://…, "
        "crawl:https://site/, hf://dataset, cc://CC-MAIN-…?files=10, pydoc:stdlib,numpy. At least one. "
        "Extract and Clean are filled in for the sources that stand here; for pages of the web choose the "
        "mode best.",
        min_length=1,
    )
    lineage: str = Field(
        "",
        title="Lineage",
        description="Runs that share this name share a frozen tokenizer and a frozen held-out set, so that "
        "their models can be compared. Empty: the model's name and its sources.",
        max_length=200,
    )
    ingest: IngestConfig = Field(
        IngestConfig(), title="Ingest", description="How sources are fetched and read."
    )
    extract: ExtractConfig = Field(
        ExtractConfig(), title="Extract", description="How the main text is taken out of pages."
    )
    clean: CleanConfig = Field(
        CleanConfig(), title="Clean", description="Which documents and lines are kept."
    )
    deduplicate: DeduplicateConfig = Field(
        DeduplicateConfig(),
        title="Deduplicate",
        description="What counts as a duplicate, and which one stays.",
    )

    @property
    def scope(self) -> str:
        """The lineage's name: what is frozen is frozen under it."""
        return self.lineage or " ".join([self.name, *self.sources])


class Learning(StageConfig):
    """From a corpus to a model."""

    hold_out: HoldOutConfig = Field(
        HoldOutConfig(),
        title="Hold out",
        description="Which documents are kept from training, to evaluate on.",
    )
    tokenize: TokenizeConfig = Field(
        TokenizeConfig(), title="Tokenize", description="The tokenizer and the token shards."
    )
    train: TrainConfig = Field(TrainConfig(), title="Train", description="The model and its training.")

    @model_validator(mode="after")
    def _packed_as_long_as_the_context(self) -> Self:
        packed, context = self.tokenize.packed_length, self.train.model.context
        if packed not in (0, context):
            raise ValueError(
                f"tokenize.packed_length: sequences of {packed} tokens do not fit a train.model.context of "
                f"{context}: set one to the other's value, or packed_length to 0 for text that runs on"
            )
        return self


class Judging(StageConfig):
    """From a model to a registered version."""

    evaluate: EvaluateConfig = Field(EvaluateConfig(), title="Evaluate", description="What is measured.")
    registry: RegistryConfig = Field(
        RegistryConfig(), title="Register", description="What becomes candidate, and what champion."
    )


class Placed(StageConfig):
    """Where it runs."""

    run: RunConfig = Field(
        RunConfig(),
        title="Run",
        description="How the machine or the cluster is used.",
        json_schema_extra={"affects_result": False},
    )


# Fields are in the order of the bases from last to first, which is the data's order.
class PipelineConfig(Placed, Judging, Learning, Gathering):
    """Web text in, a registered model out: every choice of a run."""


class CorpusConfig(Placed, Gathering):
    """Sources in, a corpus out: the first half of the pipeline."""


HasSources = PipelineConfig | CorpusConfig
"""What the first half of the pipeline takes."""


class TrainingChoice(ModelName):
    """Which corpus is trained on."""

    corpus: str = Field(
        "",
        title="Corpus",
        description="Corpus to train on, as deduplicate/KEY or the start of one. Empty: that of the latest "
        "run of this name.",
        max_length=200,
    )


class TrainingConfig(Placed, Learning, TrainingChoice):
    """A corpus in, a model out: the second half of the pipeline, up to its evaluation."""


class EvaluationChoice(ModelName):
    """Which model is evaluated, and whether it is registered."""

    model: str = Field(
        "",
        title="Model",
        description="Model to evaluate: models:/NAME@champion, models:/NAME/3, or pretrain/KEY. Empty: the "
        "last that a run of this name has trained.",
        max_length=200,
    )
    into_registry: bool = Field(
        True,
        title="Register",
        description="Register the model under its name, where the gate decides whether it becomes champion; "
        "off only measures.",
    )


class EvaluationConfig(Placed, Judging, EvaluationChoice):
    """A model in, its report and perhaps a registered version out: the end of the pipeline."""
