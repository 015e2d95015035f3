"""The three services of the stack, as command lines and environments.

MLflow is one process without job execution (250 MB and 5 s instead of 3.2 GB and 21 s). Prefect is told the
address of its own API, since its pages would ask on the standard port else. PYTHONSAFEPATH keeps the folder
that a run works in off ``sys.path``: a folder called ``datasets`` there must not hide the library.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from flows.environment import HEARTBEAT_S, LOGGING
from flows.health import answers, worker_online
from flows.ports import ANY, LOOPBACK
from flows.stack_options import POOL, StackOptions
from flows.stack_processes import MARK, Service
from flows.stack_state import folder
from storage.home import SERVED, home, without_password
from storage.mlflow_database import SQLITE
from storage.mlflow_server import DATABASE

WORKER = "modelmill"
"""The worker's name in the work pool."""


def environment(options: StackOptions, mark: str) -> dict[str, str]:
    """What every process of the stack has in its environment; what the user set for a server stays."""
    inherited = dict(os.environ)
    for name in ("PREFECT_PROFILE", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        inherited.pop(name, None)
    defaults = {
        "PREFECT_HOME": str(home() / "prefect"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        **LOGGING,
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "15",  # else a new schedule is seen after a minute
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P30D",
    }
    fixed = {
        MARK: mark,
        "MODELMILL_HOME": str(home()),
        "PREFECT_API_URL": options.prefect_api,
        "PREFECT_SERVER_UI_API_URL": f"{options.prefect_ui}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_CLI_COLORS": "false",
        "MLFLOW_TRACKING_URI": options.mlflow,
        SERVED: served_registry(options),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    if not options.external_prefect:
        fixed["PREFECT_UI_URL"] = options.prefect_pages  # for links, in MLflow and in notifications
    return {**defaults, **inherited, **fixed}


def services(options: StackOptions, mark: str) -> list[Service]:
    """The services to run, in the order in which they start."""
    made = []
    if not options.external_prefect:
        made.append(_prefect(options, mark))
    if not options.external_mlflow:
        made.append(_mlflow(options, mark))
    return [*made, _worker(options, mark)]


def _service(name: str, command: list[str], options: StackOptions, mark: str, **rest: object) -> Service:
    log = home() / "logs" / f"{name}.log"
    return Service(name, command, environment(options, mark), log, directory=folder(), **rest)  # type: ignore[arg-type]


def _prefect(options: StackOptions, mark: str) -> Service:
    command = [sys.executable, "-m", "flows.prefect_server", "server", "start"]
    command += ["--host", options.host, "--port", str(options.prefect_port)]
    return _service("prefect", command, options, mark, ready=lambda: answers(f"{options.prefect_api}/health"))


def _mlflow(options: StackOptions, mark: str) -> Service:
    command = [sys.executable, "-m", "storage.mlflow_server"]
    command += ["--host", options.host, "--port", str(options.mlflow_port)]
    command += ["--artifacts", _artifacts()]
    command += ["--allowed-hosts", ",".join(allowed_hosts(options))]
    if options.host in LOOPBACK and "MLFLOW_ARTIFACTS_DESTINATION" not in os.environ:
        # The same place that runs without a server use, so that both read each other's models.
        command += ["--default-artifact-root", _artifacts()]
    service = _service("mlflow", command, options, mark, ready=lambda: answers(f"{options.mlflow}/health"))
    return replace(service, environment={**service.environment, DATABASE: _backend()})


def _backend() -> str:
    """MLflow's database: what the user said, or sqlite in the home."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    given = os.environ.get("MLFLOW_BACKEND_STORE_URI") or (tracking if "://" in tracking else "")
    if given.startswith(SQLITE):  # may be meant from where the stack starts, and the server does elsewhere
        return f"{SQLITE}{Path(given.removeprefix(SQLITE)).resolve()}"
    return given if given and not given.startswith("http") else f"{SQLITE}{home() / 'mlflow' / 'mlflow.db'}"


def served_registry(options: StackOptions) -> str:
    """The stack's MLflow server and its database; empty of one elsewhere, which its address stands for."""
    return "" if options.external_mlflow else f"{options.mlflow} {without_password(_backend())}"


def _artifacts() -> str:
    return os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or (home() / "mlflow" / "artifacts").as_uri()


def allowed_hosts(options: StackOptions) -> list[str]:
    """The Host headers that MLflow answers to: others are a page in a browser that pretends to be it."""
    names = {"localhost", "127.0.0.1", "[::1]", options.browser_host}
    if options.host not in ANY:
        names.add(options.host)
    return sorted({*names, *(f"{name}:{options.mlflow_port}" for name in names)})


def _worker(options: StackOptions, mark: str) -> Service:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    command += ["--name", WORKER, "--limit", str(options.runs_at_once)]
    return _service(
        "worker", command, options, mark, ready=lambda: worker_online(options.prefect_api, POOL, WORKER)
    )
