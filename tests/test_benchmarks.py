"""The benchmarks run and compare, at a size that takes seconds; what they print is never a bound."""

import re
import subprocess
import sys
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
