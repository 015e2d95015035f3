"""The curve reaches MLflow in batches, over interruptions and dead servers, and never holds training up."""

import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from storage.tracking import STATE, CurveLogger, naming_runs_after, read_state

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "home"))


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    points = mlflow.MlflowClient(tracking_uri=uri).get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


@pytest.mark.filterwarnings("default")
def test_a_resumed_curve_goes_on_in_the_same_run_without_repeats(uri: str, tmp_path: Path) -> None:
    c = CurveLogger(tmp_path, name="a", params={"steps": 9}, uri=uri)

    def cut_off() -> None:
        with c:
            for step in range(1, 1501):
                c.log(step, {"loss": 1.0 / step, "heldout_loss": None})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    run_id = c.run_id
    client = mlflow.MlflowClient(tracking_uri=uri)
    assert client.get_run(run_id).info.status == "FAILED"
    assert client.get_run(run_id).data.params == {"steps": "9"}
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as c:
        for step in range(1400, 1601):
            c.log(step, {"loss": 1.0 / step})
    assert c.run_id == run_id
    assert history(uri, run_id, "loss") == [(step, 1.0 / step) for step in range(1, 1601)]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert c.unsent == 0


@pytest.mark.filterwarnings("default")
def test_a_curve_that_was_killed_between_two_requests_has_every_value_of_every_step(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, killed = mlflow.MlflowClient.log_batch, tmp_path / "killed"
    killed.mkdir()

    def once(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", dying)
        send(*args, **kwargs)

    def dying(*_args: Any, **_kwargs: Any) -> None:
        shutil.copy(tmp_path / STATE, killed)
        raise ConnectionError

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", once)
    names = ("loss", "lr", "grad_norm")
    steps = [(step, dict.fromkeys(names, 1.0 / step)) for step in range(1, 401)]
    for folder in (tmp_path, killed):
        with CurveLogger(folder, name="a", params={}, uri=uri) as curve:
            for step, values in steps:
                curve.log(step, values)
            while not (killed / STATE).exists():
                time.sleep(0.05)
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", send)
    for name in names:
        assert history(uri, curve.run_id, name) == [(step, 1.0 / step) for step, _ in steps]


@pytest.mark.filterwarnings("default")
def test_what_is_told_of_a_step_after_its_loss_was_sent_reaches_the_curve(uri: str, tmp_path: Path) -> None:
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as curve:
        curve.log(40, {"loss": 2.0})
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as curve:
        curve.log(40, {"loss": 2.0})
        curve.log(40, {"heldout_loss": 3.0})  # the stop came between the two
    assert history(uri, curve.run_id, "loss") == [(40, 2.0)]
    assert history(uri, curve.run_id, "heldout_loss") == [(40, 3.0)]


@pytest.mark.filterwarnings("default")
def test_what_a_restarted_process_repeats_comes_once_and_what_a_rewound_one_does_anew(
    uri: str, tmp_path: Path
) -> None:
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as curve:
        for step in (1, 2, 3, 2, 3, 4):
            curve.log(step, {"loss": 1.0 / step})
        curve.go_back(2)
        for step in (2, 3):
            curve.log(step, {"loss": 9.0})
    told = [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (3, 9.0), (4, 1 / 4)]
    assert history(uri, curve.run_id, "loss") == told
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as curve:
        for step in (1, 2, 3, 4):
            curve.log(step, {"loss": 9.0})
    assert history(uri, curve.run_id, "loss") == [*told, (4, 9.0)]


@pytest.mark.filterwarnings("default")
def test_points_that_found_no_server_are_kept_and_sent_later(uri: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with CurveLogger(tmp_path, name="a", params={}, uri=dead) as curve:
        curve.log(1, {"loss": 2.0})
    assert time.monotonic() - started < 30
    assert curve.unsent == 1
    assert len(json.loads((tmp_path / STATE).read_text())["unsent"]) == 1
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as curve:
        curve.log(1, {"loss": 2.0})  # told again by the training, and kept already
        curve.log(2, {"loss": 1.0})
    assert history(uri, curve.run_id, "loss") == [(1, 2.0), (2, 1.0)]


@pytest.mark.filterwarnings("default")
def test_another_server_gets_the_whole_curve_of_a_resumed_training(uri: str, tmp_path: Path) -> None:
    with CurveLogger(tmp_path, name="a", params={}, uri=uri) as curve:
        curve.log(1, {"loss": 2.0})
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"
    with CurveLogger(tmp_path, name="a", params={}, uri=elsewhere) as curve:
        for step in (1, 2):  # what an earlier start has told is told again
            curve.log(step, {"loss": 2.0 / step})
    assert history(elsewhere, curve.run_id, "loss") == [(1, 2.0), (2, 1.0)]


def test_a_run_is_named_after_the_model_in_training(uri: str, tmp_path: Path) -> None:
    with naming_runs_after("news"), CurveLogger(tmp_path, name="pretrain-1a2b", params={}, uri=uri) as curve:
        curve.log(1, {"loss": 2.0})
    run = mlflow.MlflowClient(tracking_uri=uri).get_run(curve.run_id)
    assert run.info.run_name == "news-pretrain-1a2b"


def test_a_torn_state_file_is_no_state(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text('{"run_id": "a')
    assert read_state(tmp_path) == {}
