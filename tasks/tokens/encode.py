"""Text to ids, with fastokens where it agrees with tokenizers, which is the reference.

fastokens encodes 150 MB/s a core where tokenizers does 1 to 4, without the interpreter's lock, so threads
suffice. It is trusted only as far as it is checked: on strings that tell libraries apart when it is opened,
and on some of each shard's own text when that is written. One difference, and everything is encoded by
tokenizers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.tokens.bpe import EOS, eos_of, size_of
from tasks.tokens.errors import CanaryError

Ids = NDArray[np.uint16]
Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Documents as ids, one after another, each with the end-of-text id at its end."""

    ids: Ids
    offsets: Offsets
    """Where each document begins, and the end of the last: int64[documents + 1]."""


class Engine(Protocol):
    """A library that encodes."""

    name: str

    def flat(self, texts: Sequence[str]) -> tuple[NDArray[np.integer], Offsets]:
        """Ids of all texts, one after another, and int64[texts + 1] offsets; special tokens as text."""


class Tokenizers:
    """The reference."""

    name = "tokenizers"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def flat(self, texts: Sequence[str]) -> tuple[NDArray[np.integer], Offsets]:
        """All texts' ids in one row, and the offset of each text and of the end (len(texts) + 1)."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        parts = [np.asarray(encoding.ids, dtype=np.uint32) for encoding in encodings]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        flat = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
        return flat, np.concatenate([[0], np.cumsum(lengths)])


class Fastokens:
    """The fast one. Raises ImportError where it is missing, ValueError for what it cannot read."""

    name = "fastokens"

    def __init__(self, tokenizer: Tokenizer) -> None:
        import fastokens

        self._tokenizer: Any = fastokens.Tokenizer.from_json_str(tokenizer.to_str())

    def flat(self, texts: Sequence[str]) -> tuple[NDArray[np.integer], Offsets]:
        """All texts' ids in one row, and the offset of each text and of the end (len(texts) + 1)."""
        ids, offsets = self._tokenizer.encode_batch_flat(list(texts), split_special_tokens=True)
        return np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64).astype(np.int64)


class Encoder:
    """Encodes with one engine, and checks it against the reference."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine, reason: str = "") -> None:
        tokenizer.encode_special_tokens = True
        self.engine = engine
        self.reason = reason
        """Why it is not the fast engine; empty where it is, or where it was not asked for."""
        self.eos = eos_of(tokenizer)
        self.vocab_size = size_of(tokenizer)
        self._reference = Tokenizers(tokenizer)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids of each text with the end-of-text id appended."""
        flat, offsets = self.engine.flat(texts)
        with_eos = offsets + np.arange(len(offsets))
        ids = np.full(len(flat) + len(texts), self.eos, np.uint16)
        for index in range(len(texts)):
            ids[with_eos[index] : with_eos[index + 1] - 1] = flat[offsets[index] : offsets[index + 1]]
        return Encoded(ids, with_eos)

    def check(self, texts: Sequence[str], found: Sequence[Ids] | None = None) -> None:
        """Encode texts with the reference; raises CanaryError for the first that differs.

        ``found`` are the ids that were written for them, end-of-text included; without it they are encoded
        again.
        """
        if isinstance(self.engine, Tokenizers) or not texts:
            return
        if found is None:
            encoded = self.encode(texts)
            found = [encoded.ids[a:b] for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
        flat, offsets = self._reference.flat(texts)
        for index, (text, ids) in enumerate(zip(texts, found, strict=True)):
            right = flat[offsets[index] : offsets[index + 1]]
            if not np.array_equal(ids[:-1], right):
                raise CanaryError(
                    f"{self.engine.name} differs from tokenizers {_difference(text, ids, right)}"
                )


def _difference(text: str, ids: Ids, right: NDArray[np.integer]) -> str:
    length = min(len(ids) - 1, len(right))
    unequal = np.flatnonzero(ids[:length] != right[:length])
    place = int(unequal[0]) if len(unequal) else length
    return f"from token {place} of {text[:60]!r}: {ids[place : place + 4].tolist()}, not " + str(
        right[place : place + 4].tolist()
    )


def open_encoder(tokenizer: Tokenizer, engine: Literal["auto", "tokenizers"] = "auto") -> Encoder:
    """The fast engine where it is there and agrees on :func:`probes`; else the reference, with the reason."""
    reference = Tokenizers(tokenizer)
    if engine == "tokenizers":
        return Encoder(tokenizer, reference)
    try:
        encoder = Encoder(tokenizer, Fastokens(tokenizer))
        encoder.check(probes())
    except ImportError:
        return Encoder(tokenizer, reference, "fastokens is not installed")
    except ValueError as error:
        return Encoder(tokenizer, reference, f"fastokens cannot read the tokenizer: {error}")
    except CanaryError as error:
        return Encoder(tokenizer, reference, str(error))
    return encoder


@cache
def probes() -> tuple[str, ...]:
    """Strings on which tokenizers of different make have been seen to differ."""
    spaces = "\u00a0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\u200d\ufeff\x85\x0b\x0c\x1c"
    by_kind = "".join(" " + "".join(some) for some in _one_of_each_category())
    return (
        "",
        f"a{EOS}b {EOS}\n{EOS}{EOS} <|endoftext| >",
        "I'll we'VE they'd it's 'tis DON'T don’t ' s",
        "  two   three\t\ttabs \n\n\nlines\r\n\r\nand\rreturns   \n  end  ",
        "12345678901 1,000.50 ٣٤٥ Ⅷ ½ ²",
        "使用Python编程，今天（2024年）天气很好。「日本語」テーブルのデータ・ー한국어 텍스트",
        "e\u0301 é ﬁ 👩‍👩‍👧‍👦🏽 🇨🇳 \U0001f9ff ẍ̧͓́",
        f"a{'b'.join(spaces)}c",
        "العربية‎ עברית हिन्दी ไทย ͏᠎",
        "\x00\x01\x7f\u0378\ue000\U0010ffff\U000e0001",
        by_kind,
        "a" * 3000 + " " * 3000 + "好" * 300 + "!" * 3000,
    )


def _one_of_each_category() -> Iterator[list[str]]:
    """Two characters of every Unicode category in each of the first three planes."""
    for plane in range(3):
        found: dict[str, list[str]] = {}
        for code in range(plane << 16, (plane + 1) << 16):
            some = found.setdefault(unicodedata.category(chr(code)), [])
            if len(some) < 2 and not 0xD800 <= code < 0xE000:
                some.append(chr(code))
        yield from found.values()
