"""How much of its training text a model gives back word for word.

Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models": a passage is extractable at k
tokens if the model, given its first tokens, goes on with exactly the next k at temperature 0. That needs no
generation: the greedy continuation equals the true one exactly where each true token is the likeliest after
the true tokens before it, so one pass over the whole passage tells.

Three samples: windows drawn evenly from the training text; as many from held-out text, which show how often
a continuation is simply predictable; and the windows that training text repeats most but held-out text does
not have, spread over the scale of repetition, for memorization grows with the logarithm of the copies. A rule
of dashes or a row of zeros is no passage: what has few different tokens is told by itself, not by training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.evals.config import MemorizationConfig
from tasks.evals.token_text import TokenText, window_hashes, within_documents

if TYPE_CHECKING:
    from tasks.gpt.model import GPT

Ids = NDArray[np.int64]

MAX_TOKENS = 20_000_000
"""Training tokens, from the beginning, in which repetition is counted (60 bytes of memory each)."""
MIN_COPIES = 3
MIN_DISTINCT = 0.25
"""Share of different tokens below which a repeated window is a pattern, not a passage."""
EXAMPLES = 20
"""Extracted passages that the report shows."""


def audit(
    model: GPT,
    training: Sequence[TokenText],
    held_out: Sequence[TokenText],
    config: MemorizationConfig,
    *,
    batch_tokens: int,
) -> dict[str, Any]:
    """The share of each sample that the model reproduces, and the passages it did, for the report.

    ``training`` and ``held_out`` are the texts' parts. A passage's ``copies`` is how often training has it.
    """
    length = min(config.prefix_tokens + config.continuation_tokens, model.config.block_size + 1)
    prefix = max(length - config.continuation_tokens, 1)
    generator = np.random.default_rng(config.seed)
    report: dict[str, Any] = {"prefix_tokens": prefix, "continuation_tokens": length - prefix}
    samples = {
        "training": [(*w, 0) for w in draw(training, length, config.windows, generator)],
        "held_out": [(*w, 0) for w in draw(held_out, length, config.windows, generator)],
        "repeated": repeated(training, held_out, length, config.repeated),
    }
    for name, places in samples.items():
        parts = held_out if name == "held_out" else training
        windows = _windows(parts, places, length)
        hits = reproduces(model, windows, prefix, batch_tokens)
        report[name] = {
            "windows": len(places),
            "extracted": int(hits.sum()),
            "share": round(float(hits.mean()), 6) if len(hits) else 0.0,
        }
        if name != "held_out":
            shown = [(*places[i], windows[i]) for i in np.flatnonzero(hits)[:EXAMPLES]]
            report[name]["examples"] = [
                _example(parts[p], at, copies, w, prefix) for p, at, copies, w in shown
            ]
    return report


def reproduces(model: GPT, windows: Ids, prefix: int, batch_tokens: int) -> NDArray[np.bool_]:
    """Whether the model, given the first ``prefix`` tokens of each window (N, T), goes on exactly so."""
    import torch

    if not len(windows):
        return np.zeros(0, dtype=bool)
    device = model.wte.weight.device
    size = max(1, batch_tokens // windows.shape[1])
    hits = []
    with torch.inference_mode():
        for begin in range(0, len(windows), size):
            x_BT = torch.from_numpy(windows[begin : begin + size]).to(device)
            states_BTC = model.hidden(x_BT[:, :-1])[:, prefix - 1 :]
            likeliest_BK = model.logits(states_BTC).argmax(-1)
            hits.append((likeliest_BK == x_BT[:, prefix:]).all(-1).cpu().numpy())
    return np.concatenate(hits)


def draw(
    parts: Sequence[TokenText], length: int, count: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to ``count`` places (part, position) of windows inside documents, evenly, without repetition.

    Windows are counted, not listed: ten billion tokens have as many.
    """
    ends = [np.cumsum(np.maximum(np.diff(part.starts).astype(np.int64) - length, 0)) for part in parts]
    parts_end = np.cumsum([int(end[-1]) if len(end) else 0 for end in ends], dtype=np.int64)
    total = int(parts_end[-1]) if len(parts_end) else 0
    drawn = np.sort(generator.choice(max(total, 1), size=min(count, total), replace=False))
    places = []
    for index in drawn.tolist():
        part = int(np.searchsorted(parts_end, index, side="right"))
        within = index - (int(parts_end[part - 1]) if part else 0)
        document = int(np.searchsorted(ends[part], within, side="right"))
        first = int(ends[part][document - 1]) if document else 0
        places.append((part, int(parts[part].starts[document]) + within - first))
    return places


def repeated(
    training: Sequence[TokenText], held_out: Sequence[TokenText], length: int, count: int
) -> list[tuple[int, int, int]]:
    """Up to ``count`` places (part, position, copies) of different passages that training documents share.

    A passage's copies are the documents that have it: what one page repeats within itself, such as a
    reference page its methods' signatures, is that page's form, and learning it gives nobody away.

    Passages that held-out text has as well are common property and left out. They are taken in turn from
    each power of two of copies, the most copied first, so that neither a few formulas nor the many pairs
    crowd out the rest; of overlapping windows one stands for the passage. Patterns are no passages.
    """
    if not count:
        return []
    hashes, where = _hashed(training, length)
    if not len(hashes):
        return []
    documents = _documents(training, where)
    order = np.lexsort((documents, hashes))
    ordered, of = hashes[order], documents[order]
    other = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts = np.flatnonzero(other)
    copies = np.add.reduceat(other | np.concatenate([[True], of[1:] != of[:-1]]), starts, dtype=np.int64)
    keep = copies >= MIN_COPIES
    known = _hashed(held_out, length)[0]
    keep &= ~np.isin(ordered[starts], known)
    first, copies = where[order[starts[keep]]], copies[keep]
    ranked = np.lexsort((first[:, 1], first[:, 0], -copies))

    def says_something(part: int, position: int) -> bool:
        window = training[part].ids[position : position + length]
        return len(np.unique(window)) >= MIN_DISTINCT * length

    return _spread(first[ranked], copies[ranked], length, count, says_something)


def _documents(parts: Sequence[TokenText], where: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for the document in which each place (part, position) lies, different over all parts."""
    found = np.zeros(len(where), dtype=np.int64)
    base = 0
    for index, part in enumerate(parts):
        here = where[:, 0] == index
        found[here] = base + np.searchsorted(part.starts, where[here, 1], side="right") - 1
        base += len(part.starts)
    return found


def _spread(
    places: NDArray[np.int64],
    copies: NDArray[np.int64],
    length: int,
    count: int,
    wanted: Callable[[int, int], bool],
) -> list[tuple[int, int, int]]:
    """Take wanted places (part, position) in turn from the classes of copies, never two that overlap."""
    at, classes = places.tolist(), np.floor(np.log2(copies)).astype(int)
    closed = [np.zeros(0, bool)] * (int(places[:, 0].max(initial=-1)) + 1)
    for part in np.unique(places[:, 0]).tolist():
        closed[part] = np.zeros(int(places[places[:, 0] == part, 1].max()) + length, bool)
    waiting = [iter(np.flatnonzero(classes == group).tolist()) for group in np.unique(classes)[::-1]]
    chosen: list[tuple[int, int, int]] = []
    while waiting and len(chosen) < count:
        for group in list(waiting):
            index = next((index for index in group if not closed[at[index][0]][at[index][1]]), None)
            if index is None:
                waiting.remove(group)
                continue
            part, position = at[index]
            fits = wanted(part, position)
            if fits:
                chosen.append((part, position, int(copies[index])))
            reach = length if fits else max(1, int(MIN_DISTINCT * length))  # a window beside it may still fit
            closed[part][max(0, position - reach + 1) : position + reach] = True
    return chosen[:count]


def _hashed(parts: Sequence[TokenText], length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the windows inside documents, and their places (part, position), up to MAX_TOKENS."""
    room, hashes, places = MAX_TOKENS, [np.zeros(0, np.uint64)], [np.zeros((0, 2), np.int64)]
    for index, part in enumerate(parts):
        if room <= 0:
            break
        near = replace(part, starts=part.starts[: int(np.searchsorted(part.starts, room)) + 1])
        inside = within_documents(near, length)
        inside = inside[inside < room - length]
        room -= len(part.ids)
        if len(inside):
            ids = np.asarray(part.ids[: int(inside[-1]) + length])
            hashes.append(window_hashes(ids, length)[inside])
            places.append(np.stack([np.full(len(inside), index), inside], axis=1))
    return np.concatenate(hashes), np.concatenate(places)


def _windows(parts: Sequence[TokenText], places: Sequence[tuple[int, int, int]], length: int) -> Ids:
    rows = [np.asarray(parts[p].ids[at : at + length], dtype=np.int64) for p, at, _copies in places]
    return np.stack(rows) if rows else np.zeros((0, length), dtype=np.int64)


def _example(part: TokenText, position: int, copies: int, window: Ids, prefix: int) -> dict[str, Any]:
    document = part.document_at(position)
    return {
        "doc_id": part.doc_ids[document],
        "url": part.urls[document],
        "position": position - int(part.starts[document]),
        "copies": copies,
        "prefix_ids": window[:prefix].tolist(),
        "continuation_ids": window[prefix:].tolist(),
    }
