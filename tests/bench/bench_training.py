"""Training steps a second beside nanoGPT's model and transformers' GPT-2, in one run, on one shape.

    python tests/bench/bench_training.py [--nanogpt FOLDER_WITH_ITS_model.py] [--device cpu|cuda] [--toy]

Each contender runs in processes of its own, in turns, so that a busy moment hits all alike; what counts is
each one's median over its fastest round; the CPU time of a step stands beside, which a machine shared with
others changes less. All start from the same weights and see the same tokens under the
same AdamW, so in float32 their losses must agree step for step, and the run fails where they do not. With
``--device cuda`` the shape is GPT-2 124M at length 1,024; ``--gpt2`` takes that shape on the CPU, for the
peak of memory of a step of 4 sequences; ``--toy`` shrinks either to something that takes seconds, to test the
benchmark itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.gpt import device as devices
from tasks.gpt import optim
from tasks.gpt.config import OptimizerConfig
from tasks.gpt.device import Device
from tasks.gpt.estimate import flops_per_token
from tasks.gpt.export import TRANSPOSED
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.products import set_threads
from tasks.gpt.supervisor import training_environment

LR = 3e-4
OURS, NANO, HF = "modelmill", "nanoGPT", "transformers"


@dataclass(frozen=True)
class Contender:
    """One model in one setting."""

    who: str
    precision: str
    compiled: bool = False
    optimizer: str = "adamw"
    micro_batch: int = 0

    @property
    def name(self) -> str:
        """As it stands in the table."""
        extra = (" compiled" if self.compiled else "") + (" Muon" if self.optimizer == "muon" else "")
        return f"{self.who} {self.precision}{extra}" + (f" mb{self.micro_batch}" if self.micro_batch else "")


@dataclass(frozen=True)
class Setting:
    """Shape and length of the measurement."""

    shape: GPTConfig
    batch: int
    steps: int
    rounds: int


def setting(arguments: argparse.Namespace) -> Setting:
    """The shape and length that the command line asks for."""
    if arguments.toy:
        return Setting(GPTConfig(256, 2, 2, 32, 32), batch=4, steps=4, rounds=1)
    if arguments.device == "cuda":
        return Setting(GPTConfig(50257, 12, 12, 768, 1024), batch=32, steps=30, rounds=2)
    if arguments.gpt2:
        return Setting(GPTConfig(50257, 12, 12, 768, 1024), batch=4, steps=2, rounds=1)
    return Setting(GPTConfig(8192, 4, 4, 256, 256), batch=32, steps=6, rounds=3)


def contenders(arguments: argparse.Namespace) -> list[Contender]:
    """Who takes part, ours first; in bf16 only where the device multiplies it natively.

    Elsewhere a step in it takes minutes, so that nobody trains so.
    """
    peers = [HF] + ([NANO] if arguments.nanogpt else [])
    best = devices.resolve_precision("auto", arguments.device)
    precisions = dict.fromkeys(("float32", best))
    found = [*(Contender(OURS, each) for each in precisions), Contender(OURS, best, optimizer="muon")]
    for peer in peers:
        found += [Contender(peer, each) for each in precisions]
    if not arguments.no_compile:
        found += [Contender(who, best, compiled=True) for who in (OURS, *peers)]
    return [one for one in found if not arguments.only or re.search(arguments.only, one.name)]


# ---- one contender, in a process of its own ----------------------------------------------------


def reference(shape: GPTConfig) -> GPT:
    """The weights that all start from."""
    model = GPT(shape)
    model.init_weights(0)
    return model


def nanogpt(shape: GPTConfig, folder: Path) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """nanoGPT's model with our weights and its own optimizer settings."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module
    spec.loader.exec_module(module)
    config = module.GPTConfig(
        block_size=shape.block_size, vocab_size=shape.vocab_size, n_layer=shape.n_layer,
        n_head=shape.n_head, n_embd=shape.n_embd, dropout=0.0, bias=True,
    )  # fmt: skip
    model = module.GPT(config)
    weights = reference(shape).state_dict()
    weights["wte.weight"] = weights["wte.weight"][: shape.vocab_size]
    state = {f"transformer.{name}": tensor for name, tensor in weights.items()}
    model.load_state_dict({**state, "lm_head.weight": weights["wte.weight"]})
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return model, model.configure_optimizers(0.0, LR, (0.9, 0.95), kind)


def transformers_model(shape: GPTConfig) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """GPT2LMHeadModel with our weights, and fused AdamW."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocab_size, n_positions=shape.block_size, n_embd=shape.n_embd, n_layer=shape.n_layer,
        n_head=shape.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        activation_function="gelu_pytorch_tanh", attn_implementation="sdpa",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    weights = reference(shape).state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            source = weights[name.removeprefix("transformer.")][: shape.vocab_size]
            parameter.copy_(source.t() if name.endswith(TRANSPOSED) else source)
    return model, torch.optim.AdamW(
        model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )


def stepper(
    contender: Contender, shape: GPTConfig, device: Device, folder: Path
) -> Callable[[Tensor], float]:
    """A function that makes one training step on tokens (B, T + 1) and returns the loss."""
    if contender.who == NANO:
        model, adam = nanogpt(shape, folder)
        optimizers = [adam]
    elif contender.who == HF:
        model, adam = transformers_model(shape)
        optimizers = [adam]
    else:
        model = reference(shape)
        optimizers = []
    model = model.to(device.place).train()
    if contender.who == OURS:
        settings = OptimizerConfig(
            kind=contender.optimizer, matrix_lr=LR, embedding_lr=LR, vector_lr=LR, weight_decay=0.0
        )
        optimizers = optim.build(model, settings)
    forward: Any = torch.compile(model) if contender.compiled else model

    def loss_of(tokens: Tensor) -> Tensor:
        x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        with device.autocast():
            if contender.who == HF:
                logits = forward(input_ids=x).logits
                return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), y.flatten())
            result: Tensor = forward(x, y)[1]
            return result

    def step(tokens: Tensor) -> float:
        total = 0.0
        size = contender.micro_batch or len(tokens)
        for part in torch.split(tokens, size):
            loss = loss_of(part) * (len(part) / len(tokens))
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total

    return step


def child(arguments: argparse.Namespace) -> None:
    """Measure one contender in this process; prints JSON."""
    contender = Contender(**json.loads(arguments.child))
    made = setting(arguments)
    device = devices.choose(arguments.device, contender.precision, arguments.threads, 0, 1)
    set_threads(device.threads)
    step = stepper(contender, made.shape, device, arguments.nanogpt)
    generator = torch.Generator().manual_seed(1)
    times, work, losses = [], [], []
    for _ in range(made.steps + 2):
        tokens = torch.randint(
            0, made.shape.vocab_size, (made.batch, made.shape.block_size + 1), generator=generator
        )
        tokens = tokens.to(device.place)
        devices.synchronise(device)
        started, worked = time.perf_counter(), time.process_time()
        losses.append(step(tokens))
        devices.synchronise(device)
        times.append(time.perf_counter() - started)
        work.append(time.process_time() - worked)
    result = {"seconds": times[2:], "cpu_seconds": work[2:], "losses": losses}
    result["memory"] = devices.peak_memory(device)
    print(json.dumps({**result, "ceiling": devices.matmul_ceiling(device)}))


# ---- all of them, in turns ---------------------------------------------------------------------


def measure(contender: Contender, arguments: argparse.Namespace) -> dict[str, Any]:
    """One contender in a process of its own: what it printed, or its error."""
    environment = training_environment(
        tuned_allocator=contender.who == OURS or arguments.tuned_peers, threads=arguments.threads
    )
    command = [sys.executable, __file__, "--child", json.dumps(vars(contender)), "--device", arguments.device]
    command += ["--threads", str(arguments.threads)]
    command += [f"--{name}" for name in ("toy", "gpt2") if getattr(arguments, name)]
    command += ["--nanogpt", str(arguments.nanogpt)] if arguments.nanogpt else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure all in turns, print the table, compare the losses."""
    arguments = parse()
    if arguments.child:
        child(arguments)
        return
    made = setting(arguments)
    made = replace(made, rounds=arguments.rounds or made.rounds)
    results: dict[str, list[dict[str, Any]]] = {}
    everyone = contenders(arguments)
    for number in range(made.rounds):
        for contender in everyone:
            print(f"round {number + 1}: {contender.name}", file=sys.stderr)
            results.setdefault(contender.name, []).append(measure(contender, arguments))
    report(everyone, results, made)
    check_losses(results)


def report(everyone: list[Contender], results: dict[str, list[dict[str, Any]]], made: Setting) -> None:
    """Print the table and the ratio to the best peer."""
    tokens = made.batch * made.shape.block_size
    print(f"{made.shape}, {tokens} tokens a step, {made.rounds} rounds of {made.steps} steps")
    print(f"{'':34}{'tok/s':>10}{'of ceiling':>12}{'peak MB':>9}{'CPU s':>8}")
    speeds: dict[str, float] = {}
    work: dict[str, float] = {}
    for contender in everyone:
        rounds = [r for r in results[contender.name] if "error" not in r]
        if not rounds:
            print(f"{contender.name:34} {results[contender.name][0]['error'][:100]}")
            continue
        speed = tokens / min(statistics.median(r["seconds"]) for r in rounds)
        ceiling = max(r["ceiling"] for r in rounds)
        share = speed * flops_per_token(made.shape) / ceiling
        memory = max(r["memory"] for r in rounds) / 1e6
        speeds[contender.name] = speed
        seconds = min(statistics.median(r["cpu_seconds"]) for r in rounds)
        work[contender.name] = 1 / seconds
        print(f"{contender.name:34}{speed:10,.0f}{share:12.1%}{memory:9,.0f}{seconds:8.2f}")
    print(f"ours at best is {_ratio(speeds):.2f} times the best of theirs, {_ratio(work):.2f} by CPU time")


def _ratio(rates: dict[str, float]) -> float:
    """Our best beside the peers' best."""
    ours = max((v for k, v in rates.items() if k.startswith(OURS)), default=math.nan)
    theirs = max((v for k, v in rates.items() if not k.startswith(OURS)), default=math.nan)
    return ours / theirs


def check_losses(results: dict[str, list[dict[str, Any]]]) -> None:
    """Exit where float32 losses differ between contenders."""
    for peer in (NANO, HF):
        pairs = zip(results.get(f"{OURS} float32", []), results.get(f"{peer} float32", []), strict=False)
        for ours, theirs in list(pairs)[:1]:
            apart = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
            print(f"float32 losses differ from {peer}'s by at most {apart:.1e}")
            if apart > 1e-3:
                sys.exit(f"the losses of {OURS} and {peer} should agree step for step")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nanogpt", type=Path, help="folder with nanoGPT's model.py; left out, it is not run"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0 takes every core")
    parser.add_argument("--toy", action="store_true", help="a shape that takes seconds")
    parser.add_argument("--gpt2", action="store_true", help="GPT-2 124M's shape on the CPU")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--only", default="", help="contenders whose name this pattern is found in")
    parser.add_argument("--rounds", type=int, default=0, help="0 takes as many as the shape is given")
    parser.add_argument(
        "--tuned-peers", action="store_true", help="give the peers our allocator settings too"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
