"""The benchmarks run and compare, at a size that takes seconds; what they print is never a bound."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"


def printed(name: str, *arguments: str) -> str:
    """What a benchmark prints; fails where it fails."""
    command = [sys.executable, str(BENCH / f"bench_{name}.py"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_the_training_benchmark_compares_steps_and_finds_losses_equal() -> None:
    said = printed("training", "--toy", "--no-compile")
    rows = dict(re.findall(r"^(\w+ \w+(?: Muon)?) +([\d,]+) ", said, re.MULTILINE))
    assert {"modelmill float32", "transformers float32"} < rows.keys()
    assert any(name.endswith(" Muon") for name in rows)
    assert re.search(r"ours at best is \d+\.\d\d times the best of theirs", said)
    apart = re.search(r"float32 losses differ from transformers's by at most (\S+)$", said, re.MULTILINE)
    assert apart is not None
    assert float(apart[1]) < 1e-4


@pytest.mark.slow
def test_the_recipe_benchmark_makes_its_token_set_and_compares(real_data: Callable[[str], Path]) -> None:
    real_data("handbook")
    said = printed("recipe", "--toy", "--minutes", "0.02")
    recipes = re.findall(r"^(modelmill|nanoGPT \S+) +[\d,]+ +[\d,]+ +\d\.\d{4}$", said, re.MULTILINE)
    assert recipes == ["modelmill", "nanoGPT 0.0003", "nanoGPT 0.001", "nanoGPT 0.003"]
    assert re.search(r"^ours is -?\d+\.\d% below the best of theirs$", said, re.MULTILINE)
