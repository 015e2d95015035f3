"""Which library multiplies float32 matrices on a CPU, and that it makes no difference but in time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tasks.gpt import products
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.supervisor import training_environment


@pytest.fixture
def openblas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products as on an AMD processor with AVX2."""
    monkeypatch.setattr(products, "library", lambda: "openblas")


@pytest.fixture
def anew() -> Iterator[None]:
    """Have the choice of library made anew, before and after."""
    products.library.cache_clear()
    yield
    products.library.cache_clear()


@pytest.mark.parametrize(
    ("amd", "capability", "waits", "chosen"),
    [
        (True, "AVX2", False, "openblas"),
        (False, "AVX2", False, "torch"),
        (True, "AVX512", False, "torch"),
        (True, "AVX2", True, "torch"),
    ],
)
@pytest.mark.usefixtures("anew")
def test_openblas_multiplies_on_amd_with_avx2_where_its_threads_sleep_soon(
    monkeypatch: pytest.MonkeyPatch, amd: bool, capability: str, waits: bool, chosen: str
) -> None:
    monkeypatch.setattr(products, "_made_by_amd", lambda: amd)
    monkeypatch.setattr(products, "_numpy_has_openblas", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    environment = training_environment(tuned_allocator=False, threads=1)
    for name in ("GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.setenv(name, environment[name])
    if waits:
        monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT")
    assert products.library() == chosen


@pytest.mark.usefixtures("openblas")
def test_a_layer_and_its_gradients_are_torchs() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 128, 96)
    theirs, ours = nn.Linear(96, 160), products.Linear(96, 160)
    ours.load_state_dict(theirs.state_dict())
    assert x.numel() * 160 >= products.FEWEST

    def through(layer: nn.Linear) -> list[Tensor]:
        given = x.transpose(0, 1).requires_grad_()  # not contiguous, as little as its gradient
        (layer(given).transpose(0, 1) * torch.linspace(-1, 1, 160)).sum().backward()
        found = [layer(given), given.grad, layer.weight.grad, layer.bias.grad]
        assert all(tensor is not None for tensor in found)
        given.grad = None
        return [tensor.detach().clone() for tensor in found if tensor is not None]

    for mine, its in zip(through(ours), through(theirs), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def test_a_models_loss_and_gradients_are_the_same_with_either(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT(GPTConfig(1000, 2, 2, 64, 64))  # of 1,024 rows of logits 24 are closed
    model.init_weights(0)
    tokens = torch.randint(1000, (8, 65), generator=torch.Generator().manual_seed(0))
    found: dict[str, list[Tensor]] = {}
    multiplied = []
    plain = products.np.matmul
    monkeypatch.setattr(products.np, "matmul", lambda *a, **k: multiplied.append(1) or plain(*a, **k))
    for library in ("torch", "openblas"):
        monkeypatch.setattr(products, "library", lambda library=library: library)
        model.zero_grad(set_to_none=True)
        loss = model(tokens[:, :-1], tokens[:, 1:])[1]
        loss.backward()
        found[library] = [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
        assert bool(multiplied) == (library == "openblas")
    for mine, its in zip(found["openblas"], found["torch"], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)
