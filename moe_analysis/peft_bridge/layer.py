"""A linear layer of a model with its adapters."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features
from torch import Tensor, nn

from ..adapters import REGISTRY, Adapter, AdapterConfig, Routing, RoutingContext
from ..adapters.fused import fusible
from ..adapters.present import weights_present
from .call import ALONE, Call, balance_weight, called_alone, current, in_backward
from .loss import teach_trainer

NO_MERGE = "a routed adapter has no merge: its update depends on the input; keep it, or remove it with unload()"
NO_WEIGHTED_SUM = (
    "routed adapters have no weighted sum: the update of each depends on the input; let several act together, "
    "model.base_model.set_adapter([...])"
)
WITHOUT_CALL = (
    "layer {} is recomputed in a backward pass, but its forward pass is unknown, because a part of the model was "
    "checkpointed by hand; wrap the function, "
    "checkpoint(moe_analysis.peft_bridge.keeping_call(function), ...), or use model.gradient_checkpointing_enable()"
)
NOBODY = "__base__"  # PEFT's word for a row without an adapter


class AdapterLayer(nn.Module, BaseTunerLayer):
    """A linear layer with adapters of one system; `adapters[name]` is the pure module."""

    other_param_names = ()

    def __init__(self, base_layer: nn.Module, key: str = "") -> None:
        super().__init__()
        self.base_layer, self.key = base_layer, key
        self.in_features, self.out_features = _get_in_out_features(self.get_base_layer())
        setattr(self, self.adapter_layer_names[0], nn.ModuleDict())
        self._disable_adapters, self.merged_adapters = False, []

    @property
    def adapters(self) -> nn.ModuleDict:
        return getattr(self, self.adapter_layer_names[0])

    @property
    def weight(self) -> Tensor:
        """The base layer's; a pass that reads it and does not call the layer is refused at its end."""
        if (call := current()) is not None and not torch.compiler.is_compiling():
            call.read.add(self.key)
        return BaseTunerLayer.weight.fget(self)

    def update_layer(self, name: str, config: AdapterConfig, inference_mode: bool = False) -> None:
        self.adapters[name] = REGISTRY[config.peft_type.lower()](self.in_features, self.out_features, config)
        super()._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """To the device alone: PEFT rounds what it loaded with `low_cpu_mem_usage` to half types, and widens it again."""
        target = device or self._get_base_layer_device_and_dtype(self.get_base_layer())[0]
        if target is None or adapter_name not in self.adapters:
            return
        if not any(parameter.is_meta for parameter in self.adapters[adapter_name].parameters()):
            self.adapters[adapter_name].to(target)

    def train(self, mode: bool = True) -> AdapterLayer:
        teach_trainer()  # here, because Trainer says train() or eval() before it computes a loss
        return super().train(mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output (…, out_features) with the updates of its active adapters.

        Raises:
            ValueError: If an adapter needs to know of its forward pass what cannot be known here; the message says
                what to do.
        """
        call = current()
        if call is not None and not torch.compiler.is_compiling():
            call.ran.add(self.key)
        if call is not None and call.adapter_names is not None and not self.disable_adapters:
            return self._mixed(x, call, args, kwargs)
        active = self._active(call)
        if len(active) == 1 and not (args or kwargs) and fusible(self.base_layer, x, active[0]):
            result, routing = active[0](x, self._context(x, call, active[0]), self.base_layer)
            return collect(call, routing, result)
        result = self.base_layer(x, *args, **kwargs)
        for adapter in active:
            delta, routing = self._update(x, self._context(x, call, adapter), adapter)
            result = collect(call, routing, result + delta.to(result.dtype))
        return result

    def _active(self, call: Call | None) -> list[Adapter]:
        """The adapters to apply; in a recompute those of the pass that it repeats."""
        names = [] if self.disable_adapters else self.active_adapters
        if call is not None and not torch.compiler.is_compiling():
            names = call.active.setdefault(id(self), names)
        return [self.adapters[name] for name in names if name in self.adapters]

    def _context(self, x: Tensor, call: Call | None, adapter: Adapter) -> RoutingContext:
        if call is not None:
            return call.context(x, self.key, adapter)
        needs_call = balance_weight(adapter) or getattr(adapter.config, "intuition", False)
        if needs_call and not torch.compiler.is_compiling():
            if in_backward():
                raise ValueError(WITHOUT_CALL.format(self.key))
            if (model := called_alone()) is not None:
                raise ValueError(ALONE.format(type(model).__name__))
        return RoutingContext()

    def _update(self, x: Tensor, context: RoutingContext, adapter: Adapter) -> tuple[Tensor, Routing]:
        first = next(adapter.parameters())
        if first.is_meta:  # accelerate keeps the weights elsewhere until a module is called
            with weights_present(adapter):
                return adapter(x.to(next(adapter.parameters()).dtype), context)
        return adapter(x.to(first.dtype), context)

    def _mixed(self, x: Tensor, call: Call, args: Any, kwargs: Any) -> Tensor:
        """Every row of the batch with its own adapter."""
        names = call.adapter_names or []
        if x.shape[0] != len(names):
            raise ValueError(
                f"adapter_names has {len(names)} names but layer {self.key} gets {tuple(x.shape[:-1])} "
                "rows, so it is unknown which row uses which adapter; leave the layer out of target_modules"
            )
        result = self.base_layer(x, *args, **kwargs)
        for name in dict.fromkeys(names):
            if name == NOBODY or name not in self.adapters:
                continue
            adapter, rows = self.adapters[name], torch.tensor([place for place, one in enumerate(names) if one == name])
            context = self._context(x, call, adapter)
            own = RoutingContext(
                *(
                    None if part is None else part[rows.to(part.device)]
                    for part in (context.intuition, context.token_mask)
                )
            )
            rows = rows.to(x.device)
            delta, _ = self._update(x[rows], own, adapter)
            result = result.index_add(0, rows, delta.to(result.dtype))
        return result

    def merge(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(NO_MERGE)

    unmerge = merge


def collect(call: Call | None, routing: Routing, y: Tensor) -> Tensor:
    return y if call is None or routing.balance_loss is None else call.add(routing.balance_loss, y)
