"""Muon against torch's, schedules by their shape."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.gpt import device as devices
from tasks.gpt import optim, products, schedule
from tasks.gpt.config import OptimizerConfig, ScheduleConfig
from tasks.gpt.model import GPT, GPTConfig


def matrices(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((16, 16), (64, 16), (16, 64), (16, 16))]


def newton_schulz(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The iteration as published, on the whole of wide matrices, in their own type."""
    x = x / x.norm(dim=(1, 2), keepdim=True)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


class MatrixProducts(TorchDispatchMode):
    """Notes the types in which matrices are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if "mm" in func.name():
            self.dtypes.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


def test_batched_muon_makes_the_updates_of_torch_muon() -> None:
    ours = [nn.Parameter(m) for m in matrices(0)]
    theirs = [nn.Parameter(m) for m in matrices(0)]
    mine = optim.Muon([{"params": ours, "lr": 0.02, "weight_decay": 0.1}], momentum=0.95, steps=5)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        for a, b, gradient in zip(ours, theirs, matrices(step + 1), strict=True):
            a.grad, b.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-2)  # bfloat16 inside, in another order


def test_query_key_and_value_are_orthogonalised_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    stacked = nn.Parameter(torch.zeros(48, 16))
    apart = [nn.Parameter(torch.zeros(16, 16)) for _ in range(3)]
    gradient = torch.randn(48, 16, generator=generator)
    stacked.grad = gradient
    for parameter, part in zip(apart, gradient.split(16), strict=True):
        parameter.grad = part
    options = {"momentum": 0.9, "steps": 5, "lr": 0.1, "weight_decay": 0.0}
    optim.Muon([{"params": [stacked], "parts": 3}], **options).step()
    optim.Muon([{"params": apart}], **options).step()
    assert torch.equal(stacked, torch.cat(apart))


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    batch = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(optim.orthogonalise(batch, 5).float())
    assert singular.min() > 0.5
    assert singular.max() < 1.4


@pytest.mark.parametrize("library", ["torch", "openblas"])
@pytest.mark.parametrize("columns", [48, 192])
@pytest.mark.parametrize("condition", [1e2, 1e7])
@pytest.mark.parametrize("steps", [1, 3, 5, 10])
def test_matrices_are_orthogonalised_in_float32_as_well_as_by_the_iteration_as_published(
    steps: int, condition: float, columns: int, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "library", lambda: library)
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(2, size, 48, generator=generator, dtype=torch.float64))[0]
        for size in (48, columns)
    )
    singular = torch.logspace(0, -math.log10(condition), 48, dtype=torch.float64)
    wide = (left * singular) @ right.transpose(1, 2)
    exact = newton_schulz(wide, steps)
    allowed = 1e-5 * exact.norm() + 1.5 * (newton_schulz(wide.float(), steps) - exact).norm()
    assert (optim.orthogonalise(wide, steps, torch.float32) - exact).norm() < allowed
    tall = optim.orthogonalise(wide.transpose(1, 2), steps, torch.float32)
    assert (tall.transpose(1, 2) - exact).norm() < allowed


def test_muon_iterates_in_bfloat16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, gradient = matrices(0)[1], matrices(1)[1]
    moved = []
    for native in (True, False):
        monkeypatch.setattr(devices, "cpu_has_bf16", lambda native=native: native)
        layer = nn.Linear(16, 64, bias=False)
        layer.weight.data.copy_(start)
        layer.weight.grad = gradient.clone()
        muon, _ = optim.build(nn.ModuleDict({"fc": layer}), OptimizerConfig(kind="muon"))
        with MatrixProducts() as multiplied:
            muon.step()
        assert multiplied.dtypes == {torch.bfloat16 if native else torch.float32}
        moved.append(layer.weight.detach() - start)
    torch.testing.assert_close(*moved, atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_every_parameter_has_one_owner(kind: str) -> None:
    model = GPT(GPTConfig(vocab_size=64, n_layer=2, n_head=1, n_embd=8, block_size=8))
    optimizers = optim.build(model, OptimizerConfig(kind=kind))
    owned = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_rates_are_shares_of_each_groups_peak() -> None:
    model = GPT(GPTConfig(vocab_size=64, n_layer=1, n_head=1, n_embd=8, block_size=8))
    optimizers = optim.build(model, OptimizerConfig(matrix_lr=0.02, embedding_lr=0.004))
    optim.set_rates(optimizers, 0.5)
    rates = {group["lr"] for optimizer in optimizers for group in optimizer.param_groups}
    assert rates == {0.01, 0.002, 0.0015}


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
def test_schedules_rise_to_the_peak_and_fall_to_the_end(kind: str) -> None:
    config = ScheduleConfig(kind=kind, warmup_steps=10, decay_fraction=0.3, final_fraction=0.1)
    rates = [schedule.factor(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1)
    assert rates[9] == pytest.approx(1)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[69] == pytest.approx(1) or kind == "cosine"


def test_a_run_shorter_than_its_warm_up_still_has_rates() -> None:
    config = ScheduleConfig(warmup_steps=100)
    assert [schedule.factor(step, 2, config) for step in range(2)] == [0.5, 1.0]
