"""Tasks of lm-evaluation-harness, on the exported folder, in a process of their own.

The harness prints, draws bars and keeps what it loads; none of that reaches the run. It is an optional extra
and much slower than our own scoring (:mod:`tasks.evals.minimal_pairs`), which it serves to check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.evals.held_out import EvaluationError
from tasks.evals.questions_config import HarnessConfig

LAST_WORDS = 2_000
"""Characters of the harness's error output that an error message holds."""


def run_tasks(folder: Path, config: HarnessConfig, device: str) -> dict[str, Any]:
    """Each task's metrics by name, and the harness's version; ``folder`` is the Hugging Face folder.

    Raises EvaluationError where the harness is not installed or ends with an error.
    """
    if find_spec("lm_eval") is None:
        raise EvaluationError(
            "evaluate.lm_eval.tasks names tasks, but lm-evaluation-harness is not installed: "
            "pip install 'modelmill[lm-eval]', or leave the list empty."
        )
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "results.json"
        order = {
            "folder": str(folder),
            "tasks": list(config.tasks),
            "definitions": sorted({str(file.resolve().parent) for file in config.definitions.files}),
            "limit": config.max_items or None,
            "device": device,
            "out": str(out),
        }
        done = subprocess.run(
            [sys.executable, "-m", "tasks.evals.harness", json.dumps(order)],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not out.exists():
            raise EvaluationError(f"lm-evaluation-harness failed:\n{done.stderr[-LAST_WORDS:]}")
        return dict(json.loads(out.read_text(encoding="utf-8")))


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"}


def _evaluate(order: dict[str, Any]) -> dict[str, Any]:
    """What the process does: the harness's results, numbers alone."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": order["folder"], "dtype": "float32"},
        tasks=order["tasks"],
        task_manager=TaskManager(include_path=order["definitions"] or None),
        device=order["device"],
        batch_size=16,
        limit=order["limit"],
        bootstrap_iters=0,
        log_samples=False,
    )
    results = {
        task: {
            metric.removesuffix(",none"): value
            for metric, value in sorted(row.items())
            if isinstance(value, int | float) and "stderr" not in metric
        }
        for task, row in sorted(found["results"].items())
    }
    return {"version": lm_eval.__version__, "tasks": results}


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    Path(spec["out"]).write_text(json.dumps(_evaluate(spec)), encoding="utf-8")
