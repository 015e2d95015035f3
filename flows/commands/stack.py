"""``modelmill up``, ``down`` and ``status``: what people see of the stack."""

from __future__ import annotations

import os
import time
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows import stack_state
from flows.environment import make_home
from flows.health import answers, get, worker_online
from flows.ports import LOOPBACK
from flows.stack_errors import StackError
from flows.stack_options import POOL, StackOptions
from storage.errors import needing_room
from storage.home import home


def up_command(console: Console, options: StackOptions) -> None:
    """Run the stack until Ctrl-C; raises StackError where it cannot start."""
    options = _external(options)
    _check(options)
    make_home("prefect", "mlflow/artifacts", "logs", "stack")
    from flows.stack import Stack

    if options.host not in LOOPBACK:
        console.print(
            f"[yellow]Listening on {options.host}: whoever reaches this machine can run code on it through "
            "Prefect. Put a proxy with a login before it (deploy/README.md).[/]"
        )
    started = time.monotonic()
    console.print(
        f"Starting Prefect, MLflow and a worker; logs are in {_name(home() / 'logs')}", soft_wrap=True
    )

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.1f} s  {escape(line)}[/]", highlight=False)

    def ready() -> None:
        console.print(_welcome(options, time.monotonic() - started), soft_wrap=True, highlight=False)

    with needing_room(home(), "the stack was started or kept running"):
        Stack(options, say).run(ready)
    console.print("Stopped.")


def _check(options: StackOptions) -> None:
    """Refuse at once what would only fail in a log: a schedule, address or configuration that is none."""
    from croniter import croniter  # type: ignore[import-untyped]

    # Prefect takes neither of croniter's random times.
    if options.cron and ({"r", "h"} & {*options.cron.lower().split()} or not croniter.is_valid(options.cron)):
        raise StackError(
            f"--cron {options.cron!r} is no cron line: five fields, such as '0 3 * * *' for three."
        )
    if options.time_zone and options.time_zone not in available_timezones():
        near = get_close_matches(options.time_zone, available_timezones(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ", such as Europe/Berlin."
        raise StackError(f"--time-zone {options.time_zone!r} is not known{hint}")
    if options.webhook and not options.webhook.startswith(("http://", "https://")):
        raise StackError(f"--webhook {options.webhook!r} is no address: it begins with https:// or http://.")
    own = not (options.external_prefect or options.external_mlflow)
    if own and options.prefect_port == options.mlflow_port:
        raise StackError(f"Port {options.mlflow_port} is asked for twice: choose another with --mlflow-port.")
    if options.deployments == StackOptions().deployments:
        from flows.loading import load_config

        load_config(options.preset, Path(options.config) if options.config else None)


def _external(options: StackOptions) -> StackOptions:
    """Take servers that the user's environment names, unless they are those that this stack would start."""
    prefect, mlflow = os.environ.get("PREFECT_API_URL", ""), os.environ.get("MLFLOW_TRACKING_URI", "")
    changes = {}
    if prefect and not _own(prefect, options, options.prefect_port):
        changes["external_prefect"] = prefect.rstrip("/")
        if not answers(f"{prefect.rstrip('/')}/health", timeout_s=10):
            raise StackError(
                f"PREFECT_API_URL is {prefect}, where nothing answers. Unset it to start a server here."
            )
    if mlflow.startswith("http") and not _own(mlflow, options, options.mlflow_port):
        changes["external_mlflow"] = mlflow.rstrip("/")
        if not answers(f"{mlflow.rstrip('/')}/health", timeout_s=10):
            raise StackError(
                f"MLFLOW_TRACKING_URI is {mlflow}, where nothing answers. Unset it to start a server here."
            )
    return options.model_copy(update={"directory": options.directory or str(Path.cwd()), **changes})


def _own(address: str, options: StackOptions, port: int) -> bool:
    """Whether an address is that of a server which this stack would start: here, and on its port."""
    asked = urlsplit(address)
    here = {*LOOPBACK, options.host, options.browser_host}
    return asked.scheme == "http" and asked.hostname in here and asked.port == port


def _welcome(options: StackOptions, seconds: float) -> str:
    """Where everything is; addresses stay whole in a narrow terminal, so that they can be clicked.

    The first is the page with the one thing to click: Prefect's own first page has nothing of it.
    """
    lines = [
        f"\n[green]Ready[/] in {seconds:.1f} s. Ctrl-C stops everything.\n",
        f"Start here  [bold]{_first_click(options)}[/]  Run → Quick run",
        f"Prefect     [bold]{options.prefect_ui}[/]  runs, schedules, logs",
        f"MLflow      [bold]{options.mlflow_ui}[/]  models, metrics, curves\n",
    ]
    return "\n".join(lines)


def _first_click(options: StackOptions) -> str:
    """The page of pipeline/on-demand, where Run is."""
    found = get(f"{options.prefect_api}/deployments/name/pipeline/on-demand")
    page = f"deployment/{found['id']}" if found else ""
    return f"{options.prefect_pages}/deployments/{page}".rstrip("/")


def down_command(console: Console) -> None:
    """Stop this home's stack, and whatever one that was killed has left."""
    from flows.stack import bring_down

    stopped = bring_down(lambda line: console.print(f"[dim]{escape(line)}[/]"))
    console.print("Stopped." if stopped else f"Nothing of a stack runs for {_name(home())}.")


def status_command(console: Console) -> None:
    """Show each service; exit status 0 if all is well, 1 if something is not, 3 if there is no stack."""
    state = stack_state.read()
    if state is None or not state.running:
        left = _left(state)
        console.print(f"No stack runs for {_name(home())}. `modelmill up` starts one.{left}")
        raise SystemExit(3)
    table = Table(show_edge=False, pad_edge=False)
    for name in ("service", "state", "process", "MB", "address", "log"):
        table.add_column(name, overflow="fold")
    well = state.phase == "ready"
    for service in state.services:
        verdict, good = _verdict(state, service)
        well = well and good
        address = {"prefect": state.prefect_ui, "mlflow": state.mlflow_ui}.get(service.name, "")
        table.add_row(
            service.name, verdict, str(service.pid), f"{_memory(service.pid):.0f}", address,
            Path(service.log).name,
        )  # fmt: skip
    place = f"stack {state.phase}, process {state.pid}, in {_name(home())}; logs in {_name(home() / 'logs')}"
    console.print(place, soft_wrap=True)
    console.print(table)
    raise SystemExit(0 if well else 1)


def _name(path: Path) -> str:
    """A path for the console, which would take what stands in brackets for a style."""
    return escape(str(path))


def _left(state: stack_state.StackState | None) -> str:
    from flows.stack_processes import marked

    count = len(list(marked(state.mark))) if state else 0
    return (
        f" {count} process(es) of one that was killed are left: `modelmill down` ends them." if count else ""
    )


def _verdict(state: stack_state.StackState, service: stack_state.ServiceState) -> tuple[str, bool]:
    if service.given_up:
        return f"[red]ended {service.restarts + 1} times, left alone: {service.last_end}[/]", False
    if not service.running:
        return "[red]ended, being started again[/]", False
    times = "once" if service.restarts == 1 else f"{service.restarts} times"
    history = f"; started again {times}: {service.last_end}" if service.restarts else ""
    if not _answers(state, service.name):
        return f"[yellow]runs, does not answer{history}[/]", False
    return f"[green]up[/]{history}", True


def _answers(state: stack_state.StackState, name: str) -> bool:
    if name == "prefect":
        return answers(f"{state.prefect_api}/health")
    if name == "mlflow":
        return answers(f"{state.mlflow}/health")
    return worker_online(state.prefect_api, POOL, "modelmill")


def _memory(pid: int) -> float:
    """Megabytes of a process and its descendants, shared pages counted once where the system tells."""
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in family:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.uss) / 1e6
        except psutil.Error:
            continue
    return total
