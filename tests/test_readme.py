"""The README tells of every command, and of none that is not there."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}


def test_every_command_is_in_the_table() -> None:
    table = "\n".join(line for line in README.splitlines() if line.startswith("| `"))
    assert {name for name in COMMANDS if not re.search(rf"\b{name}\b", table)} == set()


def test_every_command_that_is_named_exists() -> None:
    named = set(re.findall(r"(?:^|[`/ ])modelmill ([a-z-]+)", README, flags=re.MULTILINE))
    assert named - COMMANDS == set()


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5
