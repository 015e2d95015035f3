"""MLflow's database is there whole or not at all, wherever the process that makes it is killed."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from storage.mlflow_database import make_database
from storage.registry import chosen, connect, experiment_id

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


@pytest.mark.parametrize("server", [False, True])
def test_moved_with_its_files_it_names_them_where_they_are(tmp_path: Path, server: bool) -> None:
    before, after = tmp_path / "家 1%", tmp_path / "elsewhere"
    before.mkdir()
    client = connect(f"sqlite:///{before}/mlflow.db")
    files = (before / "artifacts").as_uri()
    # A server gives each experiment a folder of its own.
    experiment = client.create_experiment("modelmill", artifact_location=files + "/1" * server)
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "kept", "note.txt")
    model = client.create_logged_model(experiment, name="model", source_run_id=run)
    client.log_model_artifact(model.model_id, str(before / "mlflow.db"))
    client.create_registered_model("mini")
    with chosen(client):
        client.create_model_version("mini", model.model_uri, run, model_id=model.model_id)
    client._tracking_client.store.engine.dispose()
    before.rename(after)

    client = connect(f"sqlite:///{after}/mlflow.db")
    here = (after / "artifacts").as_uri()
    assert client.get_experiment(experiment).artifact_location == here + "/1" * server
    assert Path(client.download_artifacts(run, "note.txt")).read_text(encoding="utf-8") == "kept"
    with chosen(client):
        found = Path(mlflow.artifacts.download_artifacts("models:/mini/1"))
    assert [file.name for file in found.iterdir()] == ["mlflow.db"]
    client.log_text(client.create_run(experiment).info.run_id, "new", "note.txt")
    assert not before.exists()


def test_files_that_a_database_keeps_elsewhere_stay_there(tmp_path: Path) -> None:
    (tmp_path / "home" / "artifacts").mkdir(parents=True)
    elsewhere = (tmp_path / "disk" / "artifacts").as_uri()
    client = connect(f"sqlite:///{tmp_path}/home/mlflow.db")
    experiment = client.create_experiment("modelmill", artifact_location=elsewhere)
    client.log_text(client.create_run(experiment).info.run_id, "kept", "note.txt")
    client = connect(f"sqlite:///{tmp_path}/home/mlflow.db")
    assert client.get_experiment(experiment).artifact_location == elsewhere


def test_what_a_database_refuses_is_raised_and_not_written_with_its_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("DROP TABLE registered_model_tags")
    with pytest.raises(mlflow.MlflowException, match="no such table"):
        client.create_registered_model("mini", {"a": "tag"})
    assert "Traceback" not in capfd.readouterr().err
