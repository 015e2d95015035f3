"""Where mapped parts run: threads here, or a Ray or Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.config import RunConfig
from tasks.processors import SHARE, processors

PASSED_ON = ("MODELMILL_", "MLFLOW_", "AWS_", "PREFECT_API_")
"""Beginnings of the environment variables that a cluster's workers need."""


def task_runner(config: RunConfig) -> TaskRunner[Any]:
    """The task runner that a run's configuration names.

    Raises ModuleNotFoundError, saying what to install, where the cluster's library is absent.
    """
    if config.task_runner == "threads":
        return ThreadPoolTaskRunner(max_workers=config.parts_at_once)
    try:
        return _ray(config) if config.task_runner == "ray" else _dask(config)
    except ModuleNotFoundError as error:
        name = config.task_runner
        raise ModuleNotFoundError(f"run.task_runner: {name} needs `pip install modelmill[{name}]`") from error


def _ray(config: RunConfig) -> TaskRunner[Any]:
    """A Ray cluster: the one at the address, whose workers get this run's settings, or a local one."""
    from prefect_ray.task_runners import RayTaskRunner

    if config.address:
        settings = {n: v for n, v in os.environ.items() if n.startswith(PASSED_ON)}
        options: dict[str, Any] = {"runtime_env": {"env_vars": {SHARE: "1", **settings}}}
    else:
        options = {"num_cpus": config.parts_at_once, "include_dashboard": False}
        options["runtime_env"] = {"env_vars": _share(config)}
    return cast("TaskRunner[Any]", RayTaskRunner(address=config.address or None, init_kwargs=options))


def _dask(config: RunConfig) -> TaskRunner[Any]:
    """A Dask cluster: the one at the address, whose workers have their own settings, or a local one."""
    from prefect_dask.task_runners import DaskTaskRunner

    if config.address:
        return cast("TaskRunner[Any]", DaskTaskRunner(address=config.address))
    options = {"n_workers": config.parts_at_once, "threads_per_worker": 1, "dashboard_address": None}
    return cast("TaskRunner[Any]", DaskTaskRunner(cluster_kwargs={**options, "env": _share(config)}))


def _share(config: RunConfig) -> dict[str, str]:
    """The environment of one of a local cluster's processes: between them they have the processors."""
    return {SHARE: str(max(1, processors() // config.parts_at_once))}


@contextmanager
def placed(config: RunConfig) -> Iterator[None]:
    """Inside a flow, submit the block's tasks to the runner that the configuration names.

    A flow's own task runner is fixed where the flow is defined; a run that is started from a form has only
    its parameters to say where its parts go.
    """
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("a task runner is chosen inside of a flow run")
    with task_runner(config) as runner, context.model_copy(update={"task_runner": runner}):
        yield


def run_name() -> str:
    """A flow run's name: the model it makes, and when."""
    config = flow_run.parameters.get("config")
    name = config.get("name") if isinstance(config, dict) else getattr(config, "name", "pipeline")
    started = flow_run.scheduled_start_time
    return f"{name} {started:%Y-%m-%d %H:%M:%S}"
