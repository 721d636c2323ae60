"""Every registered adapter as a PEFT tuner: `peft.get_peft_model(model, TRexConfig(...))` on any Hugging Face model.

For each name in the registry this file makes a configuration (the adapter's own fields plus PEFT's), a layer that
wraps a linear layer, and a tuner, and registers them with PEFT. Import moe_analysis.peft_bridge (or take a config
from `moe_analysis`) before PEFT loads a checkpoint of ours, or PEFT reports the type as unknown.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType, TaskType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, _get_in_out_features
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, register_peft_method
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .adapters import REGISTRY, Adapter, AdapterConfig, Routing, RoutingContext, own
from .adapters.fused import fusible

NO_MERGE = "a routed adapter has no merge: its update depends on the input; keep it, or drop it with unload()"


class RoutingState:
    """What the layers of one tuner share during a forward pass: the routing context and the balance losses."""

    def __init__(self) -> None:
        self.context = RoutingContext()
        self.balance_losses: list[Tensor] = []
        self.collecting = self.with_grad = False

    def add(self, balance_loss: Tensor) -> None:
        """Keep one layer's balance loss; refuses one whose gradient a reentrant checkpoint would drop silently."""
        if self.with_grad and not torch.is_grad_enabled():
            raise ValueError("gradient checkpointing with use_reentrant=True loses the gradient of the balance loss; "
                             "pass gradient_checkpointing_kwargs={'use_reentrant': False}")
        self.balance_losses.append(balance_loss)

    @contextmanager
    def collect(self):
        """Gather balance losses while the forward pass runs, so that a checkpoint's recompute adds none twice."""
        self.balance_losses, self.collecting, self.with_grad = [], True, torch.is_grad_enabled()
        try:
            yield self.balance_losses
        finally:
            self.balance_losses, self.collecting = [], False


class AdapterLayer(nn.Module, BaseTunerLayer):
    """A linear layer with adapters of one system beside it; `adapters[name]` is the pure module."""

    other_param_names = ()

    def __init__(self, base_layer: nn.Module, state: RoutingState) -> None:
        super().__init__()
        self.base_layer, self.state = base_layer, state
        self.in_features, self.out_features = _get_in_out_features(self.get_base_layer())
        setattr(self, self.adapter_layer_names[0], nn.ModuleDict())
        self._disable_adapters, self.merged_adapters = False, []

    @property
    def adapters(self) -> nn.ModuleDict:
        return getattr(self, self.adapter_layer_names[0])

    def update_layer(self, name: str, config: AdapterConfig, inference_mode: bool = False) -> None:
        self.adapters[name] = REGISTRY[config.peft_type.lower()](self.in_features, self.out_features, config)
        self._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        active = [] if self.disable_adapters else [self.adapters[n] for n in self.active_adapters if n in self.adapters]
        if len(active) == 1 and not (args or kwargs) and fusible(self.base_layer, x, active[0]):
            result, routing = active[0](x, self.state.context, self.base_layer)
            self._collect(routing)
            return result
        result = self.base_layer(x, *args, **kwargs)
        for adapter in active:
            delta, routing = adapter(x.to(next(adapter.parameters()).dtype), self.state.context)
            result = result + delta.to(result.dtype)
            self._collect(routing)
        return result

    def _collect(self, routing: Routing) -> None:
        if self.state.collecting and routing.balance_loss is not None:
            self.state.add(routing.balance_loss)

    def merge(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(NO_MERGE)

    unmerge = merge


class AdapterTuner(BaseTuner):
    """Injects the layers, hands them intuition and token mask, and adds their balance losses to the model's loss."""

    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    layer_class: type[AdapterLayer]

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        if not hasattr(self, "state"):
            self.state = RoutingState()

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        targets = self.peft_config[adapter_name].target_modules
        if isinstance(targets, (set, list)):
            check_target_modules(model, targets)  # here, because PEFT's add_adapter comes by no other hook
        super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _create_and_replace(self, config: PeftConfig, adapter_name: str, target: nn.Module, target_name: str,
                            parent: nn.Module, current_key: str, **_: Any) -> None:
        if isinstance(target, AdapterLayer):
            target.update_layer(adapter_name, config)
            return
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(base, (nn.Linear, Conv1D)):
            kind = type(base).__name__
            raise ValueError(f"target module {current_key} is a {kind}; only linear layers can be adapted")
        layer = self.layer_class(target, self.state)
        layer.update_layer(adapter_name, config)
        self._replace_module(parent, target_name, layer, target)

    def _set_context(self, intuition: Tensor | None, attention_mask: Tensor | None) -> None:
        # kept until the next forward: gradient checkpointing reads it again in the backward pass, so with checkpointing
        # every forward pass needs its backward pass before the next one
        mask = attention_mask if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2 else None
        self.state.context = RoutingContext(intuition, mask)

    def forward(self, *args: Any, intuition: Tensor | None = None, **kwargs: Any) -> Any:
        """The model's forward with `intuition` (batch, clusters) for the routers; balance losses join `loss`."""
        self._set_context(intuition, current_tokens(kwargs))
        with self.state.collect() as losses:
            output = self.model(*args, **kwargs)
        return add_balance_loss(output, losses, labelled=kwargs.get("labels") is not None)

    def generate(self, *args: Any, intuition: Tensor | None = None, **kwargs: Any) -> Any:
        """The model's generate; beams repeat the samples, and the layers repeat the intuition with them."""
        self._set_context(intuition, None)
        return self.model.generate(*args, **kwargs)

    def _unload_and_optionally_merge(self, merge: bool = True, **kwargs: Any) -> nn.Module:
        if merge:
            raise ValueError(NO_MERGE)
        return super()._unload_and_optionally_merge(merge=False, **kwargs)


def add_balance_loss(output: Any, losses: list[Tensor], labelled: bool) -> Any:
    """A model's output with the layers' balance losses in its loss; unchanged where there is neither."""
    loss = getattr(output, "loss", None)
    if isinstance(output, tuple):  # return_dict=False puts the loss first
        loss = output[0] if labelled else None
    if loss is None or not losses:
        return output
    balance = torch.stack([one.to(loss.device, loss.dtype) for one in losses]).sum()
    if isinstance(output, tuple):
        return (loss + balance, *output[1:])
    # the part is kept beside the sum: a trainer that accumulates gradients scales the two differently
    output.balance_loss, output.loss = balance, loss + balance
    return output


def current_tokens(inputs: dict[str, Any]) -> Tensor | None:
    """The attention mask of the tokens that are given now; a mask that covers a cache too is cut to its end."""
    mask = inputs.get("attention_mask")
    given = inputs.get("input_ids") if inputs.get("input_ids") is not None else inputs.get("inputs_embeds")
    return mask if given is None or not isinstance(mask, Tensor) or mask.dim() != 2 else mask[:, -given.shape[1]:]


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


def check_target_modules(model: nn.Module, targets: set[str] | list[str]) -> None:
    """Raise ValueError for a target that names no module, listing the linear layers that could be meant."""
    names = [name for name, _ in model.named_modules()]
    unknown = sorted(t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names))
    if unknown:
        linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
        raise ValueError(f"target_modules {unknown} are not in the model; choose from {sorted(linear)}")


@dataclass
class PeftHalf(PeftConfig):
    """PEFT's own fields, with PEFT's meaning; task_type is CAUSAL_LM unless it is said otherwise."""

    exclude_modules: list[str] | str | None = field(default=None)
    layers_to_transform: list[int] | int | None = field(default=None)
    layers_pattern: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.task_type is None:
            # without a task PEFT calls the base model directly and intuition and balance losses never reach it
            self.task_type = TaskType.CAUSAL_LM
        super().__post_init__()
        self.peft_type = PeftType(self.system.upper())
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        self.check()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, sets as sorted lists, so that equal configurations read equal on disk."""
        return {key: sorted(value) if isinstance(value, set) else value for key, value in super().to_dict().items()}


def extend_peft_types(name: str) -> None:
    """Add a member to PEFT's enum of methods, which has no hook for methods of others."""
    member = str.__new__(PeftType, name.upper())
    member._name_, member._value_ = name.upper(), name.upper()
    PeftType._member_map_[name.upper()] = member
    PeftType._value2member_map_[name.upper()] = member
    PeftType._member_names_.append(name.upper())
    type.__setattr__(PeftType, name.upper(), member)


def bridge(name: str, adapter: type[Adapter]) -> type[PeftConfig]:
    """Make and register the PEFT config, layer and tuner of one adapter; returns the config class.

    Raises ValueError for the name of a method that PEFT has."""
    label = adapter.__name__
    if name.upper() in PeftType.__members__:
        raise ValueError(f"adapter name {name!r} is that of a method of PEFT's; choose another")
    names = {"system": name, "__doc__": adapter.config_class.__doc__, "__module__": __name__}
    config = dataclass(type(f"{label}Config", (PeftHalf, adapter.config_class), names))
    here = {"__module__": __name__}
    layer = type(f"{label}Layer", (AdapterLayer,), {"adapter_layer_names": (f"{name}_adapter",), **here})
    made = {"prefix": f"{name}_", "tuner_layer_cls": layer, "layer_class": layer, **here}
    tuner = type(f"{label}Model", (AdapterTuner,), made)
    globals().update({one.__name__: one for one in (config, layer, tuner)})  # importable and picklable by name
    extend_peft_types(name)
    register_peft_method(name=name, config_cls=config, model_cls=tuner)
    return config


CONFIGS = {name: bridge(name, adapter) for name, adapter in REGISTRY.items()}


def use_adapter(file: str | Path) -> type[PeftConfig]:
    """Register the adapter that a Python file defines, here and in every process started from here.

    file: defines a subclass of `Adapter` under `@register(name)`; `MOE_ANALYSIS_ADAPTERS` is made to name it too.
    Returns its PEFT configuration. Raises ValueError for a file that is missing, was changed since it was imported,
    registers no adapter, or several.

    >>> ma.use_adapter("no_such_file.py")
    Traceback (most recent call last):
        ...
    ValueError: adapter file ...no_such_file.py does not exist; pass the Python file that defines the adapter
    """
    module = own.load_file(Path(file))
    found = [name for name, adapter in REGISTRY.items() if adapter.__module__ == module.__name__]
    if len(found) != 1:
        raise ValueError(f"adapter file {file} registers {len(found)} adapters ({', '.join(found) or 'none'}); write "
                         "one class in it, under @register(name)")
    CONFIGS.update({name: bridge(name, REGISTRY[name]) for name in found if name not in CONFIGS})
    own.remember(Path(file))
    return CONFIGS[found[0]]
