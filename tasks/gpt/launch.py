"""Inside a training process: from a config and a source of batches to an exported model."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.gpt import checkpoint as checkpoints
from tasks.gpt import device as devices
from tasks.gpt import estimate, optim
from tasks.gpt.checkpoint import CheckpointError, Saver
from tasks.gpt.config import TrainConfig
from tasks.gpt.device import Device
from tasks.gpt.distributed import World, connected, world_of_environment
from tasks.gpt.errors import ExportError, TrainingError
from tasks.gpt.export import load_hf, save_hf
from tasks.gpt.metrics import MetricsWriter
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.parts import Batches, Outcome, Parts
from tasks.gpt.products import library
from tasks.gpt.training import Trainer

STOPPED_STATUS = 75
"""Exit status of a process that saved and ended because it was asked to (EX_TEMPFAIL)."""
FAILED_STATUS = 3
LOOK_EVERY_CUDA = 10
MODEL_FOLDER = "hf"


@dataclass(frozen=True)
class Job:
    """One training run as its process sees it."""

    config: TrainConfig
    vocab_size: int
    corpus_tokens: int
    held_out: tuple[np.ndarray, ...]
    """Held-out sequences, a batch of all of them as a trainer takes it; may be empty."""
    tokenizer: Path
    folder: Path
    """Gets metrics files, ``checkpoints/`` and, at the end, ``hf/``."""
    batches: Callable[[World], Batches]


def become_torchrun(processes: int) -> None:
    """Be torchrun, which starts this program again ``processes`` times, and end as they do; nothing for one.

    torchrun's own command ends with status 1 and a traceback whatever became of its workers; who watches has
    to know whether one was killed, and what it said.
    """
    if processes == 1 or "RANK" in os.environ:
        return
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    wanted = ["--standalone", f"--nproc-per-node={processes}", "-m", "tasks.train_process", *sys.argv[1:]]
    try:
        run(parse_args(wanted))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        status = cause([failure.exitcode for failure in error.failures.values()])
        if status < 0:
            os.kill(os.getpid(), -status)
        sys.exit(status)
    sys.exit(0)


def cause(statuses: Sequence[int]) -> int:
    """The exit status of the worker that brought the others down, a signal's number below zero.

    One that explains itself, else one that a signal ended; the rest were ended by torchrun (SIGTERM), or
    failed in an exchange with one that was gone.
    """
    ended = [status for status in statuses if status < 0 and status != -signal.SIGTERM]
    return FAILED_STATUS if FAILED_STATUS in statuses else (ended or [*statuses])[0]


def train(job: Job) -> int:
    """Train, export and return the exit status; the metrics files tell everything else.

    Of a failure that explains itself only the sentence is written: the supervisor quotes it.
    """
    try:
        return _train(job)
    except (TrainingError, CheckpointError, ExportError) as error:
        print(error, file=sys.stderr)
        return FAILED_STATUS
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"no room left under {job.folder}: free some space and run again", file=sys.stderr)
        return FAILED_STATUS


def _train(job: Job) -> int:
    world = world_of_environment()
    saved = _saved_numerics(job.folder / "checkpoints")
    device = _device(job.config, world, saved)
    devices.make_deterministic(device)
    metrics = MetricsWriter(job.folder if world.leads else None)
    asked = _Asked()
    try:
        with connected(world, device):
            trainer = Trainer(_parts(job, world, device, saved, metrics, asked))
            outcome = trainer.run()
            if outcome.state == "stopped":
                return STOPPED_STATUS
            _export(trainer, job, world, outcome, metrics)
    finally:
        metrics.close()
    return 0


class _Asked:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.stop = False
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, _number: int, _frame: object) -> None:
        self.stop = True

    def __call__(self) -> bool:
        return self.stop


def _saved_numerics(folder: Path) -> dict[str, Any]:
    """What an earlier start settled, from the newest checkpoint that tells it."""
    for step in reversed(checkpoints.steps_in(folder)):
        try:
            return {"products": "torch", **checkpoints.read_state(folder, step)["numerics"]}
        except checkpoints.CheckpointError:
            continue
    return {}


def _device(config: TrainConfig, world: World, saved: dict[str, Any]) -> Device:
    hardware = config.hardware
    chosen = devices.choose(hardware.device, config.precision, hardware.threads, world.local_rank, world.size)
    if saved.get("device") != chosen.kind or saved.get("processes") != world.size:
        return chosen
    threads = hardware.threads or saved["threads"]
    return Device(chosen.kind, chosen.index, saved["precision"], threads)


def _parts(
    job: Job,
    world: World,
    device: Device,
    saved: dict[str, Any],
    metrics: MetricsWriter,
    stop: Callable[[], bool],
) -> Parts:
    config = job.config
    model = _model(job)
    numerics = _numerics(config, model.config, world, device, saved)
    if saved and saved != numerics:
        changed = sorted(key for key in numerics if saved.get(key) != numerics[key])
        text = f"resumed with another {', '.join(changed)}: same data order, but the last bits will differ"
        metrics.write("note", text=text)
    micro = numerics["micro_batch"]
    ceiling = devices.matmul_ceiling(device) if world.leads else 0.0
    plan = estimate.plan(
        config,
        model.config,
        job.corpus_tokens,
        micro,
        _step_seconds(model, config, device, micro, world),
        world.size,
    )
    metrics.write("plan", **plan.facts(), ceiling=ceiling, **devices.describe(device), processes=world.size)
    if config.held_out.every_steps and not len(job.held_out[0]):
        metrics.write("note", text=_no_held_out_loss(config))
    return Parts(
        model=model,
        config=config,
        batches=job.batches(world),
        held_out=_grouped(job.held_out, max(micro, 8)),
        device=device,
        micro_batch=micro,
        saver=Saver(job.folder / "checkpoints", config.checkpoints.keep, before=metrics.sync),
        metrics=metrics,
        world=world,
        ceiling=ceiling,
        compiled=numerics["compile"],
        stop=stop,
        look_every=LOOK_EVERY_CUDA if device.kind == "cuda" else 1,
        numerics=numerics,
    )


def _no_held_out_loss(config: TrainConfig) -> str:
    lost = "no held-out loss while training" + (" and no early stop" if config.held_out.patience else "")
    return (
        f"there are not {config.model.context + 1:,} held-out tokens, which one sequence takes: {lost}; hold "
        f"out more documents, or set train.model.context lower"
    )


def _model(job: Job) -> GPT:
    config = job.config
    if config.init_from:
        model = load_hf(Path(config.init_from))
    else:
        shape = config.model
        model = GPT(GPTConfig(job.vocab_size, shape.layers, shape.heads, shape.width, shape.context))
        model.init_weights(config.seed)
    model.recompute = config.hardware.activation_checkpointing
    return model


def _numerics(
    config: TrainConfig, shape: GPTConfig, world: World, device: Device, saved: dict[str, Any]
) -> dict[str, Any]:
    """The settings that decide the last bits, as configured, as saved, or as this machine suggests."""
    hardware = config.hardware
    same_machine = saved.get("device") == device.kind and saved.get("processes") == world.size
    share = config.batch_sequences // world.size
    fitting = devices.fitting_micro_batch(config, shape, device, share)
    compiled = hardware.compile == "on" or (hardware.compile == "auto" and device.kind == "cuda")
    suggested = {"micro_batch": min(hardware.micro_batch or fitting, share), "compile": compiled}
    if same_machine:
        if not hardware.micro_batch:
            suggested["micro_batch"] = saved["micro_batch"]
        if hardware.compile == "auto" or not saved["compile"]:
            suggested["compile"] = saved["compile"]
    return {
        **suggested,
        "device": device.kind,
        "precision": device.precision,
        "threads": device.threads,
        "products": library() if device.kind == "cpu" else "torch",
        "processes": world.size,
        "parallel": hardware.parallel if world.size > 1 else "none",
    }


def _step_seconds(model: GPT, config: TrainConfig, device: Device, micro: int, world: World) -> float:
    """One step's time: of a second micro-batch forward and back, for all of them, and of the optimizers."""
    shape = model.config
    model.to(device.place)
    idx_BT = torch.zeros(micro, shape.block_size, dtype=torch.int64, device=device.place)
    elapsed = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with device.autocast():
            loss = model(idx_BT, idx_BT)[1]
        loss.backward()
        devices.synchronise(device)
        elapsed = time.perf_counter() - started
        model.zero_grad(set_to_none=True)
    micros = -(-config.batch_sequences // (world.size * micro))
    return micros * elapsed + _moving_seconds(model, config, device)


def _moving_seconds(model: GPT, config: TrainConfig, device: Device) -> float:
    """The optimizers' time for a step, on a copy: on a CPU four tenths of a small model's step.

    On a GPU, where a copy may not fit, it is little beside the batches that those take.
    """
    if device.kind != "cpu":
        return 0.0
    copy, elapsed = deepcopy(model), 0.0
    for parameter in copy.parameters():
        parameter.grad = parameter.detach().clone()
    optimizers = optim.build(copy, config.optimizer)
    for _ in range(2):
        started = time.perf_counter()
        for optimizer in optimizers:
            optimizer.step()
        elapsed = time.perf_counter() - started
    return elapsed


def _grouped(sequences: tuple[np.ndarray, ...], size: int) -> list[tuple[np.ndarray, ...]]:
    starts = range(0, len(sequences[0]), size)
    return [tuple(array[start : start + size] for array in sequences) for start in starts]


def _export(trainer: Trainer, job: Job, world: World, outcome: Outcome, metrics: MetricsWriter) -> None:
    """Write the model's folder whole or not at all, then say that it is finished."""
    weights = trainer.final_weights()
    if not world.leads:
        return
    model = GPT(trainer.model.config)
    model.load_state_dict(weights, strict=False)
    partial, final = job.folder / f"{MODEL_FOLDER}.partial", job.folder / MODEL_FOLDER
    for left in (partial, final):
        shutil.rmtree(left, ignore_errors=True)
    save_hf(model, job.tokenizer, partial)
    partial.rename(final)
    best = outcome.best_loss if outcome.best_step else None
    metrics.write("finished", step=outcome.step, best_step=outcome.best_step, best_loss=best)
    metrics.sync()
