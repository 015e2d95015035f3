"""The home folder, the store and the servers, and what is said where one cannot be had."""

import errno
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.environment import HomeError
from flows.failures import explain_failure
from flows.stack_errors import StackError
from flows.starting import warn_of_mlflow
from storage.errors import DiskFullError, StoreUnusableError
from storage.mlflow_outage import MlflowUnreachableError, answering
from storage.registry import RegistryError, connect
from storage.running import under_way
from storage.store import open_store


@pytest.mark.parametrize("command", ["run", "up", "explain", "generate"])
def test_a_home_that_cannot_be_written_to_is_named_with_the_mend(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "taken" / "home"))
    with pytest.raises(HomeError, match="MODELMILL_HOME") as caught:
        CliRunner().invoke(app, [command, *(["x"] if command == "generate" else [])], catch_exceptions=False)
    assert str(tmp_path / "taken" / "home") in (explain_failure(caught.value) or "")


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("PREFECT_API_URL", "http://prefect.invalid:4200/api"),
        ("MLFLOW_TRACKING_URI", "http://mlflow.invalid:5000"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9"),
    ],
)
def test_a_server_elsewhere_is_not_passed_over_for_its_port(
    variable: str, address: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, address)
    with pytest.raises(StackError, match=f"{variable} is {address}, where nothing answers"):
        CliRunner().invoke(app, ["up", "--host", "no.such.host.invalid"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cron", "R 3 * * *"], "is no cron line"),
        (["--webhook", "chat.example/hook"], "is no address"),
        (["--prefect-port", "5000"], "Port 5000 is asked for twice"),
    ],
)
def test_what_no_stack_can_do_is_refused_before_it_starts(
    options: list[str], complaint: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StackError, match=complaint):
        CliRunner().invoke(app, ["up", "--host", "no.such.host.invalid", *options], catch_exceptions=False)


def test_a_full_disk_ends_the_stack_with_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("flows.stack.Stack.run", full)
    with pytest.raises(DiskFullError, match=f"No room left under {home}"):
        CliRunner().invoke(app, ["up"], catch_exceptions=False)


def test_a_home_whose_path_no_database_can_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "what?"))
    with pytest.raises(HomeError, match="choose another"):
        CliRunner().invoke(app, ["gc"], catch_exceptions=False)


@pytest.mark.parametrize(
    "uri", ["./mlruns", "localhost:5000", "127.0.0.1:5000", "nothing://host", "http://["]
)
def test_an_address_at_which_mlflow_keeps_no_models_is_refused_with_one_that_is(
    uri: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(RegistryError, match=r"MLFLOW_TRACKING_URI: no models .* http://host:5000"):
        connect()
    if not uri.startswith("http"):
        with pytest.raises(RegistryError, match=r"MLFLOW_TRACKING_URI: no models"):
            warn_of_mlflow()


def test_a_database_of_mlflow_that_refuses_is_an_mlflow_that_does_not_answer() -> None:
    from sqlalchemy import create_engine

    uri = "postgresql://user:secret@127.0.0.1:9/mlflow"
    with pytest.raises(MlflowUnreachableError, match="refused") as caught, answering(uri):
        create_engine(uri).connect()
    assert "secret" not in str(caught.value)


def test_a_store_that_cannot_be_written_to_is_told_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with (
        pytest.raises(StoreUnusableError, match="Name one that you may write to with MODELMILL_STORE"),
        under_way(open_store(str(tmp_path / "taken" / "store"))),
    ):
        pytest.fail("the run went on")


def test_an_address_of_no_store_is_refused_with_what_would_be_one() -> None:
    with pytest.raises(StoreUnusableError, match=r"ftp://x/y names no store.*Give a folder or s3://"):
        open_store("ftp://x/y")
    with pytest.raises(StoreUnusableError, match=r"s3:/x/y names no store.*Give a folder or s3://"):
        open_store("s3:/x/y")


def test_a_bucket_that_does_not_answer_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # refused at once: https alone is allowed
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(Exception, match="S3") as caught:
        open_store("s3://bucket/prefix").find("clean", "0" * 32)
    said = explain_failure(caught.value)
    assert said is not None
    assert "\n" not in said
    assert "Check MODELMILL_STORE and the credentials" in said


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_a_standard_output_that_is_closed_or_full_is_no_traceback(redirect: str) -> None:
    program = f"exec {shlex.quote(sys.executable)} -m flows.cli config {redirect}"
    done = subprocess.run(["sh", "-c", program], check=False, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stderr.partition(".")[0]) == (
        (0, "") if redirect == ">&-" else (1, "modelmill: No room left on the disk")
    )
