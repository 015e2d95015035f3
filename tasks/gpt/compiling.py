"""torch.compile, and what happens where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def compiled(module: nn.Module, failed: Callable[[str], None]) -> Callable[..., Any]:
    """A module's compiled forward pass; where compiling fails, the plain one, and ``failed`` is told why."""
    fast = torch.compile(module)
    worked = False

    def forward(*tensors: Tensor) -> Any:
        nonlocal worked
        try:
            result = fast(*tensors)
        except Exception as error:
            if worked:
                raise
            failed(f"torch.compile failed, going on without: {error!r:.300}")
            return module(*tensors)
        worked = True
        return result

    return forward
