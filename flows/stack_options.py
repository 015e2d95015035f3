"""What `modelmill up` can be told, kept so that the process that makes the deployments reads the same."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from flows.ports import local_name, reachable_name
from flows.stack_state import folder

POOL = "modelmill"
"""Name of the work pool whose runs the stack's worker takes."""


class StackOptions(BaseModel):
    """Options of one stack."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    public_host: str = ""
    """Name under which browsers elsewhere reach this machine; empty: found from ``host``."""
    prefect_port: int = 4200
    mlflow_port: int = 5000
    external_prefect: str = ""
    """API address of a Prefect server that is not the stack's own; empty: the stack starts one."""
    external_mlflow: str = ""
    """Address of an MLflow server that is not the stack's own; empty: the stack starts one."""
    pool_type: Literal["process", "kubernetes"] = "process"
    work_queue: str = ""
    """Of the work pool; empty: its default one."""
    pool: str = POOL
    runs_at_once: int = 2
    directory: str = ""
    """Where runs take relative paths from: the folder in which the stack was started."""
    preset: str = "tiny"
    config: str = ""
    """A YAML file over the preset, for the deployments' parameters."""
    cron: str = ""
    """When the nightly run starts; empty: as it is, or at three where it is new."""
    time_zone: str = ""
    nightly: Literal["keep", "on", "off"] = "keep"
    webhook: str = ""
    """Where notifications are posted; empty: nowhere."""
    deployments: str = "flows.specs.pipeline_specs"
    """The function that gives the deployments, as ``package.module.function``."""

    @property
    def browser_host(self) -> str:
        """The host in the addresses that people are given."""
        return self.public_host or reachable_name(self.host)

    @property
    def prefect_api(self) -> str:
        """Prefect's API, as this machine reaches it."""
        return self.external_prefect or f"http://{local_name(self.host)}:{self.prefect_port}/api"

    @property
    def prefect_ui(self) -> str:
        """Prefect's pages, as people reach them."""
        if self.external_prefect:
            return self.external_prefect.removesuffix("/").removesuffix("/api")
        return f"http://{self.browser_host}:{self.prefect_port}"

    @property
    def prefect_pages(self) -> str:
        """Where the addresses of Prefect's present pages begin; at the root its former ones answer."""
        return f"{self.prefect_ui}/v2"

    @property
    def mlflow(self) -> str:
        """MLflow, as this machine reaches it."""
        return self.external_mlflow or f"http://{local_name(self.host)}:{self.mlflow_port}"

    @property
    def mlflow_ui(self) -> str:
        """MLflow's pages, as people reach them."""
        return self.external_mlflow or f"http://{self.browser_host}:{self.mlflow_port}"

    def save(self) -> Path:
        """Write for the process that makes the deployments; returns the file."""
        folder().mkdir(parents=True, exist_ok=True)
        path = folder() / "options.json"
        path.touch(mode=0o600)
        path.chmod(0o600)  # a webhook's address lets whoever knows it write there
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        return path
