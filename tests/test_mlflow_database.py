"""MLflow's database is there whole or not at all, wherever the process that makes it is killed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.mlflow_database import make_database
from storage.registry import connect, experiment_id

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of sqlalchemy


def test_killed_among_the_migrations_it_is_made_anew(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from storage.registry import connect; connect(sys.argv[1])", uri]
    )
    draft = tmp_path / "mlflow.db.partial"
    while not (draft.exists() and draft.stat().st_size > 100_000):
        assert process.poll() is None, "it was made before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not database.exists()

    client = connect(uri)
    assert client.get_experiment(experiment_id(client, "after")).name == "after"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".id") == ["mlflow.db"]


def test_what_is_there_stays_and_servers_are_not_touched(tmp_path: Path) -> None:
    database = tmp_path / "mine.db"
    database.write_bytes(b"mine")
    make_database(f"sqlite:///{database}")
    make_database("http://127.0.0.1:9/")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.db"]
    assert database.read_bytes() == b"mine"
