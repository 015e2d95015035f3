"""GPT-2 as the paper has it, laid out for speed, with logits equal to transformers' from the same weights.

Shapes are named by suffix: B sequences, T positions, C width, H heads, D width of a head, V vocabulary,
N = B * T tokens.

Two things differ from a textbook GPT-2, and neither can be seen from outside:

- The embedding has rows up to the next multiple of 64, so that the output matmul runs on whole tiles
  (19 % of a small model's step on a CPU). The rows beyond the vocabulary get a bias of -1e9 in the same
  matmul, so that their probability and their gradient are exactly zero; an export drops them.
- The loss is computed in chunks of tokens, gradients included, so that logits never exist as a whole
  (see ``tasks.gpt.loss``).

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": learned positions, LayerNorm
before each block and after the last, tanh-approximated GELU, the output tied to the embedding, residual
projections drawn with a deviation of 0.02 / sqrt(2 * layers).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tasks.gpt.attention import causal_attention
from tasks.gpt.gelu import gelu
from tasks.gpt.loss import linear_cross_entropy
from tasks.gpt.products import Linear
from tasks.gpt.shape import GPTConfig

__all__ = ["GPT", "GPTConfig", "LayerCache"]

CLOSED = -1e9
"""The logit of a padded row: its probability underflows to exactly zero."""
LONGEST_MASKED, LONGEST_CAUSAL = 512, 1024
"""Positions up to which explicit attention is used on a CPU, with a mask and without."""
EPSILON = 1e-5
"""GPT-2's LayerNorm epsilon."""


@dataclass
class LayerCache:
    """Keys and values of one layer for the tokens seen so far, each (B, H, capacity, D)."""

    keys: Tensor
    values: Tensor


def _low_on_cpu(tensor: Tensor) -> bool:
    """Whether torch's own kernels are not the fastest: bfloat16 on a CPU."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu"


_loss_uncompiled = torch.compiler.disable(linear_cross_entropy)  # type: ignore[no-untyped-call]
"""On a CPU torch's own softmax takes two thirds of the time of one compiled in its place."""


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(
        self,
        x_BTC: Tensor,
        cache: LayerCache | None = None,
        start: int = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within the sequence, and to ``start`` cached positions before it where a cache is given.

        ``mask`` says where attention goes, bool, broadcast to (B, H, T, T); None is all that came before.
        """
        B, T, C = x_BTC.shape
        qkv_BTC3 = self.c_attn(x_BTC)
        fits = (LONGEST_CAUSAL if mask is None else LONGEST_MASKED) >= T
        explicit = cache is None and fits and _low_on_cpu(qkv_BTC3)
        if explicit and mask is None:
            return cast(Tensor, self.c_proj(causal_attention(qkv_BTC3, self.n_head)))
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for part in qkv_BTC3.split(C, dim=2)
        )
        if cache is not None:
            cache.keys[:, :, start : start + T] = k
            cache.values[:, :, start : start + T] = v
            k = cache.keys[:, :, : start + T]
            v = cache.values[:, :, : start + T]
            mask = torch.ones(T, start + T, dtype=torch.bool, device=x_BTC.device).tril(start)
        if explicit and mask is not None:
            y_BHTD = _explicit_attention(q, k, v, mask)
        else:
            y_BHTD = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return cast(Tensor, self.c_proj(y_BHTD.transpose(1, 2).reshape(B, T, C)))


def _explicit_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, mask: Tensor) -> Tensor:
    """Attention in three plain operations where a mask says what is seen.

    On a CPU in bfloat16, forward and back, it takes half the time of torch's fused kernel up to a few
    hundred positions, for T * T scores a head in memory.
    """
    closed = torch.zeros(mask.shape, dtype=q_BHTD.dtype).masked_fill(~mask, -math.inf)
    scores_BHTT = (q_BHTD * q_BHTD.shape[-1] ** -0.5) @ k_BHTD.transpose(-1, -2) + closed
    probabilities_BHTT = torch.softmax(scores_BHTT, dim=-1)  # bfloat16 in and out, float32 inside
    return probabilities_BHTT @ v_BHTD


class MLP(nn.Module):
    """Two matrices with a GELU between them, four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Transform each position by itself."""
        inner = self.c_fc(x_BTC)
        if _low_on_cpu(inner):
            return cast(Tensor, self.c_proj(gelu(inner)))
        return cast(Tensor, self.c_proj(F.gelu(inner, approximate="tanh")))


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the stream it read normalised."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=EPSILON)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=EPSILON)
        self.mlp = MLP(config)

    def forward(
        self,
        x_BTC: Tensor,
        cache: LayerCache | None = None,
        start: int = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Add this layer's two contributions to the residual stream."""
        x_BTC = x_BTC + self.attn(self.ln_1(x_BTC), cache, start, mask)
        return cast(Tensor, x_BTC + self.mlp(self.ln_2(x_BTC)))


def _apart(pieces_BT: Tensor, places_T: Tensor) -> tuple[Tensor, Tensor]:
    """What keeps packed documents apart: the mask, bool (B, 1, T, T), and positions within each, (B, T)."""
    same_BTT = pieces_BT.unsqueeze(2) == pieces_BT.unsqueeze(1)
    first_BT = torch.ones_like(pieces_BT, dtype=torch.bool)
    first_BT[:, 1:] = pieces_BT[:, 1:] != pieces_BT[:, :-1]
    begin_BT = torch.where(first_BT, places_T, 0).cummax(dim=1).values
    return same_BTT.tril().unsqueeze(1), places_T - begin_BT


class GPT(nn.Module):
    """The whole model; parameter names are transformers' without the ``transformer.`` prefix."""

    closed: Tensor | None

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """Activation checkpointing: keep only each layer's input and compute the rest again backwards."""
        self.loss_chunk = 0
        """Tokens whose logits exist at once; 0 chooses by the vocabulary's size."""
        self.wte = nn.Embedding(config.padded_vocab, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=EPSILON)
        closed = None
        if config.padded_vocab != config.vocab_size:
            closed = torch.zeros(config.padded_vocab)
            closed[config.vocab_size :] = CLOSED
        self.register_buffer("closed", closed, persistent=False)

    def init_weights(self, seed: int) -> None:
        """Draw the weights as the paper does, from one seeded generator on the CPU, in a fixed order."""
        generator = torch.Generator().manual_seed(seed)
        residual = 0.02 / math.sqrt(2 * self.config.n_layer)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() == 2:
                    std = residual if name.endswith("c_proj.weight") else 0.02
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
                else:
                    parameter.fill_(1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0)
            self.wte.weight[self.config.vocab_size :] = 0

    def hidden(
        self,
        idx_BT: Tensor,
        cache: list[LayerCache] | None = None,
        start: int = 0,
        pieces_BT: Tensor | None = None,
    ) -> Tensor:
        """The normalised state after the last layer, (B, T, C).

        ``pieces_BT`` numbers the documents of packed sequences from 0 on, in runs, with -1 for padding: each
        is seen by itself, from position 0. Raises ValueError where the sequence is longer than the model's
        context.
        """
        end, longest = start + idx_BT.shape[1], self.config.block_size
        if end > longest:
            raise ValueError(f"{end} tokens do not fit a context of {longest}: shorten the input")
        positions = torch.arange(start, end, device=idx_BT.device)
        mask = None
        if pieces_BT is not None:
            mask, positions = _apart(pieces_BT, positions)
        x_BTC = self.wte(idx_BT) + self.wpe(positions)
        for index, block in enumerate(self.h):
            if self.recompute and self.training:
                run = cast(Callable[..., Tensor], block)
                x_BTC = checkpoint(run, x_BTC, None, 0, mask, use_reentrant=False)
            else:
                x_BTC = block(x_BTC, None if cache is None else cache[index], start, mask)
        return cast(Tensor, self.ln_f(x_BTC))

    def forward(
        self, idx_BT: Tensor, targets_BT: Tensor | None = None, pieces_BT: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits (B, T, V) without targets; the mean loss in nats a token, and no logits, with them.

        ``pieces_BT`` as in :meth:`hidden`; padding counts nothing in the loss.
        """
        x_BTC = self.hidden(idx_BT, pieces_BT=pieces_BT)
        if targets_BT is None:
            return self.logits(x_BTC), None
        x_NC, targets_N = x_BTC.flatten(0, 1), targets_BT.flatten()
        if pieces_BT is not None:
            inside_N = pieces_BT.flatten() >= 0
            x_NC, targets_N = x_NC[inside_N], targets_N[inside_N]
        loss_of = _loss_uncompiled if x_NC.device.type == "cpu" else linear_cross_entropy
        return None, loss_of(x_NC, self.wte.weight, self.closed, targets_N, self.loss_chunk)

    def logits(self, x_BTC: Tensor) -> Tensor:
        """Logits of the real vocabulary, (B, T, V), from normalised states."""
        return F.linear(x_BTC, self.wte.weight[: self.config.vocab_size])

    @torch.no_grad()
    def token_losses(self, idx_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The loss of every token by itself in nats, float32, (B, T): what bits per byte are summed from."""
        x_NC = self.hidden(idx_BT).flatten(0, 1)
        weight_VC = self.wte.weight[: self.config.vocab_size]
        chunk = max(1, 2**24 // self.config.vocab_size)
        losses = [
            F.cross_entropy(F.linear(x, weight_VC).float(), y, reduction="none")
            for x, y in zip(torch.split(x_NC, chunk), torch.split(targets_BT.flatten(), chunk), strict=True)
        ]
        return torch.cat(losses).view(targets_BT.shape)

    def count_parameters(self) -> int:
        """Parameters as exported: without the embedding's padded rows."""
        padded = (self.config.padded_vocab - self.config.vocab_size) * self.config.n_embd
        return sum(parameter.numel() for parameter in self.parameters()) - padded
