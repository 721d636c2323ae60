"""Whether operations run as they are written, or are transformed or traced by torch on the way."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def transformed() -> bool:
    """True inside torch.func's transforms (grad, vmap, jvp, …), forward-mode derivatives, torch.compile and tracing.

    None of them can look into a custom autograd function or follow every write into a tensor, so that the adapters
    then use ordinary operations.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.jit.is_tracing()
        or forward_ad._current_level >= 0
    )
