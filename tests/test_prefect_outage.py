"""A Prefect server that dies in the middle of a run takes no stage along."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


def run(home: Path, *arguments: str) -> list[str]:
    """What the run says, one try a request, in a home of its own."""
    own = {"MODELMILL_HOME": str(home), "PREFECT_CLIENT_MAX_RETRIES": "0", "PYTHONPATH": str(DATA)}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "MODELMILL_"))}
    done = subprocess.run(
        [sys.executable, "-m", "outage_run", *arguments],
        env={**kept, **own}, cwd=home, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.slow
def test_stages_go_on_without_a_server_that_died_and_the_end_says_what_to_do(
    tmp_path: Path, new_home: Callable[[Path], Path]
) -> None:
    home = new_home(tmp_path / "home")
    said, states = run(home, "kill")
    assert states == "first completed second completed"
    assert "does not answer" in said
    assert said.endswith("Run again, which starts another: what is finished is kept.")
    assert run(home) == ["first cached second cached"]
