"""Killed at random instants and started again, a run ends with the very model of an undisturbed one.

``MODELMILL_KILLS=10 pytest tests/test_kill.py`` kills more often than the default.
"""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

KILLS = int(os.environ.get("MODELMILL_KILLS", "2"))
CONFIG = {
    "name": "killed",
    "sources": ["pydoc:stdlib"],
    "ingest": {"crawl": {"max_pages": 60}},
    "tokenize": {"vocab_size": 512},
    "train": {
        "model": {"layers": 2, "heads": 2, "width": 32, "context": 64},
        "steps": 60,
        "batch_sequences": 4,
        "schedule": {"warmup_steps": 5},
        "held_out": {"every_steps": 20, "sequences": 4},
        "checkpoints": {"every_steps": 5},
        "hardware": {"threads": 1},
    },
}


def start(home: Path, config: Path) -> subprocess.Popen[bytes]:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "MODELMILL_"))
    }
    with (home.parent / f"{home.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", "--config", str(config)],
            env={**environment, "MODELMILL_HOME": str(home)},
            cwd=home.parent,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and everything below it, as a power loss would."""
    try:
        tree = psutil.Process(process.pid)
        victims = [*tree.children(recursive=True), tree]
    except psutil.NoSuchProcess:
        victims = []
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def model_digest(home: Path) -> str:
    [weights] = home.glob("store/pretrain/*/hf/model.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_again_and_again_makes_the_same_model(
    tmp_path: Path, new_home: Callable[[Path], Path]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    calm, wild = new_home(tmp_path / "calm"), new_home(tmp_path / "wild")

    began = time.monotonic()
    assert start(calm, config).wait() == 0, (tmp_path / "calm.log").read_text()
    duration = time.monotonic() - began

    instants = random.Random(os.environ.get("MODELMILL_KILL_SEED"))
    for _ in range(KILLS):
        process = start(wild, config)
        try:
            process.wait(timeout=instants.uniform(0.2, 1.0) * duration)
        except subprocess.TimeoutExpired:
            kill_tree(process)
    assert start(wild, config).wait() == 0, (tmp_path / "wild.log").read_text()
    assert model_digest(wild) == model_digest(calm)
