"""An MLflow server that is killed in the middle of a registration and started again, or not."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow
from registry_world import EVALUATION, LENIENT, World, world_in

from flows.failures import explain_failure
from storage import champions, model_log, registry
from storage.artifacts import Artifact
from storage.mlflow_outage import MlflowUnreachableError
from tasks.evaluation import evaluate
from tasks.registration import register

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.usefixtures("prefect_api"),
]


class Server:
    """MLflow's own server on one port, which can die as by kill -9 and come back to the same database."""

    def __init__(self, folder: Path, port: int) -> None:
        self.uri, self._folder, self._port = f"http://127.0.0.1:{port}", folder, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "storage.mlflow_server", "--port", str(self._port)]
        command += ["--backend", f"sqlite:///{self._folder}/mlflow.db", "--allowed-hosts", "*"]
        command += ["--artifacts", (self._folder / "artifacts").as_uri()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            try:
                httpx.get(f"{self.uri}/health").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError((self._folder / "log").read_text())

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def models(world: World) -> list[tuple[Artifact, Artifact]]:
    """Two models, the second better, and their reports."""
    trained = [world.trained(world.train(steps)) for steps in (60, 250)]
    return [(model, evaluate.run_now(model, world.shards, world.heldout, EVALUATION)) for model in trained]


@pytest.fixture(scope="module")
def one_server(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Server(tmp_path_factory.mktemp("mlflow"), port)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that answers, and a client and a stage that try again a few times."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one_server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # so that it is the stage that tries again
    monkeypatch.setattr(register.task, "retry_delay_seconds", [10.0, 10.0, 30.0])
    return one_server


@flow
def registering(world: World, name: str, model: Artifact, report: Artifact) -> Artifact:
    return register(name, model, report, world.shards, LENIENT)


def dying_after(
    server: Server, monkeypatch: pytest.MonkeyPatch, place: Any, function: str, back_after_s: float | None
) -> None:
    """Have the server die when a function has ended for the first time, and come back some seconds later."""
    work, died = getattr(place, function), threading.Event()

    def once(*args: Any, **kwargs: Any) -> Any:
        result = work(*args, **kwargs)
        if not died.is_set():
            died.set()
            server.kill()
            if back_after_s is not None:
                threading.Timer(back_after_s, server.start).start()
        return result

    monkeypatch.setattr(place, function, once)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "function"), [(model_log, "log_facts"), (champions, "promote")])
def test_a_registration_goes_on_with_what_it_had_written_when_mlflow_is_back(
    world: World,
    models: list[tuple[Artifact, Artifact]],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    function: str,
) -> None:
    name = f"outage-{function}"
    registering(world, name, *models[0])
    dying_after(server, monkeypatch, place, function, back_after_s=1.0)
    stats = registering(world, name, *models[1]).stats
    assert (stats["version"], stats["decision"], stats["compared_with"]) == ("2", "promoted", "1")
    assert stats["aliases"] == ["candidate", "champion"]
    client = registry.connect()
    assert len(client.search_model_versions(f"name = '{name}'")) == 2
    run = client.get_run(stats["run_id"])
    table = model_log.run_file(client, run.info.run_id, "evaluation/slices.json")
    assert table is not None
    rows = [str(row) for row in json.loads(table.read_text(encoding="utf-8"))["data"]]
    assert len(rows) == len(set(rows)), "nothing is there twice"
    assert len(client.get_metric_history(run.info.run_id, "bits_per_byte")) == 1
    runs = client.search_runs([run.info.experiment_id], f"params.name = '{name}'")
    assert [other.info.status for other in runs] == ["FINISHED"] * 2, "no run is left behind"
    assert champions.rollback(client, name, reason="it was a test").version == "1"


def test_an_mlflow_that_stays_away_is_named_with_the_mend(
    world: World,
    models: list[tuple[Artifact, Artifact]],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(register.task, "retry_delay_seconds", [0.0, 0.0, 0.0])
    dying_after(server, monkeypatch, model_log, "open_run", back_after_s=None)
    with pytest.raises(MlflowUnreachableError) as caught:
        registering(world, "away", *models[0])
    sentence = explain_failure(caught.value) or ""
    assert f"MLflow at {server.uri} does not answer: [Errno 111] Connection refused" in sentence
    with pytest.raises(MlflowUnreachableError):
        registry.resolve(registry.connect(), "models:/away@champion")
