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

CHUNK_LOGITS = 2**22
"""Logits that exist at once by default: 16 MB in float32, about a CPU's last-level cache."""


def linear_cross_entropy(
    x_NC: Tensor, weight_VC: Tensor, bias_V: Tensor | None, targets_N: Tensor, chunk: int = 0
) -> Tensor:
    """Mean cross-entropy in nats of ``softmax(x @ weight.T + bias)`` against ``targets_N``.

    The matmuls run in the autocast type where autocast is on, the softmax in float32. ``chunk`` is a
    number of tokens; 0 takes as many as make ``CHUNK_LOGITS`` logits.
    """
    device = x_NC.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VC.dtype
    chunk = chunk or max(1, CHUNK_LOGITS // weight_VC.shape[0])
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
        needs_gradient = any(ctx.needs_input_grad)
        x_low, weight_low = x_NC.to(dtype), weight_VC.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        count = targets_N.numel()
        total = torch.zeros((), dtype=torch.float32, device=x_NC.device)
        grad_x = torch.empty_like(x_low) if needs_gradient else None
        grad_weight = torch.zeros_like(weight_VC) if needs_gradient else None
        for start in range(0, count, chunk):
            rows = slice(start, min(start + chunk, count))
            x, target = x_low[rows], targets_N[rows].unsqueeze(1)
            logits = torch.nn.functional.linear(x, weight_low, bias)
            log_probs = torch.log_softmax(logits, dim=1, dtype=torch.float32)
            total -= log_probs.gather(1, target).sum()
            if grad_x is None or grad_weight is None:
                continue
            grad = log_probs.exp_()
            grad.scatter_add_(1, target, grad.new_full((1, 1), -1.0).expand_as(target))
            grad_low = grad.mul_(1.0 / count).to(dtype)
            torch.mm(grad_low, weight_low, out=grad_x[rows])
            grad_weight += grad_low.t() @ x
        if grad_x is not None and grad_weight is not None:
            ctx.save_for_backward(grad_x, grad_weight)
            ctx.x_dtype = x_NC.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_loss,) = grads
        grad_x, grad_weight = ctx.saved_tensors
        return (grad_x * grad_loss).to(ctx.x_dtype), grad_weight * grad_loss, None, None, None, None
