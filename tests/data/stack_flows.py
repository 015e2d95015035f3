"""A small flow with the shape of the real one, for tests of the stack that runs it."""

import time
from typing import Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from flows.announcements import announce
from flows.deployments import Spec
from flows.stack_options import StackOptions
from storage.store import open_store


class TrainConfig(BaseModel):
    """How long it pretends to work."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(0.1, title="Seconds", description="Seconds to sleep, 0 to 600.", ge=0, le=600)
    kind: Literal["muon", "adamw"] = Field("muon", title="Optimizer", description="Which optimizer it names.")


class MiniConfig(BaseModel):
    """The flow's whole configuration."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("mini", title="Model name", description="Name of the model; `fail` makes the run fail.")
    sources: list[str] = Field(["a"], title="Sources", description="Where the text comes from.", min_length=1)
    train: TrainConfig = Field(TrainConfig(), title="Train", description="The training.")


@flow(name="mini")
def mini(config: MiniConfig) -> str:
    """Leaves a note in the store, sleeps, announces a model, and gives its name."""
    open_store().write_note(f"refs/{config.name}", {"seconds": config.train.seconds})
    time.sleep(config.train.seconds)
    if config.name == "fail":
        raise ValueError('the run was told to "fail"')
    announce("promoted", config.name, 1, ["it is the first"])
    announce("refused", config.name, 2, ["worse by 0.1 bits per byte", 'and "quotes"'])
    return config.name


def specs(options: StackOptions) -> list[Spec]:
    """Both kinds of deployment."""
    parameters = {"config": MiniConfig().model_dump(mode="json")}
    return [
        Spec("on-demand", "stack_flows.mini", "By hand.", parameters, options.runs_at_once, "ENQUEUE"),
        Spec("nightly", "stack_flows.mini", "By night.", parameters, 1, "CANCEL_NEW", scheduled=True),
    ]
