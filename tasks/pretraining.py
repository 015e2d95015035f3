"""Stage `pretrain`: a process of its own trains, this one watches, tells and keeps what comes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from storage.artifacts import Artifact
from storage.tracking import STATE as MLFLOW_STATE
from storage.tracking import CurveLogger
from tasks import train_process
from tasks.gpt import metrics
from tasks.gpt.config import TrainConfig
from tasks.gpt.errors import TrainingError, TrainingHungError, TrainingKilledError
from tasks.gpt.shape import check_weights, read_shape
from tasks.gpt.supervisor import Launch, supervise, training_command, training_environment
from tasks.stage import StageRun, stage
from tasks.tokens import bpe

WORK = "work"
MODEL = "hf"
SUMMARY = "summary.json"
CURVE_POINTS = 2000
"""Steps of a run that go to MLflow at most; curve.parquet has them all."""

CURVE_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("loss", pa.float64(), nullable=False),
        pa.field("heldout_loss", pa.float64()),
        pa.field("lr", pa.float64(), nullable=False),
        pa.field("grad_norm", pa.float64(), nullable=False),
    ]
)
"""Losses in nats a token; ``tokens`` trained on so far; ``lr`` of the layers' matrices."""

TIMINGS_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("tokens_per_second", pa.float64(), nullable=False),
        pa.field("step_ms", pa.float64(), nullable=False),
        pa.field("mfu", pa.float64()),
        pa.field("memory_bytes", pa.int64(), nullable=False),
    ]
)
"""About one row a second; ``mfu`` is the share of the measured matmul ceiling."""


@stage("pretrain", summary="Train the model, from its last checkpoint where there is one", resumable=True)
def pretrain(
    run: StageRun, shards: Artifact, tokenizer: Artifact, config: TrainConfig, base: Artifact | None = None
) -> dict[str, Any]:
    """Train on token shards and keep the model's folder, its curve and its timings.

    ``base`` is what ``config.init_from`` names: the artifact whose model the training goes on from.
    """
    work = run.path / WORK
    run.volatile.update({"timings.parquet", "environment.json", MLFLOW_STATE})
    if not (run.path / SUMMARY).is_file():  # else an earlier attempt was cut off while it cleaned up
        spec = write_spec(run, shards, tokenizer, started_from(run, tokenizer, config, base))
        params = {"stage_key": run.path.name.removesuffix(".partial"), **flatten(config.model_dump())}
        with CurveLogger(run.path, name=f"pretrain-{shards.digest[:8]}", params=params) as curve:
            _train(run, spec, config, curve)
        _keep(run.path, work, config)
    _discard(work)
    summary: dict[str, Any] = json.loads((run.path / SUMMARY).read_text(encoding="utf-8"))
    run.rows["curve.parquet"] = summary["steps"]
    return summary


def started_from(
    run: StageRun, tokenizer: Artifact, config: TrainConfig, base: Artifact | None
) -> TrainConfig:
    """The settings with ``init_from`` as a local folder; nothing where new weights are drawn.

    Raises as :func:`check_base` does.
    """
    if base is None:
        return config.model_copy(update={"init_from": ""})
    folder = run.open(base) / MODEL
    check_base(folder, run.open(tokenizer), config)
    return config.model_copy(update={"init_from": str(folder)})


def check_base(folder: Path, tokenizer: Path, config: TrainConfig) -> None:
    """Whether training with these settings and this tokenizer can go on from the model in a folder.

    Raises TrainingError where the model has another shape, or another tokenizer: every id would mean
    something else; TokenizerError where it has none, ExportError where it is no GPT-2, or not a whole one.
    """
    name, found = config.init_from or folder, read_shape(folder)
    shape = {
        "layers": found.n_layer,
        "heads": found.n_head,
        "width": found.n_embd,
        "context": found.block_size,
    }
    wanted = config.model.model_dump()
    differing = [f"train.model.{key} to {value}" for key, value in shape.items() if wanted[key] != value]
    if differing:
        raise TrainingError(
            f"train.init_from: {name} is a model of another shape: set {', '.join(differing)}"
        )
    ours, theirs = bpe.load(tokenizer), bpe.load(folder)
    if _merges(ours) != _merges(theirs):
        raise TrainingError(
            f"train.init_from: {name} has another tokenizer than the run: set tokenize.adopt to {folder}"
        )
    if (entries := bpe.size_of(theirs)) != found.vocab_size:
        raise TrainingError(
            f"train.init_from: the tokenizer of {name} has {entries:,} entries and its embedding "
            f"{found.vocab_size:,} rows: cut it with transformers' model.resize_token_embeddings({entries}) "
            f"and name the folder that save_pretrained writes then"
        )
    check_weights(folder, found)


def _merges(tokenizer: Tokenizer) -> list[Any]:
    """What decides the ids, as the library writes it today: older files spell the same otherwise."""
    settings = json.loads(tokenizer.to_str())
    return [settings["model"], settings["added_tokens"]]


def write_spec(run: StageRun, shards: Artifact, tokenizer: Artifact, config: TrainConfig) -> Path:
    """The training process's spec, beside its checkpoints.

    Raises TokensError at once, before anything is started, where the shards do not fit the settings.
    """
    work = run.path / WORK
    work.mkdir(exist_ok=True)
    cached = config.hardware.shard_cache_gb > 0 and "://" in shards.uri
    tokens = shards.uri if cached else str(run.open(shards))
    train_process.TokenBatches(train_process.open_tokens(tokens, work, config), config, rank=0, world=1)
    spec = {
        "config": config.model_dump(mode="json"),
        "tokens": tokens,
        "tokenizer": str(run.open(tokenizer)),
        "folder": str(work),
    }
    path = work / "spec.json"
    path.write_text(json.dumps(spec, indent=1), encoding="utf-8")
    return path


def _train(run: StageRun, spec: Path, config: TrainConfig, curve: CurveLogger) -> None:
    """Run the training process to its end; one that was killed or hung starts again a few times."""
    hardware = config.hardware
    launch = Launch(
        command=training_command(spec),
        folder=spec.parent,
        heartbeat_s=hardware.heartbeat_seconds,
        environment=training_environment(tuned_allocator=hardware.tuned_allocator, threads=hardware.threads),
    )
    hear = listener(run, config, curve)
    for row in metrics.curve(spec.parent):  # what an earlier attempt told but could not send
        hear({"kind": "step", **row})
        if row["heldout_loss"] is not None:
            hear({"kind": "held_out", "step": row["step"], "loss": row["heldout_loss"]})
    for restart in range(hardware.restarts + 1):
        try:
            supervise(launch, hear)
        except (TrainingKilledError, TrainingHungError) as error:
            if restart == hardware.restarts:
                raise
            run.log.warning("%s; starting it again from its last checkpoint", str(error).splitlines()[0])
        else:
            return


def listener(run: StageRun, config: TrainConfig, curve: CurveLogger) -> Callable[[dict[str, Any]], None]:
    """What happens with each event of the training process."""
    every = max(1, config.steps // CURVE_POINTS)
    shown: dict[str, Any] = {}

    def hear(event: dict[str, Any]) -> None:
        kind, step = event["kind"], event.get("step", 0)
        if kind == "step":
            shown["loss"] = round(event["loss"], 3)
            run.progress(step, config.steps, "steps", **shown)
            if step % every == 0 or step == config.steps:
                curve.log(step, {key: event[key] for key in ("loss", "lr", "grad_norm")})
        elif kind == "held_out":
            shown["held_out"] = round(event["loss"], 3)
            curve.log(step, {"heldout_loss": event["loss"]})
        elif kind == "pace":
            shown["tokens_per_second"] = round(event["tokens_per_second"])
            shown["seconds_left"] = round(event["seconds_left"])
            pace = {key: event[key] for key in ("tokens_per_second", "mfu", "memory_bytes")}
            curve.log(step, pace)
        elif text := sentence(event):
            run.log.info("%s", text)
            if kind == "note" and "batch" in event:  # a rewind
                curve.go_back(event["checkpoint"])
            if kind in {"plan", "resumed", "note"}:
                run.progress.note(text)

    return hear


def sentence(event: dict[str, Any]) -> str:
    """One line for the log, or nothing."""
    if event["kind"] == "plan":
        return (
            f"{event['parameters']:,} parameters, {event['tokens']:,} tokens to train on "
            f"({event['epochs']:.2f} epochs of {event['corpus_tokens']:,}), {event['flops']:.2e} FLOP, "
            f"about {event['seconds']:.0f} s on {event['device_name']} in {event['precision']}"
        )
    if event["kind"] == "resumed":
        return f"going on from the checkpoint of step {event['step']}"
    return str(event.get("text", ""))


def _keep(out: Path, work: Path, config: TrainConfig) -> None:
    """Move what the training process left into the artifact; the summary last, as a sign of completeness."""
    shutil.rmtree(out / MODEL, ignore_errors=True)
    shutil.copytree(work / MODEL, out / MODEL)
    rows = metrics.curve(work)
    pq.write_table(pa.Table.from_pylist(rows, schema=CURVE_SCHEMA), out / "curve.parquet", compression="zstd")
    events = list(metrics.read_events(work))
    paces = [
        {name: event[name] for name in TIMINGS_SCHEMA.names} for event in events if event["kind"] == "pace"
    ]
    timings = pa.Table.from_pylist(paces, schema=TIMINGS_SCHEMA)
    pq.write_table(timings, out / "timings.parquet", compression="zstd")
    starts = [event for event in events if event["kind"] in {"plan", "resumed", "note"}]
    (out / "environment.json").write_text(json.dumps(starts, indent=1) + "\n", encoding="utf-8")
    plan = next(event for event in events if event["kind"] == "plan")
    best = next(event["best_step"] for event in reversed(events) if event["kind"] == "finished")
    held_out = [row["heldout_loss"] for row in rows if row["heldout_loss"] is not None]
    summary = {
        "parameters": plan["parameters"],
        "steps": len(rows),
        "tokens": rows[-1]["tokens"],
        "corpus_tokens": plan["corpus_tokens"],
        "epochs": rows[-1]["tokens"] / plan["corpus_tokens"],
        "loss": sum(row["loss"] for row in rows[-20:]) / len(rows[-20:]),
        "heldout_loss": min(held_out) if config.held_out.patience else (held_out or [None])[-1],
        "kept_step": best if config.held_out.patience and best else len(rows),
    }
    (out / f".{SUMMARY}").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (out / f".{SUMMARY}").replace(out / SUMMARY)


def _discard(work: Path) -> None:
    """Remove checkpoints and metrics: out of the way first, so that half a folder is never taken up."""
    gone = work.with_name(f".{WORK}-done")
    if work.exists():
        work.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as MLflow parameters: ``optimizer.kind`` and so on."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
