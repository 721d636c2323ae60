"""When a module's weights may be read instead of calling the module.

A linear layer's weights may join a larger product only if calling the layer would do nothing else. A hook, a pruned
or parametrized weight, weights that accelerate has offloaded, a forward that was replaced or a module of another
class means that the layer must be called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.utils.module_tracker import ModuleTracker

# kinds of modules whose calls can be done without
READ: tuple[type[nn.Module], ...] = (nn.Linear, nn.Sequential, nn.Tanh, nn.ReLU, nn.Dropout, nn.Identity)
FORWARD: dict[type[nn.Module], Callable[..., Any]] = {kind: kind.forward for kind in READ}


def untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling the module would run the forward of `kind`, one of READ, as torch defines it, and no more."""
    return (
        type(module) is kind
        and kind.forward is FORWARD[kind]
        and "forward" not in module.__dict__
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
        and not watched_everywhere()
    )


def plain(module: nn.Module) -> bool:
    """Whether calling the module is x Wᵀ + b with the W and b that it holds, and nothing else."""
    if not untouched(module, nn.Linear):
        return False
    weight, bias = module.weight, module.bias
    # a weight that is a tensor of another class (quantized, distributed) knows best how it is multiplied
    return type(weight) in (nn.Parameter, Tensor) and (bias is None or type(bias) in (nn.Parameter, Tensor))


def watched_everywhere() -> bool:
    """Whether a hook on all modules is active, other than those by which torch counts what modules do."""
    return not all(isinstance(getattr(hook, "__self__", None), ModuleTracker) for hook in hooks_everywhere())


def hooks_everywhere() -> list[Callable[..., Any]]:
    """The hooks on all modules."""
    kinds = (
        global_hooks._global_forward_hooks,
        global_hooks._global_forward_pre_hooks,
        global_hooks._global_backward_hooks,
        global_hooks._global_backward_pre_hooks,
    )
    return [hook for kind in kinds for hook in kind.values()] if any(kinds) else []
