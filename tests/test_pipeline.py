"""The whole chain on a real crawl: what it makes, what a second run does, what an edit sets off."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.config import PipelineConfig
from flows.loading import check
from flows.show import next_steps
from storage.artifacts import Artifact
from storage.store import Store, open_store
from tasks.web.urls import host_of

CONFIG: dict[str, Any] = {
    "name": "chained",
    "sources": ["pydoc:stdlib"],
    "ingest": {"crawl": {"max_pages": 25}},
    "tokenize": {"vocab_size": 400},
    "train": {
        "model": {"layers": 1, "heads": 1, "width": 16, "context": 32},
        "steps": 12,
        "batch_sequences": 2,
        "schedule": {"warmup_steps": 2},
        "held_out": {"every_steps": 6, "sequences": 2},
        "hardware": {"threads": 1},
    },
    "evaluate": {
        "samples": {"prompts": ["The "], "per_prompt": 1, "max_new_tokens": 8},
        "memorization": {"windows": 4, "repeated": 2, "prefix_tokens": 8, "continuation_tokens": 4},
    },
}
STAGES = [
    "fetch",
    "ingest",
    "clean",
    "deduplicate",
    "hold_out",
    "exclude",
    "train_tokenizer",
    "tokenize",
    "pretrain",
    "evaluate",
    "register",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


def config(**changes: Any) -> PipelineConfig:
    from flows.presets import tiny

    values = tiny().model_dump(mode="json")
    for section, value in {**CONFIG, **changes}.items():
        values[section] = {**values[section], **value} if isinstance(value, dict) else value
    return check(values)


TOLD: list[dict[str, Any]] = []
"""What the runs told the world, as Prefect events."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_api: None) -> Iterator[Path]:
    """One home for the module, in which the pipeline has run once."""
    path = tmp_path_factory.mktemp("pipeline") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELMILL_HOME", str(path))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}/mlflow/mlflow.db")
        patch.setattr(
            "flows.announcements.emit_event", lambda name, **event: TOLD.append({"event": name, **event})
        )
        (path / "mlflow").mkdir(parents=True)
        states = run(config())
        assert states == dict.fromkeys(STAGES, "completed")
        yield path


def run(settings: PipelineConfig) -> dict[str, str]:
    """Run the flow; gives each stage's state."""
    from flows.pipeline import pipeline
    from flows.runs import run_notes

    pipeline(settings)
    note = next(run_notes(open_store(), settings.name))
    return {entry["stage"]: entry["state"] for entry in note["entries"]}


def only(store: Store, kind: str) -> Artifact:
    [artifact] = store.artifacts(kind)
    return artifact


def command(*arguments: str) -> str:
    from flows.cli import app

    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_second_run_finds_every_stage_cached_and_says_so(
    home: Path, run_log: list[logging.LogRecord]
) -> None:
    assert run(config()) == dict.fromkeys(STAGES, "cached")
    lines = [record.getMessage() for record in run_log]
    assert lines[0] == "fetch pydoc:stdlib: taken from the store"
    assert lines[-1] == "register: taken from the store"
    assert len(lines) == len(STAGES)


def test_workers_are_called_beforehand_where_there_is_something_to_extract(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import parts

    called: list[str] = []
    monkeypatch.setattr(parts, "start_workers", lambda *modules: called.extend(modules))
    fetched: list[Any] = [only(open_store(), "fetch")]
    parts.call_workers(config(), fetched)
    assert not called
    parts.call_workers(config(extract={"mode": "quality"}), fetched)
    assert called == ["tasks.text.pages", "tasks.text.cleaning", "tasks.text.block_extract"]


def test_what_became_of_the_model_is_told_once(home: Path) -> None:
    run(config())
    version = only(open_store(), "register")
    [told] = TOLD
    assert told["resource"]["prefect.resource.id"] == "modelmill.model.chained"
    assert told["payload"]["version"] == version.stats["version"]
    assert told["payload"]["reasons"] == version.stats["reasons"]
    promoted = "champion" in version.stats["aliases"]
    assert told["event"] == f"modelmill.model.{'promoted' if promoted else 'refused'}"


def test_explain_says_so_beforehand(home: Path) -> None:
    from flows.explain import explain

    assert {step.verdict for step in explain(config()).steps} == {"cached"}


def test_explain_names_the_field_that_changed_and_what_follows(home: Path) -> None:
    from flows.explain import explain

    changed = config(train={**CONFIG["train"], "steps": 13})
    steps = {step.stage: step for step in explain(changed).steps}
    assert [name for name, step in steps.items() if step.verdict != "cached"] == [
        "pretrain",
        "evaluate",
        "register",
    ]
    assert steps["pretrain"].reasons == ("config train.steps: 12 → 13",)


def test_explain_names_the_code_module_that_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.explain import explain
    from tasks import fingerprint

    honest = fingerprint.code_digests("tasks.clean")
    edited = {**honest, "tasks.text.quality_signals": "0" * 16}
    real = fingerprint.code_digests
    monkeypatch.setattr(
        "tasks.stage.code_digests", lambda name: edited if name == "tasks.clean" else real(name)
    )
    steps = {step.stage: step for step in explain(config()).steps}
    assert steps["clean"].reasons == ("code module tasks.text.quality_signals changed",)
    assert steps["ingest"].verdict == "cached"
    assert steps["deduplicate"].verdict == "depends"


@pytest.mark.parametrize("stage", ["deduplicate", "tokenize"])
def test_deleting_an_artifact_runs_that_stage_and_no_other(home: Path, stage: str) -> None:
    shutil.rmtree(Path(only(open_store(), stage).uri))
    assert run(config()) == {**dict.fromkeys(STAGES, "cached"), stage: "completed"}


def part(kind: type[Any], **more: Any) -> Any:
    """The fields of the whole configuration that a stretch of the pipeline has too."""
    whole = config()
    return kind(**{name: getattr(whole, name) for name in kind.model_fields if hasattr(whole, name)}, **more)


def test_the_stretches_of_the_pipeline_find_what_the_whole_has_made(home: Path) -> None:
    from flows.config import CorpusConfig, EvaluationConfig, TrainingConfig
    from flows.runs import run_notes
    from flows.steps import evaluate_model, ingest_and_clean, train

    store = open_store()
    corpus, model, report = (only(store, kind) for kind in ("deduplicate", "pretrain", "evaluate"))
    assert ingest_and_clean(part(CorpusConfig))["corpus"] == f"deduplicate/{corpus.key}"
    assert train(part(TrainingConfig))["model_digest"] == model.digest
    found = evaluate_model(part(EvaluationConfig, model="models:/chained/1"))
    assert found == {"report": f"evaluate/{report.key}", "model": "models:/chained/1"}
    found = evaluate_model(part(EvaluationConfig, into_registry=False))
    assert found == {"report": f"evaluate/{report.key}"}
    latest = [note for _, note in zip(range(4), run_notes(store, "chained"), strict=False)]
    states = [{e["stage"]: e["state"] for e in note["entries"]} for note in reversed(latest)]
    assert [list(run) for run in states] == [STAGES[:4], STAGES[4:9], STAGES[9:], STAGES[9:10]]
    assert {state for run in states for state in run.values()} == {"cached"}


def test_a_stretch_without_its_input_says_what_is_missing(home: Path) -> None:
    from flows.config import TrainingConfig
    from flows.steps import train
    from storage.errors import ArtifactMissingError

    with pytest.raises(ArtifactMissingError, match="no run of elsewhere has left an artifact of deduplicate"):
        train(TrainingConfig(name="elsewhere"))
    model = only(open_store(), "pretrain")
    with pytest.raises(ArtifactMissingError, match="wanted is one of deduplicate"):
        train(TrainingConfig(name="chained", corpus=f"pretrain/{model.key[:12]}"))


def test_a_shard_opens_with_datasets_and_so_does_the_set(home: Path) -> None:
    shards = only(open_store(), "tokenize")
    folder = open_store().open(shards)
    whole = datasets.load_from_disk(str(folder))
    training = [p.name for p in shards.parts if p.name.endswith(".arrow") and "held" not in p.name]
    single = datasets.Dataset.from_file(str(folder / training[0]))
    assert {"doc_id", "url", "source_sha256", "input_ids"} <= set(single.column_names)
    assert len(whole) == shards.stats["documents"]
    assert sum(len(ids) for ids in whole["input_ids"]) == shards.stats["tokens"]


def test_the_ids_of_a_shard_are_one_mapped_array(home: Path) -> None:
    from storage.token_shards import open_shard

    shards = only(open_store(), "tokenize")
    [name] = [p.name for p in shards.parts if p.name.endswith(".arrow") and "held" not in p.name]
    before = pa.total_allocated_bytes()
    view = open_shard(open_store().open(shards) / name)
    assert view.ids.dtype == np.uint16
    assert not view.ids.flags.owndata
    assert pa.total_allocated_bytes() - before < 4096


def test_held_out_documents_are_not_trained_on(home: Path) -> None:
    from storage.documents import read_rows

    store = open_store()
    held = {
        r["doc_id"] for r in read_rows(store.open(only(store, "hold_out")) / "heldout.parquet", ["doc_id"])
    }
    trained = set(datasets.load_from_disk(str(store.open(only(store, "tokenize"))))["doc_id"])
    assert held
    assert not held & trained


def test_the_model_loads_in_transformers_and_its_tokenizer_gives_the_same_ids(home: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    store = open_store()
    folder = store.open(only(store, "pretrain")) / "hf"
    model, tokenizer = GPT2LMHeadModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = datasets.load_from_disk(str(store.open(only(store, "tokenize"))))
    assert model.config.vocab_size == only(store, "train_tokenizer").stats["vocab_size"]
    assert tokenizer.decode(rows[0]["input_ids"][:-1]) != ""


def test_why_and_lineage_follow_a_page_into_its_tokens(home: Path) -> None:
    store = open_store()
    row = datasets.load_from_disk(str(store.open(only(store, "tokenize"))))[0]
    fates = json.loads(command("why", row["url"], "--json"))
    tokens = [fate for fate in fates if fate["outcome"] == "tokens"]
    assert tokens[0]["tokens"] == len(row["input_ids"])
    model = only(store, "pretrain")
    traced = json.loads(command("lineage", f"pretrain/{model.key}", "--url", row["url"], "--json"))
    assert [fate["stage"] for fate in traced if fate["outcome"] == "present"][:2] == ["ingest", "clean"]


def test_in_a_pipe_a_row_is_a_line_and_a_domain_is_counted_up(home: Path) -> None:
    store = open_store()
    row = datasets.load_from_disk(str(store.open(only(store, "tokenize"))))[0]
    shards = only(store, "tokenize")
    arguments = ["lineage", f"pretrain/{only(store, 'pretrain').key}", "--domain", host_of(row["url"])]
    said = subprocess.run(
        [Path(sys.executable).with_name("modelmill"), *arguments],
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    place = f"tokenize/{shards.key[:12]}/shard-00000.arrow from token 0"
    assert any(row["url"] in line and place in line for line in said.splitlines())
    trained, tokens = shards.stats["documents"], f"{shards.stats['tokens']:,}"
    held_out = only(store, "hold_out").stats["documents"]
    [counted] = [line for line in said.splitlines() if line.startswith("tokenize: ")]
    assert set(counted.removeprefix("tokenize: ").split(", ")) == {
        f"{held_out} held out",
        f"{trained} trained on",
        f"{tokens} tokens",
    }


def test_what_to_try_next_is_written_as_the_command_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=200)
    version = {"aliases": ["champion"], "name": "mini", "version": "1"}
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", [".venv/bin/modelmill", "run", "--config", "my own.yaml"])
    next_steps(console, version, "The ")
    said = console.export_text()
    assert "  .venv/bin/modelmill lineage models:/mini@champion" in said
    assert "  .venv/bin/modelmill explain --config 'my own.yaml'" in said
    monkeypatch.setattr("sys.argv", ["-m"])
    next_steps(console, version, "The ")
    assert "  modelmill lineage models:/mini@champion" in console.export_text()


def test_verify_names_the_shard_in_which_one_byte_was_flipped(home: Path) -> None:
    store = open_store()
    shards = only(store, "tokenize")
    [name] = [p.name for p in shards.parts if p.name.endswith(".arrow") and "held" not in p.name]
    path = store.open(shards) / name
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    try:
        [damage] = store.verify(shards)
        assert damage.path == str(path)
    finally:
        content[-100] ^= 1
        path.write_bytes(content)
    assert "all as committed" in command("verify")


def test_gc_keeps_what_runs_and_models_need(home: Path) -> None:
    assert "0 artifacts" in command("gc", "--grace-hours", "0")


def test_the_run_has_a_page_that_needs_nothing_else(home: Path) -> None:
    from flows.run_report import page_of
    from storage.registry import connect

    version = only(open_store(), "register")
    page = page_of(version.stats).read_text(encoding="utf-8")
    assert page_of(version.stats).parent == home / "reports"
    for heading in ("Stages", "Documents", "Length of", "bits per byte", "Pictures", "Samples", "Model card"):
        assert f">{heading}" in page or heading in page
    assert page.count("src='data:image/png;base64,") == 2
    assert not [mark for mark in ("<script", "<link", "src='http", 'src="http', "@import") if mark in page]
    logged = connect().list_artifacts(version.stats["run_id"], "report")
    assert [file.path for file in logged] == ["report/chained-1.html"]


def trains_without(url: str, corpus: Artifact) -> None:
    """Training by itself on a corpus that still has a page which was taken down leaves the page out."""
    from flows.config import TrainingConfig
    from flows.runs import entries_of, run_notes
    from flows.steps import train
    from flows.tracing import fates

    train(part(TrainingConfig, corpus=f"deduplicate/{corpus.key}"))
    store = open_store()
    entries = entries_of(store, next(run_notes(store, "chained")))
    made = [entry.artifact for entry in entries if entry.artifact is not None]
    found = [(fate.stage, fate.outcome, fate.reason) for fate in fates(store, [corpus, *made], "url", url)]
    assert found == [("deduplicate", "present", ""), ("exclude", "dropped", "taken_down")]


def test_a_page_that_was_taken_down_is_in_nothing_that_the_next_run_makes(home: Path) -> None:
    from flows.runs import entries_of, run_notes
    from flows.tracing import fates

    url = datasets.load_from_disk(str(open_store().open(only(open_store(), "tokenize"))))[0]["url"]
    before = only(open_store(), "deduplicate")
    said = command("forget", "--url", url)
    assert "models:/chained/1" in said
    states = run(config())
    assert (states["fetch"], states["ingest"]) == ("cached", "cached")
    assert {states[stage] for stage in ("take_down", "clean", "deduplicate", "tokenize")} == {"completed"}
    store = open_store()
    entries = entries_of(store, next(run_notes(store, "chained")))
    made = [e.artifact for e in entries if e.artifact is not None and e.stage not in ("fetch", "ingest")]
    found = [(fate.stage, fate.outcome, fate.reason) for fate in fates(store, made, "url", url)]
    assert found == [("take_down", "dropped", "taken_down")]
    trains_without(url, before)
    last = {entry.stage: entry.artifact for entry in entries if entry.artifact is not None}
    card = (store.open(last["register"]) / "README.md").read_text()
    assert f"| clean | 1 | {last['clean'].stats['documents']:,} |" in card, "what it was made from alone"
    assert f"`{last['hold_out'].digest}`" in card
    again = run(config())
    assert set(again.values()) == {"cached"}
    command("forget", "--withdraw", "--url", url)
    withdrawn = run(config())
    assert set(withdrawn.values()) == {"cached"}
    assert "take_down" not in withdrawn
    entries = entries_of(store, next(run_notes(store, "chained")))
    [shards] = [entry.artifact for entry in entries if entry.stage == "tokenize" and entry.artifact]
    assert [fate.outcome for fate in fates(store, [shards], "url", url)] == ["tokens"], "the page is back"
