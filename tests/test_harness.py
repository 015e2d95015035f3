"""lm-evaluation-harness on the exported folder, and our own scoring against it."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tasks.evals import minimal_pairs
from tasks.evals.config import ScoringHardware
from tasks.evals.harness import run_tasks
from tasks.evals.held_out import EvaluationError
from tasks.evals.questions_config import HarnessConfig
from tasks.evals.suite import open_subject
from tasks.gpt.export import save_hf
from tasks.gpt.model import GPT, GPTConfig
from tasks.text.files_config import FilesConfig
from tasks.tokens import bpe

TEXT = [
    "The mill turns. ",
    "Many mills turn. ",
    "A river runs by. ",
    "磨坊在转动。",
    "很多磨坊都在转动。",
] * 50
TASK = """
task: agreement
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
metric_list: [{{metric: acc}}]
"""
installed = pytest.mark.skipif(find_spec("lm_eval") is None, reason="the extra lm-eval is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model, its weights large enough for it to have opinions."""
    home = tmp_path_factory.mktemp("harness")
    tokenizer = bpe.train(TEXT, 290)
    bpe.save(tokenizer, home / "tokenizer")
    model = GPT(GPTConfig(290, n_layer=2, n_head=2, n_embd=32, block_size=48))
    model.init_weights(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    save_hf(model, home / "tokenizer", home / "hf")
    return home / "hf"


@installed
def test_minimal_pairs_are_judged_as_the_harness_judges_them(folder: Path, tmp_path: Path) -> None:
    sentences = ["The mill turns.", "The mill turn.", "Many mills turns.", "A river run by.", "磨坊在转动。"]
    pairs = [{"sentence_good": a, "sentence_bad": b} for a in sentences for b in sentences if a != b]
    file = tmp_path / "agreement.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in pairs), encoding="utf-8")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "agreement.yaml").write_text(TASK.format(file=file))
    config = HarnessConfig(tasks=("agreement",), definitions=FilesConfig(paths=(str(tasks),)))
    theirs = run_tasks(folder, config, "cpu")
    subject = open_subject(folder, ScoringHardware(device="cpu"))
    ours = minimal_pairs.measure(
        subject.model, subject.tokenizer, subject.eos, [file], most=100, batch_tokens=512
    )
    assert theirs["tasks"]["agreement"]["acc"] == pytest.approx(ours["accuracy"])
    assert theirs["version"]


@installed
def test_a_task_that_is_not_there_is_said(folder: Path) -> None:
    with pytest.raises(EvaluationError, match="no_such_task"):
        run_tasks(folder, HarnessConfig(tasks=("no_such_task",)), "cpu")


def test_without_the_extra_the_mend_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.evals.harness.find_spec", lambda _name: None)
    with pytest.raises(EvaluationError, match=r"modelmill\[lm-eval\]"):
        run_tasks(folder, HarnessConfig(tasks=("agreement",)), "cpu")
