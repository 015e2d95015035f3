"""The Prefect server that a run has of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

START = """
from flows.environment import prepare
prepare()
from flows.embedded import embedded_prefect
server = embedded_prefect()
print("started", flush=True)
server.wait()
print("ready", flush=True)
"""


@pytest.mark.slow
def test_servers_of_runs_that_begin_at_once_in_a_new_home_both_get_ready(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**own, "MODELMILL_HOME": str(tmp_path)}
    runs = [
        subprocess.Popen([sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=300)[0].split() for run in runs]
    assert said == [["started", "ready"]] * 2, (tmp_path / "logs" / "prefect.log").read_text()
