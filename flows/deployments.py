"""The deployments: what the Prefect pages offer to run, and what runs at night.

A schedule's parameters replace a deployment's, they do not merge, so each deployment holds a whole
configuration. What a person changed in the Prefect pages (parameters, schedule, paused) is kept when the
stack starts again; the form, the entry point and the limits follow the code.

``python -m flows.deployments`` makes them on the server that PREFECT_API_URL names, with ``--yaml`` it prints
deploy/prefect.yaml; the stack hands it its options as a file.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import (
    ObjectAlreadyExists,
    ObjectNotFound,
    ParameterTypeError,
    SignatureMismatchError,
)
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ValidationError

from flows import automations
from flows.loading import ConfigError
from flows.specs import NIGHTLY, THREE_AT_NIGHT, Spec
from flows.stack_options import POOL, StackOptions
from storage.artifacts import digest_json

log = logging.getLogger("modelmill.deployments")


def load_specs(options: StackOptions) -> list[Spec]:
    """What the function that the options name gives."""
    module, _, name = options.deployments.rpartition(".")
    make = cast("Callable[[StackOptions], list[Spec]]", getattr(importlib.import_module(module), name))
    return make(options)


def deploy(client: SyncPrefectClient, specs: Sequence[Spec], options: StackOptions) -> list[str]:
    """Make or update the work pool and the deployments; gives their full names."""
    if options.pool_type == "process":
        ensure_pool(client, options.pool)
    return [_put(client, spec, options) for spec in specs]


def ensure_pool(client: SyncPrefectClient, name: str = POOL) -> None:
    """Make the work pool of processes on this machine, unless it is there."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(
        name=name,
        type="process",
        description="Runs as processes on the machine where `modelmill up` runs.",
        base_job_template=template,
    )
    try:
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        return


def _put(client: SyncPrefectClient, spec: Spec, options: StackOptions) -> str:
    flow = spec.flow
    found = _find(client, f"{flow.name}/{spec.name}")
    common: dict[str, Any] = {
        "entrypoint": spec.entrypoint,
        "description": spec.description,
        "parameter_openapi_schema": form(spec),
        "enforce_parameter_schema": True,
        "tags": spec.tags,
        "work_pool_name": options.pool,
        "work_queue_name": options.work_queue or None,
        "job_variables": job_variables(options),
        "concurrency_limit": spec.limit,
        "concurrency_options": ConcurrencyOptions(
            collision_strategy=ConcurrencyLimitStrategy(spec.collision)
        ),
        "version": digest_json(spec.parameters)[:12],
    }
    if found is None:
        client.create_deployment(
            flow_id=client.create_flow_from_name(flow.name),
            name=spec.name,
            parameters=spec.parameters,
            schedules=[_schedule(options, options.nightly == "on")] if spec.scheduled else [],
            **common,
        )
    else:
        parameters = _kept_parameters(found, spec)
        client.update_deployment(found.id, DeploymentUpdate(parameters=parameters, **common))
        if spec.scheduled:
            _reschedule(client, found, options)
    return f"{flow.name}/{spec.name}"


def form(spec: Spec) -> dict[str, Any]:
    """The schema of the run form.

    The pages open it before Quick run where a parameter is required, and none is: a deployment's own
    parameters are whole.
    """
    schema = parameter_schema(spec.flow).model_dump_for_openapi()
    return {**schema, "required": [] if spec.one_click else list(schema["properties"])}


def job_variables(options: StackOptions) -> dict[str, Any]:
    """Where and by which command a run's process starts.

    On Kubernetes the pool's job template says both. Elsewhere, without a command of its own, a run would put
    its working directory first on ``sys.path``, where a folder named ``datasets`` or ``flows`` would hide the
    installed one; it would also start another process first.
    """
    if options.pool_type == "kubernetes":
        return {}
    command = f"{shlex.quote(sys.executable)} -m prefect.engine"
    return {"working_dir": options.directory or str(Path.cwd()), "command": command}


def _find(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _kept_parameters(found: DeploymentResponse, spec: Spec) -> dict[str, Any]:
    """A person's parameters where there are any and the flow still takes them, else the spec's.

    Fields that the flow takes and the form has no longer are left out: the server would refuse them.
    """
    if digest_json(found.parameters)[:12] == found.version:
        return spec.parameters  # as they were made, so nobody has touched them
    try:
        taken = spec.flow.validate_parameters(found.parameters)
    except (ParameterTypeError, SignatureMismatchError, ValidationError) as error:
        log.warning("%s: its parameters no longer fit and are replaced by the defaults: %s", spec.name, error)
        return spec.parameters
    log.info("%s: parameters that were changed in Prefect are kept", spec.name)
    return {name: _as_json(value) for name, value in taken.items() if name in found.parameters}


def _as_json(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


def _schedule(options: StackOptions, active: bool) -> DeploymentScheduleCreate:
    cron = CronSchedule(cron=options.cron or THREE_AT_NIGHT, timezone=options.time_zone or _local_zone())
    return DeploymentScheduleCreate(schedule=cron, active=active, slug=NIGHTLY)


def _local_zone() -> str:
    """The machine's time zone by its IANA name; UTC where it has none."""
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"


def _reschedule(client: SyncPrefectClient, found: DeploymentResponse, options: StackOptions) -> None:
    """Change the schedule only as far as it was asked for."""
    existing = next((s for s in found.schedules if s.slug == NIGHTLY), None)
    asked = bool(options.cron or options.time_zone) or options.nightly != "keep"
    if existing is not None and not asked:
        return
    schedule = _schedule(options, options.nightly == "on")
    if existing is not None:
        old = cast(CronSchedule, existing.schedule)
        cron = CronSchedule(cron=options.cron or old.cron, timezone=options.time_zone or old.timezone)
        active = existing.active if options.nightly == "keep" else options.nightly == "on"
        client.delete_deployment_schedule(found.id, existing.id)
        schedule = DeploymentScheduleCreate(schedule=cron, active=active, slug=NIGHTLY)
    client.create_deployment_schedules(found.id, [schedule])


def wait_for_server(client: SyncPrefectClient, timeout_s: float = 180.0) -> None:
    """Return once the API answers; raises TimeoutError where it does not."""
    deadline = time.monotonic() + timeout_s
    while (error := client.api_healthcheck()) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{client.api_url} does not answer: {error}")
        time.sleep(0.2)


def as_yaml(specs: Sequence[Spec]) -> str:
    """The same deployments as a file for ``prefect deploy --all``, to be run against any server and pool."""
    entries = [
        {
            "name": spec.name,
            "description": spec.description,
            "entrypoint": spec.entrypoint,
            "tags": spec.tags,
            "parameters": copy.deepcopy(spec.parameters),  # else YAML would write it once, with a reference
            "schedules": [
                {"cron": THREE_AT_NIGHT, "timezone": "UTC", "active": False, "slug": NIGHTLY}
            ] if spec.scheduled else [],
            "concurrency_limit": {"limit": spec.limit, "collision_strategy": spec.collision},
            "work_pool": {"name": POOL, "job_variables": {}},
        }
        for spec in specs
    ]  # fmt: skip
    head = (
        "# Made by `python -m flows.deployments --yaml`; the same deployments that `modelmill up` makes.\n"
        "# Put them on a server: PREFECT_API_URL=… prefect deploy --all --prefect-file deploy/prefect.yaml\n"
    )
    body = {"name": "modelmill", "prefect-version": "3.8.8", "pull": None, "deployments": entries}
    return head + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)


def parse(arguments: Sequence[str] | None) -> tuple[StackOptions, bool]:
    """The options, and whether the file is only to be printed."""
    parser = argparse.ArgumentParser(prog="python -m flows.deployments", description=main.__doc__)
    parser.add_argument("options", nargs="?", type=Path, help="a stack's options, a JSON file")
    parser.add_argument("--yaml", action="store_true", help="print deploy/prefect.yaml and make nothing")
    parser.add_argument("--pool", default=POOL, help="the work pool")
    parser.add_argument("--pool-type", default="process", choices=["process", "kubernetes"])
    parser.add_argument("--work-queue", default="", help="a queue of the work pool, such as gpu")
    parser.add_argument("--directory", default="", help="where runs take relative paths from")
    parser.add_argument("--preset", default="tiny", help="the configuration that runs start from")
    parser.add_argument("--config", default="", help="a YAML file over the preset")
    parser.add_argument("--nightly", default="keep", choices=["keep", "on", "off"])
    parser.add_argument("--cron", default="", help="when the nightly run starts, such as '0 3 * * *'")
    parser.add_argument("--time-zone", default="", help="of the nightly run, such as Europe/Berlin")
    parser.add_argument("--webhook", default="", help="post notifications to this address")
    chosen = vars(parser.parse_args(arguments))
    file, only_print = chosen.pop("options"), chosen.pop("yaml")
    if file is not None:
        return StackOptions.model_validate_json(file.read_text(encoding="utf-8")), only_print
    return StackOptions(**chosen, external_prefect=os.environ.get("PREFECT_API_URL", "")), only_print


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the deployments and automations on the server that PREFECT_API_URL names, or print them."""
    options, only_print = parse(arguments)
    try:
        specs = load_specs(options)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    if only_print:
        print(as_yaml(specs), end="")
        return
    _ = [spec.full_name for spec in specs]  # imports while the servers start
    with automations.named_client() as client:
        wait_for_server(client)
        for name in [*deploy(client, specs, options), *automations.make(client, options.webhook)]:
            print(name)


if __name__ == "__main__":
    main()
