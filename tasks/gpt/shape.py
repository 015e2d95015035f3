"""The shape of a model, in plain numbers: known without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

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
