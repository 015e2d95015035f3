"""Where mapped parts run: threads here, or a Ray or Dask cluster."""

from __future__ import annotations

from typing import Any

from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.config import RunConfig


def task_runner(config: RunConfig) -> TaskRunner[Any]:
    """The task runner that a run's configuration names.

    Raises ModuleNotFoundError, saying what to install, where the cluster's library is absent.
    """
    if config.task_runner == "ray":
        try:
            from prefect_ray import RayTaskRunner
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("run.task_runner: ray needs `pip install modelmill[ray]`") from error
        options = {"num_cpus": config.parts_at_once} if not config.address else None
        return RayTaskRunner(address=config.address or None, init_kwargs=options)  # type: ignore[no-any-return]
    if config.task_runner == "dask":
        try:
            from prefect_dask import DaskTaskRunner
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("run.task_runner: dask needs `pip install modelmill[dask]`") from error
        options = {"n_workers": config.parts_at_once, "threads_per_worker": 1} if not config.address else None
        return DaskTaskRunner(address=config.address or None, cluster_kwargs=options)  # type: ignore[no-any-return]
    return ThreadPoolTaskRunner(max_workers=config.parts_at_once)


def run_name() -> str:
    """A flow run's name: the model it makes, and when."""
    config = flow_run.parameters.get("config")
    name = config.get("name") if isinstance(config, dict) else getattr(config, "name", "pipeline")
    started = flow_run.scheduled_start_time
    return f"{name} {started:%Y-%m-%d %H:%M:%S}"
