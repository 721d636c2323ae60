"""Which layers of a model an adapter can be put into."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer, _maybe_include_all_linear_layers
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from .layer import AdapterLayer

LINEAR = (nn.Linear, Conv1D)
# layers whose weights a block of this type of model reads without calling them: out_proj in its kernels, as PEFT's
# LoRA has it, dt_proj always
UNCALLED = {
    **dict.fromkeys(("mamba", "falcon_mamba"), ("out_proj", "dt_proj")),
    **dict.fromkeys(("mamba2", "falcon_h1", "nemotron_h"), ("out_proj",)),
    "jamba": ("dt_proj",),
}


def check_target_modules(model: nn.Module, targets: set[str] | list[str]) -> None:
    """Raise ValueError for a target that names no module, listing the linear layers that could be meant."""
    names = [name for name, _ in model.named_modules()]
    unknown = sorted(t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names))
    if unknown:
        raise ValueError(f"target_modules {unknown} are not in the model; choose from {linear_names(model)}")


def linear_names(model: nn.Module) -> list[str]:
    """The last part of the names of a model's linear layers, each once."""
    return sorted({name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, LINEAR)})


def refuse_other_systems(model: nn.Module, layer_class: type[AdapterLayer]) -> None:
    """Raise ValueError if a model has adapters of another of our systems: its layers would take those of this one."""
    others = {type(m) for m in model.modules() if isinstance(m, AdapterLayer) and not isinstance(m, layer_class)}
    if others:
        names = sorted(one.adapter_layer_names[0].removesuffix("_adapter").upper() for one in others)
        raise ValueError(
            f"the model has adapters of {', '.join(names)}, and a model has those of one system; call unload() first, "
            "or load a fresh base model"
        )


def expand_all_linear(config: Any, model: nn.Module) -> None:
    """Write the names that "all-linear" means into a configuration: what cannot be adapted is left out."""
    if str(config.target_modules).lower() != INCLUDE_LINEAR_LAYERS_SHORTHAND:
        return
    _maybe_include_all_linear_layers(config, model)
    modules = dict(model.named_modules())
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    # PEFT knows layers with adapters by "Linear" in the name of their class
    adapted = {name for name, module in modules.items() if isinstance(module, AdapterLayer) and module is not head}
    config.target_modules = {
        name for name in config.target_modules | adapted if why_not(name, modules[name], model) is None
    }


def refuse_unfit(config: Any, model: nn.Module, targeted: Any) -> None:
    """Raise ValueError for a targeted module that cannot be adapted, before any is.

    Args:
        config: The adapter's configuration.
        model: The model.
        targeted: PEFT's rule, from a configuration and a module's name to whether it is a target.
    """
    inside: str | None = None  # a layer with adapters, whose parts are no targets
    for name, module in model.named_modules():
        if not name or (inside is not None and name.startswith(inside)):
            continue
        inside = f"{name}." if isinstance(module, BaseTunerLayer) else None
        if targeted(config, name) and (reason := why_not(name, module, model)):
            raise ValueError(f"target module {name} {reason}")


def why_not(name: str, module: nn.Module, model: nn.Module) -> str | None:
    """Why a module cannot be adapted; None if it can."""
    base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    if not isinstance(base, LINEAR):
        return f"is a {type(base).__name__}; only linear layers can be adapted"
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if isinstance(base, NonDynamicallyQuantizableLinear):
        kind = "torch.nn.MultiheadAttention"
    elif name.rpartition(".")[2] not in UNCALLED.get(kind, ()):
        return None
    return (
        f"would not be called, because {kind} reads its weight instead, so an adapter would do nothing; leave it out "
        "of target_modules"
    )
