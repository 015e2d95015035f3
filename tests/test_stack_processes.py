"""How a stack lives and dies, tried on plain processes: nothing outlives it, however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import stack_processes, stack_state
from flows.ports import owner, require_free
from flows.stack import bring_down, clear_leftovers
from flows.stack_errors import PortTakenError
from flows.stack_processes import is_alive, kill_marked, marked

SCRIPT = Path(__file__).parent / "data/plain_services.py"
Start = Callable[..., "subprocess.Popen[str]"]


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The condition's value once it is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts a plain stack and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def starter(mode: str = "polite") -> "subprocess.Popen[str]":
        home.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), mode, str(free_port()), str(free_port())],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=home,
        )
        started.append(process)
        assert process.stdout is not None
        assert any(line.strip() == "ready" for line in process.stdout)
        return process

    yield starter
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)
    if (state := stack_state.read()) is not None:
        kill_marked(state.mark)


def family() -> list[psutil.Process]:
    """Every process of the stack but its head."""
    state = stack_state.read()
    assert state is not None
    return [process for process in marked(state.mark) if process.pid != state.pid]


def test_a_stack_and_the_children_of_its_services_end_together(start: Start) -> None:
    process = start()
    wait_for(lambda: len(family()) >= 4)  # two services, a child each
    process.terminate()
    assert process.wait(15) == 0
    assert family() == []
    state = stack_state.read()
    assert state is not None
    assert state.phase == "stopped"
    assert not state.running


def test_twenty_rounds_leave_nothing_behind(home: Path) -> None:
    before = {process.pid for process in psutil.process_iter()}
    home.mkdir()
    command = [sys.executable, str(SCRIPT), "polite", str(free_port()), str(free_port()), "20"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, timeout=120, check=True)
    marks = [line for line in done.stdout.splitlines() if len(line) == 32]
    assert len(set(marks)) == 20
    assert [p for mark in marks for p in marked(mark)] == []
    sleepers = [p for p in psutil.process_iter() if p.pid not in before and p.name() == "sleep"]
    assert [p for p in sleepers if p.environ().get("MODELMILL_HOME") == str(home)] == []


def test_a_second_signal_kills_what_does_not_want_to_end(start: Start) -> None:
    process = start("stubborn")
    wait_for(lambda: len(family()) >= 4)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None  # it waits for the deaf one
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert time.monotonic() - started < 8
    assert family() == []


def test_when_the_stack_is_killed_its_services_end_and_down_ends_the_rest(start: Start) -> None:
    process = start("stubborn")
    wait_for(lambda: len(family()) >= 4)
    process.kill()
    process.wait(5)
    wait_for(lambda: len(family()) < 6)  # the polite service has ended with its parent
    assert len(family()) >= 1  # the deaf one has not
    said: list[str] = []
    assert bring_down(said.append)
    assert "of a stack that was killed are ended" in said[0]
    assert family() == []
    assert not bring_down(said.append)


def test_the_next_stack_ends_what_a_killed_one_left(start: Start) -> None:
    first = start("stubborn")
    wait_for(lambda: len(family()) >= 4)
    state = stack_state.read()
    assert state is not None
    first.kill()
    first.wait(5)
    start()
    assert list(marked(state.mark)) == []


def test_a_killed_service_is_started_again_and_its_orphans_do_not_stay(start: Start) -> None:
    process = start()
    wait_for(lambda: len(family()) >= 4)
    state = stack_state.read()
    assert state is not None
    victim = next(service for service in state.services if service.name == "server")
    children = psutil.Process(victim.pid).children()
    assert children
    os.kill(victim.pid, signal.SIGKILL)

    def again() -> stack_state.ServiceState | None:
        now = stack_state.read()
        found = next(s for s in now.services if s.name == "server") if now else None
        return found if found and found.pid != victim.pid else None

    revived = wait_for(again)
    assert revived.running
    assert revived.restarts == 1
    assert "killed by SIGKILL" in revived.last_end
    wait_for(
        lambda: not any(is_alive(child.pid, child.create_time()) for child in family() if child in children)
    )
    process.terminate()
    assert process.wait(15) == 0
    assert family() == []


def test_a_service_that_ends_before_it_is_ready_stops_the_start_with_its_last_words(home: Path) -> None:
    from flows.stack import Stack
    from flows.stack_errors import NotReadyError
    from flows.stack_options import StackOptions
    from flows.stack_processes import Service

    home.mkdir()
    code = "import sys; print('no space left'); sys.exit(3)"
    broken = Service(
        "prefect", [sys.executable, "-c", code], dict(os.environ), home / "log", lambda: False, home
    )
    options = StackOptions(deployments="", prefect_port=free_port(), mlflow_port=free_port())
    with pytest.raises(NotReadyError, match=r"ended with status 3 before it was ready[\s\S]*no space left"):
        Stack(options, print, lambda _o, _m: [broken, broken]).run()


def test_a_taken_port_is_refused_with_its_owners_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError) as refused:
            require_free("127.0.0.1", port, "--prefect-port")
    assert str(port) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)
    assert "choose another with --prefect-port" in str(refused.value)
    require_free("127.0.0.1", port, "--prefect-port")
    assert "another program" in owner(port)


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    from flows.stack_errors import StackError

    with pytest.raises(StackError, match="--host"):
        require_free("192.0.2.1", free_port(), "--prefect-port")


def test_a_process_id_that_was_given_to_another_is_not_taken_for_the_first() -> None:
    me = psutil.Process()
    assert is_alive(me.pid, me.create_time())
    assert not is_alive(me.pid, me.create_time() - 100)
    assert not is_alive(2**22 + 1, time.time())


def test_a_damaged_or_absent_state_file_is_no_stack(home: Path) -> None:
    assert stack_state.read() is None
    (home / "stack").mkdir(parents=True)
    (home / "stack/state.json").write_text("{")
    assert stack_state.read() is None
    assert stack_state.running_addresses() == {}
    clear_leftovers(print)


def test_a_large_log_is_moved_aside_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_processes, "LOG_BYTES", 100)
    log = tmp_path / "a.log"
    log.write_text("x" * 101)
    stack_processes.trim_log(log)
    assert log.stat().st_size == 0
    assert (tmp_path / "a.log.1").stat().st_size == 101
    stack_processes.trim_log(tmp_path / "absent.log")


def test_the_state_file_is_json_for_other_programs(start: Start) -> None:
    start()
    written = json.loads((stack_state.folder() / "state.json").read_text())
    assert written["phase"] == "ready"
    assert {service["name"] for service in written["services"]} == {"server", "worker"}
