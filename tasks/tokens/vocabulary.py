"""What a tokenizer gives for a language: bytes and characters a token, also at smaller vocabularies.

A BPE vocabulary of half the size is the same one with the later half of its merges left out, so one
training tells them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer

from tasks.tokens.bpe import BYTES, size_of
from tasks.tokens.encode import open_encoder

SMALLEST = 1024


def truncated(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """The tokenizer as it was when it had ``size`` entries; needs merges in the order of their ids."""
    settings = json.loads(tokenizer.to_str())
    vocab = {token: index for token, index in settings["model"]["vocab"].items() if index < size}
    merges = [pair for pair in settings["model"]["merges"] if "".join(pair) in vocab]
    settings["model"] |= {"vocab": vocab, "merges": merges}
    smaller = Tokenizer.from_str(json.dumps(settings))
    smaller.encode_special_tokens = True
    return smaller


def sizes_below(size: int) -> list[int]:
    """Halves of a vocabulary down to a thousand, the whole one last."""
    sizes = [size]
    while sizes[-1] // 2 >= max(SMALLEST, BYTES + 1):
        sizes.append(sizes[-1] // 2)
    return sizes[::-1]


def measure(
    tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]], *, halves: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Bytes and characters a token, by language and vocabulary size (as text, for JSON)."""
    full = size_of(tokenizer)
    found: dict[str, dict[str, dict[str, float]]] = {language: {} for language in sorted(texts)}
    for size in sizes_below(full) if halves else [full]:
        encoder = open_encoder(tokenizer if size == full else truncated(tokenizer, size))
        for language, some in sorted(texts.items()):
            tokens = max(len(encoder.encode(some).ids) - len(some), 1)
            found[language][str(size)] = {
                "bytes_per_token": round(sum(len(text.encode()) for text in some) / tokens, 3),
                "characters_per_token": round(sum(map(len, some)) / tokens, 3),
            }
    return found
