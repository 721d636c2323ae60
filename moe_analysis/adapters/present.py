"""Weights that accelerate has offloaded are made present while an adapter reads them.

accelerate loads a module's weights when the module is called. The lists of factors of MoMOR and S'MoRE are never
called, nor are layers of an adapter whose author reads their weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


@contextmanager
def weights_present(adapter: nn.Module) -> Iterator[None]:
    """Load the offloaded weights of every part of an adapter, which is to be called inside; unload them afterwards.

    The adapter's own weights are left to its call. Where nothing is offloaded nothing happens. The hooks are those of
    accelerate's `cpu_offload`, `disk_offload` and `dispatch_model`.

    >>> layer = ma.adapters.Momor(16, 16, ma.adapters.MomorConfig())
    >>> with weights_present(layer):
    ...     tuple(layer(torch.randn(3, 16))[0].shape)
    (3, 16)
    """
    with ExitStack() as stack:
        for part in adapter.modules():
            if part is not adapter and offloaded(part):
                hook: Any = part._hf_hook
                hook.pre_forward(part)
                stack.callback(hook.post_forward, part, None)
        yield


def offloaded(part: nn.Module) -> bool:
    """Whether accelerate keeps weights of this very module somewhere else."""
    absent = any(weight is not None and weight.is_meta for weight in part._parameters.values())
    return absent and hasattr(part, "_hf_hook")
