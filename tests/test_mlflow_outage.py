"""An MLflow server that is killed in the middle of a registration and started again, or not."""

import json
import multiprocessing
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow
from registry_world import EVALUATION, LENIENT, World, world_in

from flows.failures import explain_failure
from flows.starting import warn_of_mlflow
from storage import champions, mlflow_server, model_log, registry
from storage.artifacts import Artifact
from storage.mlflow_outage import MlflowUnreachableError, why_away
from tasks.evaluation import evaluate
from tasks.registration import register

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.usefixtures("prefect_api"),
]

NAME = "outage"


class Server:
    """MLflow's own server on one port, which can die as by kill -9 and come back to the same database.

    It is forked from a process that has imported MLflow's server, which else takes most of a start's time.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.uri, artifacts = f"http://127.0.0.1:{port}", (folder / "artifacts").as_uri()
        self._arguments = ["--port", str(port), "--backend", f"sqlite:///{folder}/mlflow.db"]
        self._arguments += ["--artifacts", artifacts, "--allowed-hosts", "*"]
        self._fork = multiprocessing.get_context("forkserver")
        self._fork.set_forkserver_preload(["uvicorn", "mlflow.server.fastapi_app"])
        self._process: Any = None

    def start(self) -> None:
        """Start it."""
        self._process = self._fork.Process(target=mlflow_server.main, args=(self._arguments,), daemon=True)
        self._process.start()

    def wait(self) -> None:
        """Return when it answers."""
        for _ in range(600):
            try:
                httpx.get(f"{self.uri}/health").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"nothing answers at {self.uri}")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with models to register."""
    with world_in(tmp_path_factory.mktemp("home")) as made:
        yield made


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that is taken, so that nobody else listens on it, and refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server that several tests kill and start again."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:  # the server reads them while it is imported
        for name, value in mlflow_server.settings(f"sqlite:///{folder}/mlflow.db", "", "", "*").items():
            patch.setenv(name, value)
        made = Server(folder, free_port())
        made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def models(one_server: Server, world: World) -> list[tuple[Artifact, Artifact]]:
    """Two models, the second better, and their reports; made while the server starts."""
    trained = [world.trained(world.train(steps)) for steps in (60, 250)]
    return [(model, evaluate.run_now(model, world.shards, world.heldout, EVALUATION)) for model in trained]


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that answers, a client that tries again once, and a stage that does so without waiting."""
    one_server.wait()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one_server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # so that it is the stage that tries again
    monkeypatch.setattr(register.task, "retry_delay_seconds", [0.0])
    return one_server


@flow
def registering(world: World, model: Artifact, report: Artifact, attempt: str = "") -> Artifact:
    """A registration as a flow; another ``attempt`` is another one."""
    return register(NAME, model, report, world.shards, LENIENT, attempt)


def dying_after(server: Server, monkeypatch: pytest.MonkeyPatch, place: Any, function: str) -> None:
    """Have the server die when a function has ended for the first time."""
    work = getattr(place, function)

    def once(*args: Any, **kwargs: Any) -> Any:
        result = work(*args, **kwargs)
        monkeypatch.setattr(place, function, work)
        server.kill()
        return result

    monkeypatch.setattr(place, function, once)


def back_before_the_next_try(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the server come back when the stage has failed; what it failed with is in the list then."""
    can_succeed, failures = register.task.retry_condition_fn, []

    def start_and_ask(task: Any, run: Any, state: Any) -> bool:
        failures.append(str(state.message))
        server.start()
        server.wait()
        return bool(can_succeed(task, run, state))  # type: ignore[misc]

    monkeypatch.setattr(register.task, "retry_condition_fn", start_and_ask)
    return failures


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
    assert registering(world, *models[0]).stats["version"] == "1", "once for all"
    dying_after(server, monkeypatch, place, function)
    failures = back_before_the_next_try(server, monkeypatch)
    stats = registering(world, *models[1], attempt=function).stats
    assert len(failures) == 1
    assert "MlflowUnreachableError" in failures[0]
    assert (stats["decision"], stats["compared_with"]) == ("promoted", "1")
    assert stats["aliases"] == ["candidate", "champion"]
    client = registry.connect()
    versions = client.search_model_versions(f"name = '{NAME}'")
    registrations = {version.tags[model_log.REGISTRATION] for version in versions}
    assert len(registrations) == len(versions), "none has two versions"
    run = client.get_run(stats["run_id"])
    table = model_log.run_file(client, run.info.run_id, "evaluation/slices.json")
    assert table is not None
    rows = [str(row) for row in json.loads(table.read_text(encoding="utf-8"))["data"]]
    assert len(rows) == len(set(rows)), "nothing is there twice"
    assert len(client.get_metric_history(run.info.run_id, "bits_per_byte")) == 1
    runs = client.search_runs([run.info.experiment_id], f"params.name = '{NAME}'")
    assert [other.info.status for other in runs] == ["FINISHED"] * len(versions), "no run is left behind"
    assert champions.rollback(client, NAME, reason="it was a test").version == "1"


def test_an_mlflow_that_stays_away_is_named_with_the_mend(
    world: World,
    models: list[tuple[Artifact, Artifact]],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying_after(server, monkeypatch, model_log, "open_run")
    with pytest.raises(MlflowUnreachableError) as caught:
        registering(world, *models[0], attempt="away")
    sentence = explain_failure(caught.value) or ""
    assert f"MLflow at {server.uri} does not answer: [Errno 111] Connection refused" in sentence
    with pytest.raises(MlflowUnreachableError):
        registry.resolve(registry.connect(), f"models:/{NAME}@champion")


def test_an_mlflow_that_is_away_is_said_before_the_work(
    deaf_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{deaf_port}")
    warn_of_mlflow()
    (line,) = caplog.messages
    assert f"MLflow at http://user:***@127.0.0.1:{deaf_port} does not answer: " in line
    assert "Connection refused" in line
    assert "start it before the model is to be registered" in line


def test_nothing_is_said_of_an_mlflow_that_listens_or_needs_no_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for uri in (f"http://127.0.0.1:{port}/mlflow", f"postgresql+psycopg2://me@127.0.0.1:{port}/mlflow"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            warn_of_mlflow()
    for uri in ("sqlite:////somewhere/mlflow.db", "databricks", "http://[::1", "http://host:port"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        warn_of_mlflow()
    assert not caplog.messages


def test_what_is_behind_a_proxy_is_not_asked(deaf_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert not why_away(f"http://127.0.0.1:{deaf_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert why_away(f"http://127.0.0.1:{deaf_port}")
