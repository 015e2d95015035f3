"""The stack on the back ends of servers: two Postgres databases, and S3 for the store and MLflow's files."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

from flows.stack_processes import flow_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


def postgres_programs() -> Path:
    """The folder with initdb and postgres: on PATH, or where Debian puts them, the newest first."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if versions:
        return versions[-1].parent
    reason = "PostgreSQL's initdb is neither on PATH nor in /usr/lib/postgresql (apt-get install postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def somebody() -> dict[str, Any]:
    """Postgres refuses to run as root: whom to run it as, for subprocess."""
    if os.geteuid() != 0:
        return {}
    import pwd

    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A Postgres cluster of the tests' own on loopback; gives ``HOST:PORT``, the user is ``mill``."""
    programs, who = postgres_programs(), somebody()
    folder = Path(tempfile.mkdtemp(prefix="modelmill-postgres-", dir="/tmp"))
    if who:
        os.chown(folder, who["user"], who["group"])
    data = folder / "data"
    quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "env": {"PATH": os.environ["PATH"]}}
    init = [programs / "initdb", "-D", data, "-U", "mill", "--auth=trust", "--encoding=UTF8", "--no-locale"]
    subprocess.run([*init, "--no-sync"], check=True, timeout=240, **quiet, **who)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    with (folder / "log").open("wb") as log:
        streams: dict[str, Any] = {"stdout": log, "stderr": log}
        process = subprocess.Popen([*serve, "-c", "fsync=off"], **quiet | streams, **who)
    try:
        address = f"127.0.0.1:{port}"
        make_databases(address, process, folder / "log")
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def make_databases(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            connection = psycopg2.connect(f"postgresql://mill@{address}/postgres")
            break
        except psycopg2.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE prefect")
        cursor.execute("CREATE DATABASE mlflow")
    connection.close()


@pytest.fixture(scope="module")
def stack(
    postgres: str, s3: str, stack_starter: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A stack whose every byte is in Postgres or S3."""
    made = stack_starter(
        tmp_path_factory.mktemp("postgres") / "home",
        PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://mill@{postgres}/prefect",
        MLFLOW_BACKEND_STORE_URI=f"postgresql+psycopg2://mill@{postgres}/mlflow",
        MLFLOW_ARTIFACTS_DESTINATION=f"{s3}/mlflow",
        MODELMILL_STORE=f"{s3}/store",
    )
    yield made
    made.process.terminate()
    made.process.wait(90)


def run(stack: Any, **train: Any) -> str:
    """Press Run on the nightly deployment, which takes one at a time; the new run's id."""
    with httpx.Client(base_url=stack.api, timeout=120, trust_env=False) as http:
        deployment = http.get("/deployments/name/mini/nightly").raise_for_status().json()
        config = deployment["parameters"]["config"]
        config = {**config, "train": {**config["train"], **train}}
        answer = http.post(
            f"/deployments/{deployment['id']}/create_flow_run",
            json={"parameters": {"config": config}, "state": {"type": "SCHEDULED"}},
        )
        return str(answer.raise_for_status().json()["id"])


def becomes(stack: Any, run_id: str, *names: str) -> str:
    """Wait until a run is in one of the states named."""
    deadline = time.monotonic() + 300
    while True:
        state = httpx.get(f"{stack.api}/flow_runs/{run_id}", trust_env=False).json()["state_name"]
        if state in names:
            return str(state)
        assert time.monotonic() < deadline, f"{run_id} stays {state}"
        time.sleep(0.2)


def rows(address: str, database: str, query: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(f"postgresql://mill@{address}/{database}")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()


def objects(prefix: str) -> list[str]:
    """The names of the test bucket's objects under a prefix."""
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    answer = client.list_objects_v2(Bucket="modelmill-test", Prefix=prefix)
    client.close()
    return [entry["Key"] for entry in answer.get("Contents", [])]


def test_runs_are_in_postgres_and_their_store_is_on_s3(stack: Any, postgres: str) -> None:
    done = run(stack, seconds=0.1)
    assert becomes(stack, done, "Completed", "Failed", "Crashed") == "Completed"
    found = rows(postgres, "prefect", f"SELECT state_name FROM flow_run WHERE id = '{done}'")
    assert found == [("Completed",)]
    assert any("mini" in name for name in objects("store/"))
    assert not (stack.home / "prefect/prefect.db").exists()
    assert not (stack.home / "mlflow/mlflow.db").exists()


def test_a_model_registered_over_http_is_in_postgres_and_s3_and_comes_back(
    stack: Any, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{stack.mlflow_port}")
    from mlflow import MlflowClient

    client = MlflowClient(f"http://127.0.0.1:{stack.mlflow_port}")
    experiment = client.create_experiment("try")
    logged = client.create_run(experiment)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(os.urandom(3_000_000))
    client.log_artifact(logged.info.run_id, str(weights), "hf")
    client.create_registered_model("mini")
    version = client.create_model_version("mini", f"{logged.info.artifact_uri}/hf", logged.info.run_id)
    client.set_registered_model_alias("mini", "champion", version.version)
    assert rows(postgres, "mlflow", "SELECT name FROM registered_models") == [("mini",)]
    assert [name for name in objects("mlflow/") if name.endswith("model.safetensors")]
    found = client.get_model_version_by_alias("mini", "champion")
    assert found.run_id == logged.info.run_id
    back = Path(client.download_artifacts(found.run_id, "hf/model.safetensors", str(tmp_path / "back")))
    assert back.read_bytes() == weights.read_bytes()


def test_a_worker_killed_in_the_middle_costs_its_run_alone(stack: Any) -> None:
    lost = run(stack, seconds=300)
    becomes(stack, lost, "Running")
    state = stack.state()
    worker = next(service["pid"] for service in state["services"] if service["name"] == "worker")
    (process,) = flow_runs(state["mark"])
    os.kill(worker, signal.SIGKILL)
    process.kill()
    becomes(stack, lost, "Crashed")
    assert becomes(stack, run(stack, seconds=0), "Completed", "Cancelled", "Failed", "Crashed") == "Completed"
