"""Cross-entropy of a linear output layer without ever holding all its logits.

For a vocabulary of 50,257 the logits of one batch of 32 x 1,024 tokens take 6.6 GB in float32, more than the
rest of the model. Both gradients of the layer can be computed chunk by chunk in the forward pass, since
d loss / d logits = softmax(logits) - onehot(target) needs nothing from later; the backward pass only
scales them. The work is the same three matmuls; the memory is one chunk's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tasks.gpt.products import affine, product

CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**24}
"""Logits that exist at once by default: in bfloat16 16 MB, which a CPU's last cache holds, and 32 MB."""

SMALLEST = 1.2e-38
"""The least probability that a normal number of either type holds; its logarithm is -87."""
LIKELY = 0.5
"""The probability from which its complement is the more exact of the two."""


def linear_cross_entropy(
    x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, targets_N: Tensor, chunk: int = 0
) -> Tensor:
    """Mean cross-entropy in nats of ``softmax(x @ weight.T + bias)`` against ``targets_N``.

    The matmuls run in the autocast type where autocast is on, the softmax in float32. ``chunk`` is a
    number of tokens; 0 takes as many as make ``CHUNK_LOGITS`` logits.
    """
    device = x_NC.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VC.dtype
    chunk = chunk or max(1, CHUNK_LOGITS.get(device, 2**24) // weight_VC.shape[0])
    loss: Tensor = _LinearCrossEntropy.apply(x_NC, weight_VC, bias_V, targets_N, chunk, dtype)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """The mean loss, and both gradients chunk by chunk where one is wanted."""
        needs_gradient = any(ctx.needs_input_grad)
        x_low, weight_low = x_NC.to(dtype), weight_VC.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        count = targets_N.numel()
        total = torch.zeros((), dtype=torch.float32, device=x_NC.device)
        grad_x = torch.empty_like(x_low) if needs_gradient else None
        grad_weight = torch.empty_like(weight_VC) if needs_gradient else None
        for start in range(0, count, chunk):
            rows = slice(start, min(start + chunk, count))
            logits = affine(x_low[rows], weight_low, bias)
            total += _softmax_in_place(logits, targets_N[rows])
            if grad_x is not None and grad_weight is not None:
                product(logits, weight_low, out=grad_x[rows])
                share = product(logits.t(), x_low[rows])
                grad_weight = grad_weight.copy_(share) if start == 0 else grad_weight.add_(share)
        if grad_x is not None and grad_weight is not None:
            ctx.save_for_backward(grad_x, grad_weight.div_(count))
            ctx.count = count
            ctx.x_dtype = x_NC.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward pass made."""
        (grad_loss,) = grads
        grad_x, grad_weight = ctx.saved_tensors
        return (
            grad_x.to(ctx.x_dtype) * (grad_loss / ctx.count),
            grad_weight * grad_loss,
            None,
            None,
            None,
            None,
        )


def _softmax_in_place(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Turn logits into ``softmax - onehot`` where they are; returns the summed loss, at most 87 a token.

    One exponential a logit: the softmax is float32 inside and rounded as it is written, and the loss is read
    off it. A likely target's probability is taken from what the others leave: rounded to bfloat16 it is off
    by up to .002, which is most of the gradient of a token that is almost sure.
    """
    on_cpu = logits_NV.device.type == "cpu"
    places = (torch.arange(len(targets_N), device=targets_N.device), targets_N)
    if on_cpu:  # it takes row after row there, and needs no second chunk
        torch.softmax(logits_NV, 1, out=logits_NV)
    else:
        logits_NV.copy_(torch.softmax(logits_NV, 1))
    target_N = logits_NV[places].float()
    logits_NV[places] = 0.0
    # A GPU sums all rows sooner than it says which are worth it.
    rows = (target_N > LIKELY).nonzero().squeeze(1) if on_cpu else slice(None)
    others_N = 1 - target_N
    others_N[rows] = _row_sums(logits_NV[rows]).float()
    logits_NV[places] = -others_N.to(logits_NV.dtype)
    likely_N = torch.log1p(-others_N.clamp_max(LIKELY))
    return torch.where(target_N > LIKELY, likely_N, target_N.clamp_min(SMALLEST).log()).sum().neg()


def _row_sums(matrix_NV: Tensor) -> Tensor:
    """The sum of each row, (N,), as a product: it sums in float32."""
    return (matrix_NV @ matrix_NV.new_ones(matrix_NV.shape[1], 1)).squeeze(1)
