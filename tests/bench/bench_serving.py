"""Generation as served, beside transformers' own ``generate`` on the same weights, in one run.

Prints the latency of 1 and of 32 prompts and the ratio of tokens a second; both take the likeliest token and
must write the same text in float32. The shape is that of the preset `tiny`; the larger a model, the more of
the time goes into the same matrix products on both sides.

    python tests/bench/bench_serving.py [--layers 4 --width 256 --context 256 --vocabulary 8192 --threads 2]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Build a model of the asked shape, time both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    shape = {"layers": 2, "heads": 4, "width": 256, "context": 128, "vocabulary": 2048}
    for name, default in {**shape, "new": 64, "threads": 2, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(Path(scratch), asked)
        theirs = transformers_generate(folder, asked.new)
        print(f"{asked.layers} layers, width {asked.width}, {asked.new} new tokens, {asked.threads} threads")
        print("prompts, precision | served: s, tokens/s | transformers in float32: s, tokens/s | ratio")
        for precision in ("float32", "bf16"):
            ours = served(folder, asked.new, precision)
            for count in (1, 32):
                print(f"{count:3d}, {precision:12s} | {compared(ours, theirs, count, asked)}", flush=True)


def compared(
    ours: Callable[[list[str]], list[str]],
    theirs: Callable[[list[str]], list[str]],
    count: int,
    asked: argparse.Namespace,
) -> str:
    """A row of the table: medians of rounds in which both take turns."""
    prompts = [f"The mill of {i} rivers turns" for i in range(count)]
    same = sum(a == b for a, b in zip(ours(prompts), theirs(prompts), strict=True))
    pairs = [(timed(ours, prompts), timed(theirs, prompts)) for _ in range(asked.rounds)]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    tokens, ratio = count * asked.new, statistics.median(b / a for a, b in pairs)
    return (
        f"{mine:.3f}, {tokens / mine:,.0f} | {other:.3f}, {tokens / other:,.0f} | {ratio:.2f}x, "
        f"same text for {same} of {count}"
    )


def build(root: Path, asked: argparse.Namespace) -> Path:
    """A Hugging Face folder with drawn weights, sharp enough that no two tokens tie."""
    import torch

    from tasks.gpt.export import save_hf
    from tasks.gpt.model import GPT, GPTConfig
    from tasks.tokens import bpe

    words = [f"{a}{b}{c} mill river turns of the " for a in "bcdfg" for b in "aeiou" for c in "klmnp"]
    tokenizer = bpe.train(words * 4, 400)
    bpe.save(tokenizer, root / "tokenizer")
    model = GPT(GPTConfig(asked.vocabulary, asked.layers, asked.heads, asked.width, asked.context))
    model.init_weights(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.wte.weight[400:] = 0  # ids that the tokenizer does not have
        model.wte.weight[0] = 0  # no early end
    save_hf(model, root / "tokenizer", root / "hf")
    return root / "hf"


def served(folder: Path, new: int, precision: str) -> Callable[[list[str]], list[str]]:
    """The registered model's code."""
    warnings.simplefilter("ignore")
    from tasks.serving.pyfunc_model import Options, TextGenerator

    generator, options = (
        TextGenerator(folder, precision=precision),
        Options(max_new_tokens=new, temperature=0.0),
    )
    return lambda prompts: generator.generate(prompts, options)


def transformers_generate(folder: Path, new: int) -> Callable[[list[str]], list[str]]:
    """GPT2LMHeadModel.generate with its default cache, prompts padded on the left."""
    import torch
    from transformers import AutoTokenizer, GPT2LMHeadModel

    logging.disable(logging.WARNING)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = GPT2LMHeadModel.from_pretrained(folder)

    def run(prompts: list[str]) -> list[str]:
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            out = model.generate(
                **batch, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
            )
        texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.removesuffix("\ufffd") for text in texts]

    return run


def timed(run: Callable[[list[str]], list[str]], prompts: list[str]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    run(prompts)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
