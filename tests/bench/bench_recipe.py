"""Held-out bits per byte in equal wall time: the default recipe beside nanoGPT's, in one run.

    python tests/bench/bench_recipe.py [TOKENS TOKENIZER] [--minutes 5] [--threads 2] [--toy]

TOKENS and TOKENIZER are artifacts of a run (``.modelmill/store/tokenize/…``, ``…/train_tokenizer/…``);
without them, real pages are brought to shards first (MODELMILL_TEST_DATA, or ../shared/data). Each
recipe trains the same model from the same weights on the same sequences, in a process of its own that has
all cores for so many minutes; its schedule goes by the clock, so that each has decayed when its time is up.
All train in the precision that a run has here: bfloat16 where the processor multiplies it natively, else
float32. nanoGPT's recipe is AdamW (betas 0.9 and 0.99, decay 0.1 of all matrices), cosine to a tenth, at the
best of three learning rates. It runs on our model, whose steps are faster than its own: that favours it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from token_set import ARCHIVES, archives, make_token_set
from torch import Tensor

from storage.token_shards import open_set
from tasks.gpt import device as devices
from tasks.gpt import optim, schedule
from tasks.gpt.config import ModelShape, OptimizerConfig, ScheduleConfig, TrainConfig
from tasks.gpt.device import Device
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.products import set_threads
from tasks.gpt.supervisor import training_environment
from tasks.tokens.loader import Loader, Stream, evenly_spaced

TICKS = 10_000
"""The schedule's steps: shares of the time that there is."""
WARMUP = 0.02
"""Share of the time for warm-up, in both recipes."""
RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates that nanoGPT's recipe is tried with."""
SHAPE = ModelShape(layers=4, heads=4, width=256, context=256)
TOY = ModelShape(layers=2, heads=2, width=32, context=64)
TOY_ARCHIVES = ("handbook/handbook-zh-CN.warc.gz",)
HELD_OUT_SEQUENCES, TOY_SEQUENCES = 2_000, 100
AT_ONCE = 16


@dataclass(frozen=True)
class Recipe:
    """An optimizer and a schedule by the clock."""

    name: str
    optimizer: OptimizerConfig
    schedule: ScheduleConfig


def recipes() -> list[Recipe]:
    """Ours, as the configuration has it, and theirs by learning rate."""
    default = TrainConfig()
    warmup = {"warmup_steps": round(WARMUP * TICKS)}
    ours = Recipe("modelmill", default.optimizer, default.schedule.model_copy(update=warmup))
    cosine = ScheduleConfig(kind="cosine", final_fraction=0.1, **warmup)
    theirs = [
        Recipe(
            f"nanoGPT {rate:g}",
            OptimizerConfig(kind="adamw", matrix_lr=rate, embedding_lr=rate, vector_lr=rate, beta2=0.99),
            cosine,
        )
        for rate in RATES
    ]
    return [ours, *theirs]


def build(recipe: Recipe, model: GPT) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers; nanoGPT decays the embeddings like every matrix."""
    found = optim.build(model, recipe.optimizer)
    if recipe.optimizer.kind == "adamw":
        for group in found[-1].param_groups:
            if group["params"][0].dim() >= 2:
                group["weight_decay"] = recipe.optimizer.weight_decay
    return found


def train(recipe: Recipe, model: GPT, loader: Loader, device: Device, seconds: float) -> int:
    """Train for so many seconds; returns the steps that it came to."""
    optimizers, step, started = build(recipe, model), 0, time.monotonic()
    while (spent := time.monotonic() - started) < seconds:
        tick = int(TICKS * spent / seconds)
        optim.set_rates(optimizers, schedule.factor(tick, TICKS, recipe.schedule))
        x, y = (torch.from_numpy(part) for part in loader.batch(step))
        loss_of(model, x, y, device).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip, foreach=True)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
    return step


def loss_of(model: GPT, x: Tensor, y: Tensor, device: Device) -> Tensor:
    """Mean loss in nats a token, ()."""
    with device.autocast():
        loss: Tensor = model(x, y)[1]
    return loss


@torch.no_grad()
def bits_per_byte(model: GPT, windows: np.ndarray, tokenizer: Path, device: Device) -> float:
    """Of windows (W, T + 1), each begun without what came before it."""
    from tokenizers import Tokenizer

    text = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    size = sum(len(text.decode(row[1:].tolist()).encode()) for row in windows)
    nats, model = 0.0, model.eval()
    for first in range(0, len(windows), AT_ONCE):
        rows = torch.from_numpy(windows[first : first + AT_ONCE])
        x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        nats += float(loss_of(model, x, y, device)) * y.numel()
    return nats / math.log(2) / size


def device_for(arguments: argparse.Namespace) -> Device:
    """The CPU, in the precision that a run would have on it."""
    return devices.choose("cpu", TrainConfig().precision, arguments.threads, 0, 1)


def child(arguments: argparse.Namespace) -> dict[str, Any]:
    """One recipe, from the first weights to its held-out figure."""
    recipe = recipes()[arguments.child]
    shape = TOY if arguments.toy else SHAPE
    device = device_for(arguments)
    set_threads(device.threads)
    tokens, config = open_set(arguments.tokens), TrainConfig(model=shape)
    if tokens.held_out is None:
        sys.exit(f"{arguments.tokens} has no held-out documents")
    loader = Loader(
        [Stream(tokens.group(group.name), group.repeats, group.name) for group in tokens.index.groups],
        seq_len=shape.context,
        global_batch=config.batch_sequences,
        seed=config.seed,
        manifest_digest=tokens.index.digest,
    )
    vocabulary = tokens.index.vocab_size
    model = GPT(GPTConfig(vocabulary, shape.layers, shape.heads, shape.width, shape.context))
    model.init_weights(config.seed)
    steps = train(recipe, model.train(), loader, device, 60 * arguments.minutes)
    sequences = TOY_SEQUENCES if arguments.toy else HELD_OUT_SEQUENCES
    windows = evenly_spaced(tokens.held_out.ids, shape.context, sequences)
    figure = bits_per_byte(model, windows, arguments.tokenizer, device)
    return {"steps": steps, "tokens": steps * config.batch_sequences * shape.context, "bits_per_byte": figure}


def measure(index: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one recipe in a process of its own."""
    command = [sys.executable, __file__, str(arguments.tokens), str(arguments.tokenizer)]
    command += ["--minutes", str(arguments.minutes), "--threads", str(arguments.threads)]
    command += ["--child", str(index), *(["--toy"] if arguments.toy else [])]
    environment = training_environment(tuned_allocator=True, threads=arguments.threads)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Make the token set where none is given, and compare."""
    arguments = parse()
    if arguments.child is not None:
        print(json.dumps(child(arguments)))
        return
    with tempfile.TemporaryDirectory() as store:
        if arguments.tokens is None:
            files = archives(TOY_ARCHIVES if arguments.toy else ARCHIVES)
            arguments.tokens, arguments.tokenizer = make_token_set(files, Path(store))
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Train with every recipe, one after the other, and print the ratio."""
    precision = device_for(arguments).precision
    print(f"{TOY if arguments.toy else SHAPE}, {arguments.minutes:g} minutes each, all in {precision}")
    print(f"{'recipe':20}{'steps':>8}{'tokens':>12}{'bits per byte':>15}", flush=True)
    figures: dict[str, float] = {}
    for index, recipe in enumerate(recipes()):
        found = measure(index, arguments)
        figures[recipe.name] = found["bits_per_byte"]
        print(
            f"{recipe.name:20}{found['steps']:8,}{found['tokens']:12,}{found['bits_per_byte']:15.4f}",
            flush=True,
        )
    ours = figures.pop("modelmill")
    print(f"ours is {1 - ours / min(figures.values()):.1%} below the best of theirs")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tokens", type=Path, nargs="?", help="folder of a token set")
    parser.add_argument("tokenizer", type=Path, nargs="?", help="folder with tokenizer.json")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, for each recipe")
    parser.add_argument("--threads", type=int, default=0, help="0 takes every core")
    parser.add_argument("--toy", action="store_true", help="a shape that takes seconds")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tokens is not None and arguments.tokenizer is None:
        parser.error("TOKENS needs its TOKENIZER beside it")
    return arguments


if __name__ == "__main__":
    main()
