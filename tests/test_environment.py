"""The home folder, and what is said where there can be none."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.environment import HomeError
from flows.failures import explain_failure


@pytest.mark.parametrize("command", ["run", "up", "explain", "generate"])
def test_a_home_that_cannot_be_written_to_is_named_with_the_mend(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "taken" / "home"))
    with pytest.raises(HomeError, match="MODELMILL_HOME") as caught:
        CliRunner().invoke(app, [command, *(["x"] if command == "generate" else [])], catch_exceptions=False)
    assert str(tmp_path / "taken" / "home") in (explain_failure(caught.value) or "")
