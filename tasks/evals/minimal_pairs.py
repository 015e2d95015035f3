"""Minimal pairs: of two sentences that differ in one point of grammar, does the model prefer the right one?

Warstadt et al. 2020, "BLiMP: The Benchmark of Linguistic Minimal Pairs": an item is right if the whole good
sentence has the higher probability. Both are scored as a document's beginning, after the end-of-text token.
A file is a phenomenon; Chinese sets in the same format (CLiMP, SLING, ZhoBLiMP) are read alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.evals.likelihood import log_probabilities
from tasks.evals.questions import Skipped, accuracy, names_of, read_items

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.gpt.model import GPT


def measure(
    model: GPT, tokenizer: Tokenizer, eos: int, files: Sequence[Path], *, most: int, batch_tokens: int
) -> dict[str, Any]:
    """Accuracy over all pairs and by file, with intervals; ``skipped`` counts lines that are no pair."""
    skipped, owners, sentences = Skipped(), [], []
    for name, path in zip(names_of(files), files, strict=True):
        for item in read_items(path, most, skipped):
            good, bad = item.get("sentence_good"), item.get("sentence_bad")
            if not (isinstance(good, str) and isinstance(bad, str)):
                skipped.add("no sentence_good and sentence_bad")
                continue
            owners.append(name)
            sentences += [("", good), ("", bad)]
    scores = [s.log_probability for s in log_probabilities(model, tokenizer, eos, sentences, batch_tokens)]
    right = [good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True)]
    by_file = {
        name: accuracy([r for r, owner in zip(right, owners, strict=True) if owner == name])
        for name in dict.fromkeys(owners)
    }
    return {**accuracy(right), "by_file": by_file, "skipped": skipped.reasons}
