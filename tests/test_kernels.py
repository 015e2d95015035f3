"""The model's bfloat16 kernels for a CPU against float32: values, gradients, and what is hidden."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.gpt import attention, loss
from tasks.gpt.attention import causal_attention
from tasks.gpt.gelu import gelu

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = 2.0**-8
"""bfloat16 keeps eight bits: a value is at most so far from its rounding, as a share of it."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def exact_attention(qkv: Tensor, heads: int) -> Tensor:
    B, T, width = qkv.shape
    q, k, v = qkv.view(B, T, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(B, T, width // 3)


@pytest.mark.parametrize("length", [1, 16, 128, 200, 300])
@pytest.mark.parametrize("sequences", [1, 2])
def test_attention_and_its_gradients_are_the_exact_ones_rounded(length: int, sequences: int) -> None:
    """In one block, in several, and where the last is shorter; what is given stays as it was."""
    assert attention.BLOCK == 128
    low, wanted = drawn(sequences, length, 3 * 32), drawn(sequences, length, 32, seed=1)
    given = low.clone()
    exact = low.float().requires_grad_()
    expected = exact_attention(exact, heads=2)
    expected.backward(wanted.float())
    found = causal_attention(low.requires_grad_(), heads=2)
    found.backward(wanted)
    assert torch.equal(low, given)
    assert low.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(found.float(), expected, atol=4 * ROUNDING, rtol=4 * ROUNDING)
    torch.testing.assert_close(low.grad.float(), exact.grad, atol=8 * ROUNDING, rtol=8 * ROUNDING)


def test_attention_sees_no_later_position() -> None:
    before = drawn(1, 300, 96)
    after = before.clone()
    after[:, 250:] = drawn(1, 50, 96, seed=2)
    first, second = causal_attention(before, heads=2), causal_attention(after, heads=2)
    assert torch.equal(first[:, :250], second[:, :250])
    assert not torch.equal(first[:, 250:], second[:, 250:])


@pytest.mark.parametrize(
    "function", [causal_attention, lambda qkv, heads: gelu(qkv)], ids=["attention", "gelu"]
)
def test_traced_for_compiling_is_one_graph_with_the_same_values_and_gradients(
    function: Callable[[Tensor, int], Tensor],
) -> None:
    """A graph that breaks at every layer has nothing to fuse, and is no faster than none."""
    traced = torch.compile(function, backend="aot_eager", fullgraph=True)
    plain, compiled = (drawn(2, 200, 96).requires_grad_() for _ in range(2))
    expected, found = function(plain, 2), traced(compiled, 2)
    wanted = drawn(*expected.shape, seed=1)
    expected.backward(wanted)
    found.backward(wanted)
    assert plain.grad is not None
    torch.testing.assert_close(found, expected, atol=4 * ROUNDING, rtol=4 * ROUNDING)
    torch.testing.assert_close(compiled.grad, plain.grad, atol=8 * ROUNDING, rtol=8 * ROUNDING)


def test_gelu_and_its_slope_are_the_exact_ones_rounded() -> None:
    low = torch.linspace(-12, 12, 300_001).bfloat16().requires_grad_()  # more than one piece
    exact = low.detach().float().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    expected.sum().backward()
    found = gelu(low)
    found.sum().backward()
    assert low.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(found.float(), expected, atol=1e-6, rtol=ROUNDING)
    torch.testing.assert_close(low.grad.float(), exact.grad, atol=1e-5, rtol=ROUNDING)
    with torch.no_grad():
        assert torch.equal(gelu(low), found)


def test_the_loss_in_bfloat16_is_that_of_the_rounded_logits() -> None:
    logits, targets = 3 * drawn(64, 500), torch.arange(64) * 7
    expected = F.cross_entropy(logits.float(), targets, reduction="sum")
    gradient = torch.softmax(logits.float(), 1) - F.one_hot(targets, 500)
    found = loss._softmax_in_place(logits, targets)
    torch.testing.assert_close(found, expected, atol=64 * ROUNDING, rtol=0)
    torch.testing.assert_close(logits.float(), gradient, atol=1e-6, rtol=ROUNDING)


def test_a_token_that_is_almost_sure_keeps_its_gradient() -> None:
    """Its probability rounds to one; what pulls it further is the others' share, to bfloat16's precision.

    Every second token is as unlikely as the rest of the vocabulary.
    """
    logits, targets = drawn(64, 500), torch.arange(64)
    logits[targets[::2], targets[::2]] += 14.0
    exact = logits.float().requires_grad_()
    expected = F.cross_entropy(exact, targets, reduction="sum")
    expected.backward()
    assert exact.grad is not None
    wanted = exact.grad[targets, targets]
    found_loss = loss._softmax_in_place(logits, targets)
    torch.testing.assert_close(logits[targets, targets].float(), wanted, atol=0.0, rtol=2 * ROUNDING)
    torch.testing.assert_close(found_loss, expected, atol=0.0, rtol=2 * ROUNDING)
