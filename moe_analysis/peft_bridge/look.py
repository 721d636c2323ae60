"""A look into an adapted model."""

from __future__ import annotations

from torch import nn

from ..adapters import Adapter
from .layer import AdapterLayer


def adapter_modules(model: nn.Module) -> dict[str, Adapter]:
    """The active adapters of a PEFT model by the name of the layer they adapt, in the model's order.

    >>> found = adapter_modules(model)
    >>> len(found), list(found)[-1]
    (4, 'layers.3.self_attn.v_proj')
    >>> found["layers.3.self_attn.v_proj"]
    MoeLora(
      in_features=128, out_features=128
      (dropout): Identity()
      (router): Linear(in_features=128, out_features=4, bias=False)
    )
    """
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, AdapterLayer):
            active = [layer.adapters[a] for a in layer.active_adapters if a in layer.adapters]
            found.update({name.removeprefix("base_model.model.").removeprefix("model."): one for one in active[:1]})
    return found


def routes_by_intuition(model: nn.Module) -> bool:
    """Whether a forward pass of the model needs `intuition`."""
    return any(getattr(adapter.config, "intuition", False) for adapter in adapter_modules(model).values())
