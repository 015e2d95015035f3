"""Flows beside the pipeline, for a button or a schedule: promote, roll back, upkeep of the store."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from flows import plain_failures
from flows.announcements import announce
from flows.upkeep import damaged, sweep
from storage.champions import Change, promote_by_hand, rollback
from storage.registry import CANDIDATE, connect
from storage.store import open_store
from tasks.settings import StageConfig

plain_failures.install()

ModelName = Annotated[
    str,
    Field(
        title="Model name",
        description="Name of the registered model.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    ),
]
Reason = Annotated[
    str,
    Field(
        title="Reason",
        description="Kept with the change, 1 to 500 characters.",
        min_length=1,
        max_length=500,
    ),
]


class DamagedStoreError(RuntimeError):
    """Files of the store differ from what their manifests say; the message names them and the mend."""


class PromoteConfig(StageConfig):
    """Which version becomes champion, and why."""

    name: ModelName = "modelmill-tiny"
    version: str = Field(
        "",
        title="Version",
        description="Number of the version, such as 3. Empty takes the latest candidate.",
        pattern=r"^[0-9]*$",
    )
    reason: Reason = "no reason given"


class RollBackConfig(StageConfig):
    """Whose former champion comes back, and why."""

    name: ModelName = "modelmill-tiny"
    reason: Reason = "no reason given"


class UpkeepConfig(StageConfig):
    """What is looked at, and what may be deleted."""

    verify: bool = Field(
        True, title="Verify", description="Hash every committed file again; a damaged one fails the run."
    )
    delete: bool = Field(
        False,
        title="Delete",
        description="Delete what no registered model and no recent run needs; else only list it.",
    )
    keep_runs: int = Field(
        5, title="Runs to keep", description="Latest runs of each model, 1 to 10,000.", ge=1, le=10_000
    )
    grace_hours: float = Field(
        24.0,
        title="Grace",
        description="What was made or used in so many hours is kept, 0 to 8,760.",
        ge=0,
        le=8760,
    )


@flow(name="promote")
def promote_version(config: PromoteConfig) -> str:
    """Make a version champion by hand, whatever the gate said; the change is recorded with its reason.

    Raises RegistryError where there is no such version.
    """
    wanted = f"models:/{config.name}{f'/{config.version}' if config.version else f'@{CANDIDATE}'}"
    return _told(promote_by_hand(connect(), wanted, reason=config.reason, who=_run()))


@flow(name="roll-back")
def roll_back(config: RollBackConfig) -> str:
    """Make the champion before the present one champion again; the change is recorded with its reason.

    Raises RegistryError where there is none before it.
    """
    return _told(rollback(connect(), config.name, reason=config.reason, who=_run()))


def _run() -> str:
    """Who changes a champion in a flow: its run, which people start from elsewhere than its process."""
    return f"run {flow_run.name}"


def _told(change: Change) -> str:
    line = f"models:/{change.name}/{change.version} is champion; it replaced {change.replaced or 'none'}"
    get_run_logger().info(line)
    announce("promoted", change.name, change.version, [change.reason])
    return line


@flow(name="upkeep")
def upkeep(config: UpkeepConfig) -> dict[str, float]:
    """Hash the store again, and list or delete what nothing needs.

    Raises DamagedStoreError where a file differs from its manifest.
    """
    store, log = open_store(), get_run_logger()
    if config.verify:
        if found := damaged(store):
            raise DamagedStoreError(
                f"{len(found)} file(s) differ from what was committed. Delete the artifact's folder, and "
                "only that stage is made anew:\n" + "\n".join(f"{d.path} {d.problem}" for d in found)
            )
        log.info("every committed file is as its manifest says")
    swept = sweep(apply=config.delete, keep_runs=config.keep_runs, grace_hours=config.grace_hours)
    create_table_artifact(
        [dict(zip(("artifact", "MB", "made"), row, strict=True)) for row in swept.rows()],
        key="upkeep",
        description="Deleted." if config.delete else "Would be deleted: run again with Delete on.",
    )
    done = "deleted" if config.delete else "could be deleted"
    log.info("%d found, %.1f MB %s; %d kept", len(swept.rows()), swept.megabytes, done, swept.kept)
    return {
        "artifacts": len(swept.artifacts),
        "leftovers": len(swept.leftovers),
        "megabytes": swept.megabytes,
        "kept": swept.kept,
    }
