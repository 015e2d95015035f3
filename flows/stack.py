"""`modelmill up`: Prefect, MLflow, a worker and the deployments, as one tree of processes that ends together.

The servers start side by side with the process that imports the flows to make the deployments, since
imports are most of the time to ready. A service that ends is started again, a few times; `status` says so.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import FrameType

import psutil

from flows import stack_processes as processes
from flows.lost_runs import end_lost_runs
from flows.ports import require_free
from flows.prefect_database import starting_server
from flows.services import environment, served_registry, services
from flows.stack_errors import NotReadyError, StackError
from flows.stack_options import POOL, StackOptions
from flows.stack_processes import Child, Service
from flows.stack_state import Phase, ServiceState, StackState, only_one, read, write
from storage.home import home

READY_S = 180.0
"""From the start until everything answers, at most; the very first start migrates two databases."""
RUN_GRACE_S = 90.0
"""For running flows to save their work once they were asked to stop."""
SERVER_GRACE_S = 15.0
RESTARTS = 5
"""Ends of one service within RESTART_WINDOW_S after which it is left alone."""
RESTART_WINDOW_S = 600.0
POLL_S = 0.2
Say = Callable[[str], None]


class _StopAskedError(Exception):
    """SIGINT or SIGTERM came."""


class Stack:
    """One stack, from its start to its end."""

    def __init__(
        self,
        options: StackOptions,
        say: Say,
        make_services: Callable[[StackOptions, str], list[Service]] = services,
    ) -> None:
        self.options = options
        self.say = say
        self.make_services = make_services
        self.mark = uuid.uuid4().hex
        self.children: list[Child] = []
        self.given_up: set[str] = set()
        self.signals = 0
        self.phase: Phase = "starting"

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Start everything, keep it running until a signal comes, stop it.

        Raises PortTakenError, StackError where it cannot start; NotReadyError where a service does not
        come up, with the end of its log.
        """
        with only_one():
            clear_leftovers(self.say)
            self._require_ports()
            processes.adopt_orphans()
            with _Signals(self._signalled):
                try:
                    self._start()
                    self._become("ready")
                    on_ready()
                    self._keep()
                except _StopAskedError:
                    pass
                finally:
                    self._stop()

    def _signalled(self) -> None:
        self.signals += 1
        if self.signals == 1 and self.phase != "stopping":
            raise _StopAskedError

    def _require_ports(self) -> None:
        if not self.options.external_prefect:
            require_free(self.options.host, self.options.prefect_port, "--prefect-port")
        if not self.options.external_mlflow:
            require_free(self.options.host, self.options.mlflow_port, "--mlflow-port")

    def _start(self) -> None:
        deadline = time.monotonic() + READY_S
        *servers, worker = self.make_services(self.options, self.mark)
        deploying = self._deploy() if self.options.deployments else None
        with nullcontext() if self.options.external_prefect else starting_server():
            for service in servers:
                self._launch(service)
            for service in (s for s in servers if s.name == "prefect"):  # the worker needs Prefect alone
                self._await(service, deadline)
                self._end_lost_runs()
        self._launch(worker)
        for service in (*(s for s in servers if s.name != "prefect"), worker):
            self._await(service, deadline)
        if deploying is not None:
            self._await_deployments(deploying, deadline)

    def _launch(self, service: Service) -> None:
        self.children.append(processes.start(service))
        self._write()

    def _await(self, service: Service, deadline: float) -> None:
        child = next(child for child in self.children if child.service is service)
        while not service.ready():
            if not child.running:
                raise _not_ready(service, f"{processes.end_of(child.process)} before it was ready")
            if time.monotonic() > deadline:
                raise _not_ready(service, f"did not answer within {READY_S:.0f} s")
            time.sleep(POLL_S)
        self.say(f"{service.name} is up")

    def _end_lost_runs(self) -> None:
        if self.options.external_prefect:
            return  # other machines may serve the pool, and their processes cannot be seen from here
        alive = processes.flow_run_ids(self.mark)
        for name in end_lost_runs(self.options.prefect_api, POOL, alive):
            self.say(f"run {name} is marked Crashed: its process is gone")

    def _deploy(self) -> subprocess.Popen[bytes]:
        log = _deployments_log()
        processes.trim_log(log)
        command = [sys.executable, "-m", "flows.deployments", str(self.options.save())]
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(self.options, self.mark),
                start_new_session=True,
            )

    def _await_deployments(self, deploying: subprocess.Popen[bytes], deadline: float) -> None:
        while deploying.poll() is None:
            if time.monotonic() > deadline:
                raise NotReadyError(
                    f"The deployments were not made in {READY_S:.0f} s; see {_deployments_log()}."
                )
            time.sleep(POLL_S)
        if deploying.returncode:
            raise NotReadyError(
                f"The deployments could not be made. The end of {_deployments_log()}:\n"
                f"{processes.last_lines(_deployments_log())}"
            )
        self.say("deployments are made")

    def _keep(self) -> None:
        trimmed = time.monotonic()
        while True:
            for child in list(self.children):
                if not child.running and child.service.name not in self.given_up:
                    self._revive(child)
            processes.reap_orphans(child.process for child in self.children)
            if time.monotonic() - trimmed > 60:
                trimmed = time.monotonic()
                for child in self.children:
                    processes.trim_log(child.service.log)
            time.sleep(POLL_S)

    def _revive(self, child: Child) -> None:
        """Start an ended service again, later each time; leave it alone when it ends too often."""
        now, name = time.monotonic(), child.service.name
        how = f"{processes.end_of(child.process)} at {time.strftime('%H:%M:%S')}"
        recent = [end for end in child.ends if now - end < RESTART_WINDOW_S] + [now]
        if len(recent) > RESTARTS:
            self.given_up.add(name)
            child.last_end = how
            self.say(
                f"{name} {how}, for the {len(recent)}th time; it is left alone. Its log: {child.service.log}"
            )
            self._write()
            return
        self.say(f"{name} {how}; starting it again. Its log: {child.service.log}")
        time.sleep(min(2.0 ** (len(recent) - 1), 30.0) - 1.0)
        if name == "worker":
            self._end_lost_runs()
        else:
            processes.end_orphans(c.process for c in self.children)  # they would keep the port
        fresh = processes.start(child.service)
        fresh.ends, fresh.last_end = recent, how
        self.children[self.children.index(child)] = fresh
        self._write()

    def _stop(self) -> None:
        """Worker and runs first, then the servers that they talk to; then whatever is left of the stack."""
        self._become("stopping")
        with suppress(_StopAskedError):
            self._stop_runs()
            servers = [child for child in self.children if child.service.name != "worker"]
            self._ask(servers)
            self._await_end(servers, SERVER_GRACE_S)
        processes.kill_marked(self.mark)
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(5.0)
        processes.reap_orphans(child.process for child in self.children)
        self._become("stopped")

    def _stop_runs(self) -> None:
        """Runs first: a worker that is asked to stop kills its runs at once, and they never say so."""
        asked: set[int] = set()
        deadline = time.monotonic() + RUN_GRACE_S
        while (running := processes.flow_runs(self.mark)) and self.signals < 2:
            if time.monotonic() > deadline:
                break
            if fresh := [process for process in running if process.pid not in asked]:
                self.say(f"{len(fresh)} running flow(s) save their work first; a second Ctrl-C kills them")
                processes.ask_to_stop(fresh)
                asked |= {process.pid for process in fresh}
            time.sleep(POLL_S)
        workers = [child for child in self.children if child.service.name == "worker"]
        self._ask(workers)
        self._await_end(workers, SERVER_GRACE_S)

    def _ask(self, children: list[Child]) -> None:
        for child in children:
            if child.running:
                child.process.terminate()  # once: the worker takes a second one as an order to die

    def _await_end(self, children: list[Child], grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        while (late := [c.service.name for c in children if c.running]) and self.signals < 2:
            if time.monotonic() > deadline:
                self.say(f"{', '.join(late)} did not end within {grace_s:.0f} s and will be killed")
                return
            time.sleep(POLL_S)

    def _become(self, phase: Phase) -> None:
        self.phase = phase
        self._write()

    def _write(self) -> None:
        me = psutil.Process()
        write(
            StackState(
                mark=self.mark,
                pid=me.pid,
                created=me.create_time(),
                phase=self.phase,
                prefect_ui=self.options.prefect_ui,
                prefect_api=self.options.prefect_api,
                mlflow=self.options.mlflow,
                mlflow_ui=self.options.mlflow_ui,
                served_registry=served_registry(self.options),
                services=[self._state(child) for child in self.children],
            )
        )

    def _state(self, child: Child) -> ServiceState:
        name = child.service.name
        return ServiceState(
            name=name,
            pid=child.process.pid,
            created=child.created,
            log=str(child.service.log),
            restarts=len(child.ends),
            last_end=child.last_end,
            given_up=name in self.given_up,
        )


class _Signals:
    """Hands SIGINT, SIGTERM and SIGHUP to one function while the block runs."""

    def __init__(self, react: Callable[[], None]) -> None:
        self.react = react

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.react()

    def __enter__(self) -> None:
        self.before = {
            n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def clear_leftovers(say: Say) -> None:
    """Kill what a stack of this home that was killed itself has left behind."""
    state = read()
    if state is not None and not state.running and (count := processes.kill_marked(state.mark)):
        say(f"{count} process(es) of a stack that was killed are ended")


def bring_down(say: Say, timeout_s: float = RUN_GRACE_S + 60) -> bool:
    """Stop this home's stack and whatever is left of it; False where there was nothing to stop.

    Raises StackError where it does not end in time.
    """
    state = read()
    if state is None:
        return False
    was_running = state.running
    if was_running:
        with suppress(psutil.Error):
            psutil.Process(state.pid).terminate()
        deadline = time.monotonic() + timeout_s
        while state.running:
            if time.monotonic() > deadline:
                raise StackError(f"The stack (process {state.pid}) has not ended in {timeout_s:.0f} s.")
            time.sleep(POLL_S)
    left = processes.kill_marked(state.mark)
    if left and not was_running:
        say(f"{left} process(es) of a stack that was killed are ended")
    return was_running or left > 0


def _not_ready(service: Service, what: str) -> NotReadyError:
    lines = processes.last_lines(service.log)
    return NotReadyError(f"{service.name} {what}. The end of {service.log}:\n{lines}")


def _deployments_log() -> Path:
    return home() / "logs" / "deployments.log"
