"""The real stack: Prefect, MLflow, a worker and deployments, as people and programs use it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest

from flows.stack_processes import MARK, flow_runs, marked
from storage.registry import identity

pytestmark = pytest.mark.slow


def command(stack: Any, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """A modelmill command in the stack's home."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        env={**stack.environment, "COLUMNS": "200", **more},
        cwd=stack.home,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """The condition's value once it is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
    return value


class Api:
    """What the Prefect pages do, over the same HTTP."""

    def __init__(self, stack: Any) -> None:
        self.http = httpx.Client(base_url=stack.api, timeout=120, trust_env=False)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request, repeated while the server's database is busy, as the pages and Prefect's client do."""
        return wait_for(lambda: (a := self.http.request(method, path, **more)).status_code != 503 and a)

    def deployment(self, name: str) -> dict[str, Any]:
        answer = self.send("GET", f"/deployments/name/mini/{name}")
        return dict(answer.raise_for_status().json())

    def run(self, name: str, **train: Any) -> str:
        """Press Run: the id of the new run."""
        deployment = self.deployment(name)
        config = json.loads(json.dumps(deployment["parameters"]["config"]))
        config["name"] = train.pop("model", config["name"])
        config["train"].update(train)
        body = {"parameters": {"config": config}, "state": {"type": "SCHEDULED"}}
        answer = self.send("POST", f"/deployments/{deployment['id']}/create_flow_run", json=body)
        return str(answer.raise_for_status().json()["id"])

    def state(self, run: str) -> str:
        return str(self.send("GET", f"/flow_runs/{run}").raise_for_status().json()["state_name"])

    def log(self, run: str) -> list[str]:
        """The lines that the pages show of a run."""
        answer = self.send("POST", "/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}})
        return [line["message"] for line in answer.raise_for_status().json()]

    def ended(self, run: str, seconds: float = 60.0) -> str:
        """The name of the state that the run ends in."""
        final = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"}
        return str(wait_for(lambda: (name := self.state(run)) in final and name, seconds))


@pytest.fixture(scope="module")
def api(running_stack: Any) -> Iterator[Api]:
    made = Api(running_stack)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that keeps what is posted to it; its address and what came."""
    letters: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            letters.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", letters
    server.shutdown()
    server.server_close()


def test_up_says_where_everything_is_and_what_to_click(running_stack: Any) -> None:
    text = running_stack.output.read_text()
    assert f"http://127.0.0.1:{running_stack.prefect_port}" in text
    assert f"http://127.0.0.1:{running_stack.mlflow_port}" in text
    first = text[text.index("Ready in") :].split("http://")[1].split()[0]
    assert first.startswith(f"127.0.0.1:{running_stack.prefect_port}/v2/deployments")
    assert "…" not in text  # addresses are whole in a narrow terminal too
    assert "Quick run" in text
    assert "Traceback" not in text


def test_status_finds_everything_well(running_stack: Any) -> None:
    done = command(running_stack, "status")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("prefect", "mlflow", "worker"):
        assert name in done.stdout
    assert "red" not in done.stdout


@pytest.mark.parametrize("own", ["", "http://127.0.0.1:9/api"])
def test_a_command_joins_the_running_stack_unless_it_is_told_another(running_stack: Any, own: str) -> None:
    code = (
        "import os; from flows.environment import joined, prepare; prepare(); print(joined()); "
        "print(os.environ['PREFECT_API_URL'], os.environ['MLFLOW_TRACKING_URI']); "
        "from storage.registry import identity; print(identity())"
    )
    more = {"PREFECT_API_URL": own} if own else {}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**running_stack.environment, **more}, cwd=running_stack.home,
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    line, addresses, registry = done.stdout.splitlines()
    mlflow = f"http://127.0.0.1:{running_stack.mlflow_port}"
    assert addresses == f"{own or running_stack.api} {mlflow}"
    prefect = "" if own else f"Prefect {running_stack.api.removesuffix('/api')}, "
    assert line == f"Joining the stack that runs here: {prefect}MLflow {mlflow}"
    alone = identity(f"sqlite:///{running_stack.home}/mlflow/mlflow.db")
    assert registry == alone, "a model that a run without the stack registered is no other one"


def test_all_listen_on_loopback_only(running_stack: Any) -> None:
    listening = set()
    for service in running_stack.state()["services"]:
        process = psutil.Process(service["pid"])
        for one in (process, *process.children(recursive=True)):
            listening |= {c.laddr.ip for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening
    assert listening <= {"127.0.0.1", "::1"}


def test_a_second_up_in_the_same_home_says_where_the_first_is(running_stack: Any) -> None:
    done = command(running_stack, "up", "--prefect-port", "1")
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert f"http://127.0.0.1:{running_stack.prefect_port}" in " ".join(done.stderr.split())


def test_a_second_up_elsewhere_is_told_who_has_the_port(running_stack: Any, tmp_path: Path) -> None:
    port = str(running_stack.prefect_port)
    done = command(running_stack, "up", "--prefect-port", port, MODELMILL_HOME=str(tmp_path / "other"))
    words = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert f"Port {port} is taken by" in words
    assert "prefect_server server start" in words
    assert "--prefect-port" in words


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [("--cron", "at night", "no cron line"), ("--time-zone", "Europe/Berln", "did you mean Europe/Berlin")],
)
def test_a_wrong_schedule_is_refused_at_once(
    running_stack: Any, tmp_path: Path, option: str, value: str, complaint: str
) -> None:
    done = command(running_stack, "up", option, value, MODELMILL_HOME=str(tmp_path / "other"))
    assert done.returncode == 1
    assert complaint in " ".join(done.stderr.split())


def test_the_pages_ask_the_right_address(running_stack: Any) -> None:
    settings = httpx.get(f"{running_stack.api.removesuffix('/api')}/ui-settings", trust_env=False).json()
    assert settings["api_url"] == running_stack.api


def test_mlflow_answers_to_its_own_names_alone(running_stack: Any) -> None:
    url = f"http://127.0.0.1:{running_stack.mlflow_port}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx.get(url, trust_env=False).status_code == 200
    assert httpx.get(url, headers={"Host": "evil.example"}, trust_env=False).status_code == 403


def test_a_value_out_of_bounds_is_refused_in_the_form(api: Api) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        api.run("on-demand", seconds=-1)
    assert refused.value.response.status_code == 409
    assert "seconds" in refused.value.response.text


def test_runs_end_and_failure_promotion_and_refusal_are_posted_to_the_webhook(
    running_stack: Any, api: Api, inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    address, letters = inbox
    subprocess.run(
        [sys.executable, "-m", "flows.automations", "--webhook", address],
        env={**running_stack.environment, "PREFECT_API_URL": running_stack.api},
        check=True,
        capture_output=True,
        timeout=180,
    )
    time.sleep(1.0)  # the server's triggers take up new automations within a moment
    good, bad = api.run("on-demand", seconds=0), api.run("on-demand", seconds=0, model="fail")
    assert api.ended(good) == "Completed"
    assert api.ended(bad) == "Failed"
    wait_for(lambda: "mini mini: slept for 0 s" in api.log(good))
    found = wait_for(lambda: {letter["event"]: letter for letter in letters if len(letters) >= 3})
    assert found["modelmill.model.promoted"]["reasons"] == ["it is the first"]
    assert found["modelmill.model.refused"]["reasons"] == ["worse by 0.1 bits per byte", 'and "quotes"']
    assert 'told to "fail"' in found["prefect.flow-run.Failed"]["message"]
    page = f"{running_stack.api.removesuffix('/api')}/v2/runs/flow-run/{bad}"
    assert found["prefect.flow-run.Failed"]["url"] == page


def test_a_schedule_fires_the_next_run_is_cancelled_and_a_killed_one_frees_its_slot(
    running_stack: Any, api: Api
) -> None:
    nightly = api.deployment("nightly")
    config = {**nightly["parameters"]["config"], "name": "by-the-clock"}
    config["train"] = {**config["train"], "seconds": 300}
    soon = datetime.now(UTC) + timedelta(seconds=6)
    hourly = {"interval": 3600, "anchor_date": soon.isoformat(), "timezone": "UTC"}
    schedule = {"schedule": hourly, "active": True, "parameters": {"config": config}}
    made = api.send("POST", f"/deployments/{nightly['id']}/schedules", json=[schedule])
    assert made.status_code == 201, made.text
    wanted = {
        "deployments": {"id": {"any_": [nightly["id"]]}},
        "flow_runs": {"state": {"name": {"any_": ["Running"]}}},
    }
    [first] = wait_for(lambda: api.send("POST", "/flow_runs/filter", json=wanted).json())
    assert first["auto_scheduled"]
    assert first["parameters"]["config"]["name"] == "by-the-clock"
    api.send("DELETE", f"/deployments/{nightly['id']}/schedules/{made.json()[0]['id']}")
    assert api.ended(api.run("nightly", seconds=0)) == "Cancelled"
    assert api.state(first["id"]) == "Running"
    (process,) = flow_runs(running_stack.state()["mark"])
    process.kill()
    assert api.ended(first["id"]) == "Crashed"
    assert api.ended(api.run("nightly", seconds=0)) == "Completed"


def test_a_killed_worker_is_replaced_and_status_says_so(running_stack: Any) -> None:
    worker = next(s["pid"] for s in running_stack.state()["services"] if s["name"] == "worker")
    os.kill(worker, signal.SIGKILL)

    def told() -> str:
        done = command(running_stack, "status")
        return done.stdout if "killed by SIGKILL" in done.stdout else ""

    assert "started again once: killed by SIGKILL" in wait_for(told)


def test_idle_memory_stays_under_the_budget(running_stack: Any) -> None:
    processes = [*marked(running_stack.state()["mark"]), psutil.Process(running_stack.process.pid)]
    total = sum(process.memory_full_info().pss for process in processes)
    assert total < 1.2e9, f"{total / 1e6:.0f} MB"


def test_zz_down_ends_everything(running_stack: Any) -> None:
    mark = running_stack.state()["mark"]
    assert all(process.environ()[MARK] == mark for process in marked(mark))
    done = command(running_stack, "down")
    assert done.returncode == 0
    assert running_stack.process.wait(10) == 0
    assert list(marked(mark)) == []
    for port in (running_stack.prefect_port, running_stack.mlflow_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert command(running_stack, "status").returncode == 3
