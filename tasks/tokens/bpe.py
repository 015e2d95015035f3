"""Byte-level BPE: trained, kept in a folder that AutoTokenizer reads as it is, and never fooled by web text.

The end-of-text token is a control id that only the encoder appends. A page may well contain the characters
``<|endoftext|>``; every library would turn them into the control id by default, so all encoding here (and
AutoTokenizer, through ``split_special_tokens`` in the folder) treats them as the ordinary characters they
are.

The split before merging is GPT-4's (cl100k) by default. On the Debian Handbook in Chinese and English with
some thousand web pages, at 8,192 entries, bytes a token in English / Chinese: cl100k 3.68 / 3.52, gpt2
3.61 / 3.43, cl100k with Han apart from Latin 3.68 / 3.49. Libraries also agree on it: ``\\p{Han}`` differs
between regex engines' Unicode versions, letters, digits and spaces do not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.tokens.errors import TokenizerError, TooLittleTextError

EOS = "<|endoftext|>"
MAX_VOCABULARY = 65_535
"""Ids are stored as uint16."""
BYTES = 256
RARE = ("\u3400", "\u3401")
"""Two characters that few vocabularies have, so that only their bytes tell them apart."""

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LONGEST_WORD = 300
RUNS = re.compile(r"[^\W\d_]+|\d+|(?:[^\w\s]|_)+|\s+")
"""Letters, digits, signs, spaces: what no split ends."""
ENDLESS_SPACE = re.compile(rf"\s{{{LONGEST_WORD + 1}}}")

TOKENIZER = "tokenizer.json"
Split = Literal["cl100k", "gpt2"]

FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")


def train(
    texts: Iterable[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    split: Split = "cl100k",
) -> Tokenizer:
    """Train a tokenizer of exactly ``vocab_size`` entries; the same texts give the same tokenizer.

    Raises TooLittleTextError, with both numbers, where the texts do not give that many entries.
    """
    if not BYTES < vocab_size <= MAX_VOCABULARY:
        raise TokenizerError(
            f"a vocabulary of {vocab_size:,} was asked for, but 16-bit ids allow "
            f"{BYTES + 1} to {MAX_VOCABULARY:,}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _split(split)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain.from_iterable(map(pieces, texts)), trainer)
    if (found := tokenizer.get_vocab_size()) < vocab_size:
        raise TooLittleTextError(
            f"the text gives a vocabulary of only {found:,} entries where {vocab_size:,} were asked for: add "
            f"text, or set tokenize.vocab_size to at most {found}"
        )
    tokenizer.encode_special_tokens = True
    return tokenizer


def pieces(text: str) -> Iterator[str]:
    """A text in pieces without endless words, such as a genome or Chinese without any punctuation.

    The trainer's time grows with the square of a word: one of 100,000 characters took it over a minute.
    """
    begin, longest = 0, max(map(len, text.split()), default=0)
    if longest > LONGEST_WORD or ENDLESS_SPACE.search(text):  # few texts: most are looked at no further
        for run in RUNS.finditer(text):
            for end in range(run.start() + LONGEST_WORD, run.end(), LONGEST_WORD):
                yield text[begin:end]
                begin = end
    yield text[begin:]


def _split(name: Split) -> pre_tokenizers.PreTokenizer:
    if name == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that AutoTokenizer loads into ``folder``; equal tokenizers give equal bytes.

    Without ``tokenizer_class`` AutoTokenizer would put another pre-tokenizer in, and the ids were wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    special = {"bos_token": EOS, "eos_token": EOS, "pad_token": EOS, "unk_token": None}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        **special,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "special_tokens_map.json", {k: v for k, v in special.items() if v})


def load(path: Path) -> Tokenizer:
    """A tokenizer from its folder or file, such that special tokens in text are ordinary characters.

    Raises TokenizerError where there is none, or one without an end-of-text token, or with more entries
    than 16 bits can name.
    """
    file = path / TOKENIZER if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(f"{file} cannot be read: {error.strerror}; name a tokenizer's folder") from error
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{file} is not a tokenizer.json: {error}") from error
    _check(tokenizer, file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _check(tokenizer: Tokenizer, file: Path) -> None:
    if size_of(tokenizer) > MAX_VOCABULARY:
        raise TokenizerError(
            f"{file} has ids up to {size_of(tokenizer) - 1:,}, but shards hold ids below {MAX_VOCABULARY:,}: "
            f"take a smaller one"
        )
    if not any(token.content == EOS and token.special for token in added(tokenizer).values()):
        raise TokenizerError(f"{file} has no special token {EOS}, which ends every document: add it")
    found = {tuple(tokenizer.encode(rare, add_special_tokens=False).ids) for rare in RARE}
    if len(found) < len(RARE):
        raise TokenizerError(
            f"{file} does not tell {' and '.join(RARE)} apart: characters that its vocabulary lacks would be "
            f"lost from the text without a word; take one that falls back on bytes, as GPT-2's does"
        )


def added(tokenizer: Tokenizer) -> dict[int, Any]:
    """The added tokens by id."""
    return dict(tokenizer.get_added_tokens_decoder())


def size_of(tokenizer: Tokenizer) -> int:
    """The smallest vocabulary that holds every id."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def eos_of(tokenizer: Tokenizer) -> int:
    """The id of the end-of-text token."""
    found = tokenizer.token_to_id(EOS)
    if found is None:
        raise TokenizerError(f"the tokenizer has no {EOS}")
    return int(found)


def digest(tokenizer: Tokenizer) -> str:
    """Hex sha256 of what decides the ids, whatever the layout of the file."""
    settings = json.loads(tokenizer.to_str())
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
