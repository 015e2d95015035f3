"""The shape of a model, in plain numbers: known without loading torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.gpt.errors import ExportError

PAD_MULTIPLE = 64
"""Rows of the embedding are padded to a multiple of this."""


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a model. ``block_size`` is the longest sequence it can see, in tokens."""

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(
                f"width {self.n_embd} is not a multiple of {self.n_head} heads: "
                f"choose a number of heads that divides it"
            )

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding as held in memory."""
        return -(-self.vocab_size // PAD_MULTIPLE) * PAD_MULTIPLE


def read_shape(folder: Path) -> GPTConfig:
    """What a Hugging Face folder's config.json says; raises ExportError unless it is a supported GPT-2."""
    path = folder / "config.json"
    if not path.is_file():
        raise ExportError(f"{folder} holds no config.json: name a Hugging Face GPT-2 folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        _check_supported(config, folder)
        return GPTConfig(
            vocab_size=config["vocab_size"],
            n_layer=config["n_layer"],
            n_head=config["n_head"],
            n_embd=config["n_embd"],
            block_size=config["n_positions"],
        )
    except KeyError as error:
        raise ExportError(f"{path} has no {error}: name a Hugging Face GPT-2 folder") from error
    except ValueError as error:
        raise ExportError(f"{path} cannot be used ({error}): fetch it again") from error


def _check_supported(config: dict[str, Any], folder: Path) -> None:
    expected: dict[str, tuple[Any, ...]] = {
        "model_type": ("gpt2",),
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "tie_word_embeddings": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "scale_attn_weights": (True,),
        "n_inner": (None, 4 * config.get("n_embd", 0)),
        "layer_norm_epsilon": (1e-5,),
    }
    for key, allowed in expected.items():
        found = config.get(key, allowed[0])
        if found not in allowed:
            raise ExportError(f"{folder}/config.json: {key} is {found!r}; this GPT-2 supports {allowed}")
