"""The registered model's own code: it travels with the weights and needs nothing of this project.

MLflow logs this file as it is ("models from code") and runs it wherever the model is loaded, so it imports
only mlflow, torch, tokenizers and safetensors, and reads a plain Hugging Face GPT-2 folder.

``predict(prompts, params)`` takes a list of strings (or a table with one column) and gives as many results.
With ``task="generate"``, the default, each is the continuation; with ``task="score"`` each is a record of
``tokens``, ``log_probability`` (nats), ``perplexity`` (a token) and ``bits_per_byte``.

``load_model(uri, model_config={"serving_precision": "bf16"})``, or ``serving_device``, choose how it is
computed. Greedy text in float32, the default, is that of transformers' ``generate``; bf16 rounds.

What happens at the edges, the same in both tasks:

- An empty prompt starts a new document (it is the end-of-text token alone).
- Of a prompt that leaves no room in the context, the last ``max(context - max_new_tokens, context // 2)``
  tokens count. Where a text outgrows the context while it is written, its last half goes on.
- A text longer than the context is scored in windows that overlap by half.
- ``<|endoftext|>`` in a prompt is ordinary text; a lone surrogate is U+FFFD.
- A prompt, parameters and a seed give the same text whatever else is in the batch; copies of one differ.

Shapes: B prompts, T positions, S cached positions, C width, H heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mlflow
import torch
import torch.nn.functional as F
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

MAX_ROWS = 64  # prompts that are worked on at once; more are done in turns
Progress = tuple[int, str, bool]
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Options:
    """What a caller can ask for; the defaults are those of the model's signature."""

    task: str = "generate"
    max_new_tokens: int = 64
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    @classmethod
    def read(cls, params: Mapping[str, Any] | None) -> Options:
        """Check a caller's parameters; raises ValueError naming every one that is wrong."""
        given = dict(params or {})
        stop = given.get("stop")
        stops = [stop] if isinstance(stop, str) else [] if stop is None else list(stop)
        given["stop"] = tuple(str(text) for text in stops if str(text))
        known = {field.name for field in fields(cls)}
        wrong = [f"{name} is none of {', '.join(sorted(known))}" for name in given if name not in known]
        options = cls(**{name: value for name, value in given.items() if name in known})
        bounds = {
            "task is 'generate' or 'score'": options.task in ("generate", "score"),
            "max_new_tokens is 1 to 65,536": 1 <= options.max_new_tokens <= 2**16,
            "temperature is at least 0 (0 takes the likeliest)": options.temperature >= 0,
            "top_k is at least 0 (0 takes all)": options.top_k >= 0,
            "top_p is above 0 and at most 1": 0 < options.top_p <= 1,
            "seed is at least 0": options.seed >= 0,
        }
        wrong += [rule for rule, holds in bounds.items() if not holds]
        if wrong:
            raise ValueError(f"wrong parameters: {'; '.join(wrong)}. Found: {dict(params or {})}")
        return options


class GPT2:
    """A GPT-2's forward pass from a Hugging Face folder, with a key-value cache of fixed size."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.layers, self.heads, self.eos = config["n_layer"], config["n_head"], config["eos_token_id"]
        self.context, self.width = config["n_positions"], config["n_embd"]
        self.device, self.dtype = device, dtype
        loaded = load_file(folder / "model.safetensors", device=str(device))
        tensors = {name.removeprefix("transformer."): value.to(dtype) for name, value in loaded.items()}
        self.embedding, self.positions = tensors["wte.weight"], tensors["wpe.weight"]
        self.head_CV = self.embedding.t().contiguous()  # for one row five times as fast as the other way
        self.norm = (tensors["ln_f.weight"], tensors["ln_f.bias"])
        self.blocks = [_block(tensors, f"h.{i}.") for i in range(self.layers)]

    def cache(self, rows: int, capacity: int) -> Tensor:
        """Room for the keys and values of so many positions, (layers, 2, B, H, S, D)."""
        shape = (self.layers, 2, rows, self.heads, capacity, self.width // self.heads)
        return torch.zeros(shape, device=self.device, dtype=self.dtype)

    @torch.inference_mode()
    def hidden(
        self, ids_BT: Tensor, positions_BT: Tensor, cache: Tensor, start: int, mask_BHTS: Tensor | None
    ) -> Tensor:
        """States before the last norm, (B, T, C); fills the cache from ``start`` on. No mask means causal."""
        rows, length = ids_BT.shape
        x_BTC = F.embedding(ids_BT, self.embedding) + F.embedding(positions_BT, self.positions)
        split = (rows, length, 3, self.heads, self.width // self.heads)
        end, causal = start + length, mask_BHTS is None and length > 1
        for layer, block in enumerate(self.blocks):
            keys, values = cache[layer]
            normed = F.layer_norm(x_BTC, (self.width,), *block["ln_1"])
            q, k, v = F.linear(normed, *block["attn.c_attn"]).view(split).permute(2, 0, 3, 1, 4)
            keys[:, :, start:end], values[:, :, start:end] = k, v
            seen = F.scaled_dot_product_attention(
                q, keys[:, :, :end], values[:, :, :end], attn_mask=mask_BHTS, is_causal=causal
            )
            x_BTC = x_BTC + F.linear(seen.transpose(1, 2).flatten(2), *block["attn.c_proj"])
            normed = F.layer_norm(x_BTC, (self.width,), *block["ln_2"])
            inner = F.gelu(F.linear(normed, *block["mlp.c_fc"]), approximate="tanh")
            x_BTC = x_BTC + F.linear(inner, *block["mlp.c_proj"])
        return x_BTC

    @torch.inference_mode()
    def logits(self, x_BTC: Tensor) -> Tensor:
        """Logits of the next token in float32, (B, T, V)."""
        rows_NC = F.layer_norm(x_BTC, (self.width,), *self.norm).flatten(0, 1)
        if len(rows_NC) == 1:  # of several rows, threads share the vocabulary out better than the rows
            return (rows_NC @ self.head_CV).float()[None]
        return (self.embedding @ rows_NC.t()).t().float().view(*x_BTC.shape[:2], -1)


def _block(tensors: dict[str, Tensor], prefix: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of each part of a block; Conv1D's matrices turned to what F.linear takes."""
    parts = {}
    for name in ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        weight, bias = tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"]
        parts[name] = (weight if name.startswith("ln") else weight.t().contiguous(), bias)
    return parts


class TextGenerator:
    """Generation and scoring of strings with one Hugging Face GPT-2 folder."""

    def __init__(self, folder: str | Path, device: str = "", precision: str = "float32") -> None:
        """``device`` is chosen where it is empty. Raises ValueError for a precision that there is not."""
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, found {precision!r}")
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = GPT2(Path(folder), torch.device(chosen), PRECISIONS[precision])
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True

    def generate(self, prompts: Sequence[str], options: Options) -> list[str]:
        """The continuation of each prompt, without the prompt and without the stop string that ended it."""
        texts = {row: text for row, text, _done in self._run(prompts, options, every_step=False)}
        return [texts[row] for row in range(len(prompts))]

    def stream(self, prompt: str, options: Options) -> Iterator[str]:
        """The continuation piece by piece: whole characters, and nothing of a stop string."""
        shown = 0
        longest = max((len(text) for text in options.stop), default=1)
        for _row, text, done in self._run([prompt], options, every_step=True):
            safe = len(text) if done else max(shown, len(text.rstrip("\ufffd")) - longest + 1)
            if safe > shown:
                yield text[shown:safe]
                shown = safe

    def _run(self, prompts: Sequence[str], options: Options, *, every_step: bool) -> Iterator[Progress]:
        """Row, text so far and whether that is complete; only complete ones unless ``every_step``."""
        room = max(self.model.context - options.max_new_tokens, self.model.context // 2, 1)
        ids = [self._encode(prompt)[-room:] or [self.model.eos] for prompt in prompts]
        seeds = [options.seed + list(prompts[:row]).count(prompt) for row, prompt in enumerate(prompts)]
        for rows in self._batches(ids, options.max_new_tokens):
            decoding = _Decoding(self, [ids[r] for r in rows], [seeds[r] for r in rows], options)
            for place, text, done in decoding.run(every_step):
                yield rows[place], text, done

    def _encode(self, text: str) -> list[int]:
        valid = text.encode(errors="surrogatepass").decode(errors="replace")
        return list(self.tokenizer.encode(valid, add_special_tokens=False).ids)

    def _batches(self, ids: list[list[int]], new: int) -> Iterator[list[int]]:
        """Rows to do together, of like length; of equal length where they will outgrow the context."""
        batch: list[int] = []
        for row in sorted(range(len(ids)), key=lambda r: len(ids[r])):
            shares = not batch or len(ids[row]) == len(ids[batch[0]])
            fits = len(ids[row]) + new <= self.model.context
            if batch and (len(batch) == MAX_ROWS or not (fits or shares)):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def score(self, text: str) -> dict[str, float]:
        """Tokens, log-probability, perplexity and bits per byte of a text as a document of its own."""
        ids = [self.model.eos, *self._encode(text)]
        context, total, done, start = self.model.context, 0.0, 0, 0
        while done < len(ids) - 1:
            window = torch.tensor([ids[start : start + context + 1]], device=self.model.device)
            length, skip = window.shape[1] - 1, done - start
            where = torch.arange(length, device=self.model.device)[None]
            x_BTC = self.model.hidden(window[:, :-1], where, self.model.cache(1, length), 0, None)
            logits = self.model.logits(x_BTC[:, skip:]).flatten(0, 1)
            total -= float(F.cross_entropy(logits, window[0, skip + 1 :], reduction="sum"))
            done, start = start + length, start + context - context // 2
        tokens, size = len(ids) - 1, max(len(text.encode(errors="surrogatepass")), 1)
        return {
            "tokens": tokens,
            "log_probability": total,
            "perplexity": math.exp(min(-total / max(tokens, 1), 700)),
            "bits_per_byte": abs(total) / math.log(2) / size,
        }


class _Decoding:
    """One batch on its way: prompts padded on the left, a cache, and the tokens written so far."""

    def __init__(
        self, owner: TextGenerator, ids: list[list[int]], seeds: list[int], options: Options
    ) -> None:
        self.owner, self.model, self.options = owner, owner.model, options
        longest, device = max(len(row) for row in ids), self.model.device
        self.pads_B = torch.tensor([longest - len(row) for row in ids], device=device)
        self.tokens_BT = torch.tensor([[0] * (longest - len(row)) + row for row in ids], device=device)
        self.cache = self.model.cache(len(ids), min(longest + options.max_new_tokens, self.model.context))
        self.new: list[list[int]] = [[] for _ in ids]
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = [torch.rand(options.max_new_tokens, generator=draw) for draw in draws]
        self.draws_BN = torch.stack(drawn).to(device)
        # Tokens at the end in which a stop string that has just been completed must lie.
        self.tail = max((len(text.encode()) for text in options.stop), default=0) + 4

    def run(self, every_step: bool) -> Iterator[Progress]:
        """Write until every row is complete; see ``TextGenerator._run``."""
        active = set(range(len(self.new)))
        logits_BV = self._read(self.tokens_BT, 0)
        for step in range(self.options.max_new_tokens):
            chosen_B = _choose(logits_BV, self.draws_BN[:, step], self.options)
            for row, token in enumerate(chosen_B.tolist()):
                if row not in active:
                    continue
                ended = token == self.model.eos
                if not ended:
                    self.new[row].append(token)
                if ended or self._stopped(row) or step + 1 == self.options.max_new_tokens:
                    active.discard(row)
                    yield row, self._text(row), True
                elif every_step:
                    yield row, self._text(row), False
            if not active:
                return
            logits_BV = self._advance(chosen_B)

    def _advance(self, chosen_B: Tensor) -> Tensor:
        """Logits after the chosen tokens; starts again from the last half where the context is full."""
        used = self.tokens_BT.shape[1]
        self.tokens_BT = torch.cat([self.tokens_BT, chosen_B[:, None]], dim=1)
        if used < self.model.context:
            return self._read(chosen_B[:, None], used)
        self.tokens_BT = self.tokens_BT[:, -max(self.model.context // 2, 1) :]
        return self._read(self.tokens_BT, 0)

    def _read(self, ids_BT: Tensor, start: int) -> Tensor:
        length = ids_BT.shape[1]
        where_T = torch.arange(start, start + length, device=ids_BT.device)
        positions_BT = (where_T[None] - self.pads_B[:, None]).clamp_min(0)
        mask = None
        if bool(self.pads_B.any()):
            seen_S = torch.arange(start + length, device=ids_BT.device)
            visible = (seen_S >= self.pads_B[:, None])[:, None] & (seen_S <= where_T[:, None])[None]
            mask = (visible | (seen_S == where_T[:, None])[None])[:, None]  # padding sees itself: no NaN
        x_BTC = self.model.hidden(ids_BT, positions_BT, self.cache, start, mask)
        return self.model.logits(x_BTC[:, -1:])[:, 0]

    def _stopped(self, row: int) -> bool:
        stops, tail = self.options.stop, self.new[row][-self.tail :]
        text = self.owner.tokenizer.decode(tail, skip_special_tokens=False) if stops else ""
        return any(stop in text for stop in stops)

    def _text(self, row: int) -> str:
        """What a row has written, up to its first stop string, without half a character at its end."""
        text: str = self.owner.tokenizer.decode(self.new[row], skip_special_tokens=False)
        ends = [place for stop in self.options.stop if (place := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text.removesuffix("\ufffd")


def _choose(logits_BV: Tensor, draws_B: Tensor, options: Options) -> Tensor:
    """A token for each row, (B,): the likeliest, or by one random number each among the likelier ones."""
    if options.temperature == 0 or options.top_k == 1:
        return logits_BV.argmax(-1)
    kept = min(options.top_k or logits_BV.shape[-1], logits_BV.shape[-1])
    best_BK, ids_BK = logits_BV.topk(kept, sorted=True)
    shares_BK = (best_BK / options.temperature).softmax(-1)
    before_BK = shares_BK.cumsum(-1) - shares_BK
    shares_BK = shares_BK.masked_fill(before_BK >= options.top_p, 0.0)
    sums_BK = shares_BK.cumsum(-1)
    place_B1 = (sums_BK <= draws_B[:, None] * sums_BK[:, -1:]).sum(-1, keepdim=True)
    return ids_BK.gather(1, place_B1.clamp_max(kept - 1))[:, 0]


def _strings(data: Any) -> list[str]:
    """Prompts from what callers send: a string, a list or array of them, or a table with one column."""
    if isinstance(data, str):
        return [data]
    if hasattr(data, "columns"):
        if len(data.columns) != 1:
            raise ValueError(f"one column of prompts is wanted, found {list(data.columns)}")
        data = data.iloc[:, 0]
    absent = ("None", "nan", "<NA>")
    return ["" if not isinstance(item, str) and f"{item}" in absent else f"{item}" for item in data]


class _Predict:
    """Apart from the class that MLflow inspects: it would advise type hints, and with them drop params."""

    generator: TextGenerator

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Continuations, or scores with ``task="score"``; see the top of this file."""
        try:
            options, prompts = Options.read(params), _strings(model_input)
        except ValueError as error:  # a server answers this with 400 and the sentence
            raise MlflowException.invalid_parameter_value(str(error)) from error
        if options.task == "generate":
            return self.generator.generate(prompts, options)
        return [self.generator.score(prompt) for prompt in prompts]

    def predict_stream(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """The continuation of one prompt, piece by piece."""
        if len(prompts := _strings(model_input)) != 1:
            raise ValueError(f"{len(prompts)} prompts: a stream takes one")
        yield from self.generator.stream(prompts[0], Options.read(params))


class TextModel(_Predict, PythonModel):
    """What ``mlflow.pyfunc.load_model`` gives."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Load the weights once, from the ``hf`` folder that was logged with this file."""
        chosen = (getattr(context, "model_config", None) or {}).items()
        options = {name.removeprefix("serving_"): value for name, value in chosen}
        self.generator = TextGenerator(context.artifacts["hf"], **options)


mlflow.models.set_model(TextModel())
