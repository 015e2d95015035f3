"""What the model writes after fixed prompts: for people to read, and to look for leaks in.

A copy is a run of tokens that a training document has word for word; its source is named. Personal data is
whatever a given finder sees in a sample; a piece of it that training text has as well is a leak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.evals.config import SamplesConfig
from tasks.evals.token_text import Place, TokenText, find

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.gpt.model import GPT

Ids = NDArray[np.int64]
Finder = Callable[[str], list[str]]
"""Pieces of personal data in a text, as they stand there."""


def write(model: GPT, tokenizer: Tokenizer, eos: int, config: SamplesConfig) -> list[dict[str, Any]]:
    """Samples in the prompts' order: prompt, text (the continuation), seed, settings, ids, why it ended."""
    from tasks.gpt.sampling import Sampling, generate

    samples = []
    for prompt in config.prompts:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids or [eos]
        for seed in range(config.seed, config.seed + config.per_prompt):
            rule = Sampling(config.temperature, config.top_k, config.top_p, seed)
            new = generate(model, ids, config.max_new_tokens, eos=eos, sampling=rule)
            samples.append(
                {
                    "prompt": prompt,
                    "text": tokenizer.decode(new, skip_special_tokens=True).removesuffix("\ufffd"),
                    "seed": seed,
                    "temperature": config.temperature,
                    "top_k": config.top_k,
                    "top_p": config.top_p,
                    "ended": "length" if len(new) == config.max_new_tokens else "end of text",
                    "ids": new,
                }
            )
    return samples


def copies(
    samples: Sequence[dict[str, Any]], training: Sequence[TokenText], tokenizer: Tokenizer, length: int
) -> list[dict[str, Any]]:
    """Runs of at least ``length`` tokens that a sample has from a training document, with their sources."""
    passages, owners = [], []
    for index, sample in enumerate(samples):
        ids = np.array(sample["ids"], dtype=np.int64)
        for start in range(len(ids) - length + 1):
            passages.append(ids[start : start + length])
            owners.append((index, start))
    found = find(training, passages)
    runs: list[dict[str, Any]] = []
    for (index, start), place in zip(owners, found, strict=True):
        if place is None:
            continue
        last = runs[-1] if runs else None
        if last and last["sample"] == index and start <= last["start"] + last["tokens"] - length + 1:
            last["tokens"] = start + length - last["start"]
        else:
            runs.append({"sample": index, "start": start, "tokens": length, **asdict(place)})
    for run in runs:
        ids = samples[run["sample"]]["ids"][run["start"] : run["start"] + run["tokens"]]
        run["text"] = tokenizer.decode(ids, skip_special_tokens=True)
    return runs


def personal_data(
    samples: Sequence[dict[str, Any]], training: Sequence[TokenText], tokenizer: Tokenizer, finder: Finder
) -> dict[str, Any]:
    """Pieces of personal data in the samples, and how many of them training text has token by token."""
    pieces = [
        (index, piece, passage)
        for index, sample in enumerate(samples)
        for piece in finder(sample["text"])
        for passage in [_tokens_of(sample, piece, tokenizer)]
    ]
    places = find(training, [passage for _index, _piece, passage in pieces])
    rows = [_row(index, piece, place) for (index, piece, _p), place in zip(pieces, places, strict=True)]
    return {"found": len(rows), "from_training": sum(bool(r["url"]) for r in rows), "pieces": rows}


def _row(index: int, piece: str, place: Place | None) -> dict[str, Any]:
    """What the report says of a piece: enough to look it up, not the piece itself."""
    shown = piece[:2] + "…" + piece[-2:] if len(piece) > 6 else "…"
    return {
        "sample": index,
        "shown": shown,
        "doc_id": place.doc_id if place else "",
        "url": place.url if place else "",
    }


def _tokens_of(sample: dict[str, Any], piece: str, tokenizer: Tokenizer) -> Ids:
    """The tokens of a sample that lie wholly inside a piece of its text."""
    start = sample["text"].find(piece)
    end, inside, before = start + len(piece), [], 0
    for count, token in enumerate(sample["ids"], 1):
        after = len(tokenizer.decode(sample["ids"][:count], skip_special_tokens=True))
        if start <= before and after <= end:
            inside.append(token)
        before = after
    return np.array(inside, dtype=np.int64)
