"""Which deployments there are: name, flow, parameters and limits of each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel

from flows.stack_options import StackOptions

if TYPE_CHECKING:
    from prefect import Flow

    from flows.config import PipelineConfig

THREE_AT_NIGHT = "0 3 * * *"
NIGHTLY = "nightly"
"""The schedule's name within its deployment."""


@dataclass(frozen=True)
class Spec:
    """A deployment."""

    name: str
    entrypoint: str
    """``package.module.function``: an import, so that nothing depends on where a file lies."""
    description: str
    parameters: dict[str, Any]
    limit: int
    """Runs of this deployment at once."""
    collision: Literal["ENQUEUE", "CANCEL_NEW"]
    """What becomes of a run over the limit."""
    tags: list[str] = field(default_factory=lambda: ["modelmill"])
    scheduled: bool = False
    one_click: bool = True
    """Whether Quick run starts it at once; else it opens the form first."""

    @property
    def flow(self) -> Flow[..., Any]:
        """The flow itself; imports its module."""
        module, _, name = self.entrypoint.rpartition(".")
        return cast("Flow[..., Any]", getattr(importlib.import_module(module), name))

    @property
    def full_name(self) -> str:
        """As the Prefect pages and ``prefect deployment run`` call it."""
        return f"{self.flow.name}/{self.name}"


def pipeline_specs(options: StackOptions) -> list[Spec]:
    """The pipeline's deployments, their parameters from the options' preset and file."""
    from flows.loading import load_config

    config = load_config(options.preset, Path(options.config) if options.config else None)
    parameters = {"config": config.model_dump(mode="json")}
    return [
        Spec(
            "on-demand",
            "flows.pipeline.pipeline",
            "Web text in, a registered language model out. Press Run: the values below are complete as they "
            "are. What has not changed since an earlier run is taken from the store.",
            parameters,
            limit=options.runs_at_once,
            collision="ENQUEUE",
        ),
        Spec(
            NIGHTLY,
            "flows.pipeline.pipeline",
            "The same every night. While one runs, the next is cancelled: it would find nothing that the "
            "first does not make. The parameters are the whole configuration; a schedule's replace them.",
            parameters,
            limit=1,
            collision="CANCEL_NEW",
            tags=["modelmill", "nightly"],
            scheduled=True,
        ),
        *_steps(config),
        *_operations(config.name),
    ]


def _steps(config: PipelineConfig) -> list[Spec]:
    """The pipeline's stretches, each with its part of the whole configuration."""
    from flows.config import CorpusConfig, EvaluationConfig, TrainingConfig

    def spec(function: str, kind: type[BaseModel], description: str) -> Spec:
        shared = {name: getattr(config, name) for name in kind.model_fields if hasattr(config, name)}
        parameters = {"config": kind.model_validate(shared).model_dump(mode="json")}
        return Spec("on-demand", f"flows.steps.{function}", description, parameters, 1, "ENQUEUE")

    return [
        spec("ingest_and_clean", CorpusConfig, "Sources in, a corpus out: the first half of the pipeline."),
        spec("train", TrainingConfig, "The latest corpus (or another) in, a model out, not yet evaluated."),
        spec("evaluate_model", EvaluationConfig, "The latest model (or another) measured, then registered."),
    ]


def _operations(model: str) -> list[Spec]:
    from flows.operations import PromoteConfig, RollBackConfig, UpkeepConfig

    def spec(name: str, function: str, config: BaseModel, description: str, one_click: bool = False) -> Spec:
        parameters, entrypoint = {"config": config.model_dump(mode="json")}, f"flows.operations.{function}"
        return Spec(name, entrypoint, description, parameters, 1, "ENQUEUE", one_click=one_click)

    return [
        spec(
            "by-hand",
            "promote_version",
            PromoteConfig(name=model),
            "Makes a version champion, whatever the gate said.",
        ),
        spec("by-hand", "roll_back", RollBackConfig(name=model), "Makes the former champion champion again."),
        spec(
            "store",
            "upkeep",
            UpkeepConfig(),
            "Hashes the store; lists, or deletes, what nothing needs.",
            one_click=True,
        ),
    ]
