"""The shape of a model, in plain numbers: known without loading torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tasks.gpt.errors import ExportError

NUMBERS = ("vocab_size", "n_layer", "n_head", "n_embd", "n_positions")
"""In config.json, as GPTConfig has them."""
WEIGHTS = "model.safetensors"
PREFIX = "transformer."
"""Of a tensor's name, where the folder was written by GPT2LMHeadModel; GPT2Model's have none."""

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
        _check_numbers(config, path)
        _check_supported(config, folder)
        return GPTConfig(*(config[name] for name in NUMBERS))
    except KeyError as error:
        raise ExportError(f"{path} has no {error}: name a Hugging Face GPT-2 folder") from error
    except ValueError as error:
        raise ExportError(f"{path} cannot be used ({error}): fetch it again") from error


def check_weights(folder: Path, shape: GPTConfig) -> None:
    """Raise ExportError unless model.safetensors holds whole weights of this shape; only its head is read."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise ExportError(f"{folder} holds no {WEIGHTS}: pickled weights are not read")
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            found = {name.removeprefix(PREFIX): file.get_slice(name).get_shape() for name in names}
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path} cannot be read ({error}): fetch it again") from error
    for name, size in _sizes(shape).items():
        if name not in found:
            raise ExportError(f"{path} lacks {PREFIX}{name}: it is not a whole GPT-2")
        if found[name] != size:
            raise ExportError(f"{path}: {PREFIX}{name} is {found[name]}, config.json says {size}")


def _sizes(shape: GPTConfig) -> dict[str, list[int]]:
    """Every tensor of a Hugging Face GPT-2, by its name without the prefix."""
    width = shape.n_embd
    sizes = {"wte.weight": [shape.vocab_size, width], "wpe.weight": [shape.block_size, width]}
    maps = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
    for layer in range(shape.n_layer):
        for name, (ins, outs) in maps.items():
            sizes[f"h.{layer}.{name}.weight"] = [ins * width, outs * width]
            sizes[f"h.{layer}.{name}.bias"] = [outs * width]
    for norm in (
        "ln_f",
        *(f"h.{layer}.{name}" for layer in range(shape.n_layer) for name in ("ln_1", "ln_2")),
    ):
        sizes |= {f"{norm}.weight": [width], f"{norm}.bias": [width]}
    return sizes


def _check_numbers(config: Any, path: Path) -> None:
    found = {name: config[name] for name in NUMBERS} if isinstance(config, dict) else {"it": config}
    for name, value in found.items():
        if not isinstance(value, int) or value < 1:
            raise ExportError(f"{path} cannot be used ({name} is {value!r:.50}): fetch it again")


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
