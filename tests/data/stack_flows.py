"""A small flow with the shape of the real one, for tests of the stack that runs it."""

import time
from typing import Any, Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from flows.announcements import announce_registration
from flows.specs import Spec
from flows.stack_options import StackOptions
from storage.artifacts import Artifact, Recipe
from storage.store import Draft, open_store
from tasks.journal import Entry, Journal
from tasks.run_log import stage_log


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
    stage_log("mini", config.name).info("slept for %g s", config.train.seconds)
    if config.name == "fail":
        raise ValueError('the run was told to "fail"')
    for version in (
        registered(config.name, 1, "promoted", ["it is the first"]),
        registered(config.name, 2, "candidate", ["worse by 0.1 bits per byte", 'and "quotes"']),
    ):
        announce_registration(Journal([Entry("register", "", "completed", 0.1, version)]))
    return config.name


def registered(name: str, number: int, decision: str, reasons: list[str]) -> Artifact:
    """An artifact as the stage `register` leaves it."""
    aliases = ["candidate", "champion"] if decision == "promoted" else ["candidate"]
    stats = {
        "name": name, "version": str(number), "decision": decision, "aliases": aliases, "reasons": reasons
    }  # fmt: skip

    def work(draft: Draft) -> dict[str, Any]:
        (draft.path / "decision").write_text(decision, encoding="utf-8")
        return stats

    recipe = Recipe(stage="register", code={"mini": "1"}, inputs={"name": name, "version": str(number)})
    return open_store().make(recipe, (), work)


def specs(options: StackOptions) -> list[Spec]:
    """Both kinds of deployment."""
    parameters = {"config": MiniConfig().model_dump(mode="json")}
    return [
        Spec("on-demand", "stack_flows.mini", "By hand.", parameters, options.runs_at_once, "ENQUEUE"),
        Spec("nightly", "stack_flows.mini", "By night.", parameters, 1, "CANCEL_NEW", scheduled=True),
    ]
