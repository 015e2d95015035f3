"""The home folder, and what is said where there can be none."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.environment import HomeError
from flows.failures import explain_failure
from flows.stack_errors import StackError


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
