"""Models out to a plain Hugging Face folder and in from one.

Three things a folder needs so that others read what was trained: ``gelu_pytorch_tanh`` (``gelu_new`` rounds
differently: 1.9e-6 in the logits), the four matrices of a layer transposed (GPT-2's Conv1D), and a
tokenizer_config.json that names PreTrainedTokenizerFast (AutoTokenizer would else put GPT-2's pre-tokenizer
in place of the trained one, silently, and every id would be wrong).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasks.gpt.errors import ExportError
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.shape import PREFIX, WEIGHTS, check_weights, read_shape

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
EOS = "<|endoftext|>"


def save_hf(model: GPT, tokenizer_folder: Path, out: Path) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files into ``out``.

    The same weights give the same bytes. Raises ExportError where the tokenizer has no tokenizer.json,
    lacks the end-of-text token or has more entries than the model, and on a full disk.
    """
    out.mkdir(parents=True, exist_ok=True)
    eos = _copy_tokenizer(tokenizer_folder, out, model.config)
    tensors = {
        f"{PREFIX}{name}": _outside(name, tensor, model.config)
        for name, tensor in sorted(model.state_dict().items())
    }
    try:
        save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # the library's own error also where the disk is full
        raise ExportError(f"could not write {out / WEIGHTS}: {error}; make room and run again") from error
    _write_json(out / "config.json", _hf_config(model.config, eos))
    _write_json(
        out / "generation_config.json", {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": eos}
    )


def load_hf(folder: Path) -> GPT:
    """A model from a Hugging Face GPT-2 folder (ours, or a released GPT-2), in float32 on the CPU.

    Raises ExportError for another architecture, an unsupported variant, or weights that do not fit.
    """
    shape = read_shape(folder)
    check_weights(folder, shape)
    model = GPT(shape)
    model.load_state_dict(_inside(load_file(folder / WEIGHTS), model))
    return model


def _inside(tensors: dict[str, Tensor], model: GPT) -> dict[str, Tensor]:
    """Hugging Face's names and layout to ours, with the embedding's padded rows added."""
    state = {}
    for name, wanted in model.state_dict().items():
        tensor = tensors[f"{PREFIX}{name}" if f"{PREFIX}{name}" in tensors else name].float()
        if name.endswith(TRANSPOSED):
            tensor = tensor.t().contiguous()
        if name == "wte.weight":
            tensor = torch.cat([tensor, tensor.new_zeros(wanted.shape[0] - tensor.shape[0], tensor.shape[1])])
        state[name] = tensor
    return state


def _outside(name: str, tensor: Tensor, config: GPTConfig) -> Tensor:
    tensor = tensor.detach().cpu().float()
    if name == "wte.weight":
        tensor = tensor[: config.vocab_size]
    return (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()


def _hf_config(config: GPTConfig, eos: int) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_pytorch_tanh",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "dtype": "float32",
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": None,
        "n_layer": config.n_layer,
        "n_positions": config.block_size,
        "reorder_and_upcast_attn": False,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _copy_tokenizer(folder: Path, out: Path, config: GPTConfig) -> int:
    """Write the tokenizer's files beside the model; returns the end-of-text token's id."""
    source = folder / "tokenizer.json"
    if not source.is_file():
        raise ExportError(f"{folder} holds no tokenizer.json: name a tokenizer's folder")
    text = source.read_text(encoding="utf-8")
    tokenizer = json.loads(text)
    ids = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    entries = len(set(tokenizer["model"]["vocab"].values()) | set(ids.values()))
    if entries > config.vocab_size:
        raise ExportError(f"{source} has {entries} entries, the model {config.vocab_size}: not its tokenizer")
    if EOS not in ids:
        raise ExportError(f"{source} has no {EOS} token: train the tokenizer with it")
    (out / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": EOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.block_size,
        "split_special_tokens": True,  # what a page or a prompt writes is text, never a control id
    }
    _write_json(out / "tokenizer_config.json", settings)
    return int(ids[EOS])


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
