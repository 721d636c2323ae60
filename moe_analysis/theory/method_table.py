"""What an adapter costs on a whole model: the layers that it adapts, and the cost table of every comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from .cost import cost, lora_cost
from .cost_terms import Cost, Term

if TYPE_CHECKING:
    import pandas as pd

Shapes: TypeAlias = "Any | Sequence[tuple[int, int]]"  # a model, or (in, out) of each adapted layer
COLUMNS = ("method", "total", "trainable", "active", "router_share", "operations", "computed", "total_operations")
# fields of a PEFT configuration that add parameters no formula counts, with what they hold where they add none
UNCOUNTED: dict[str, tuple[Any, ...]] = {
    "modules_to_save": (None,),
    "bias": ("none",),
    "lora_bias": (False,),
    "use_dora": (False,),
    "use_qalora": (False,),
    "use_bdlora": (None,),
    "rank_pattern": ({},),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "megatron_config": (None,),
}


def method_table(configs: Mapping[str, Any], shapes: Shapes) -> pd.DataFrame:
    """One row per method: what it costs on a model, or on layers [(in, out), …], by formula and without any memory.

    Columns: method; total, parameters of backbone and adapter; trainable, of the adapter; active, those of them that a
    token uses at most, its router included; router_share, of the trainable ones; operations, multiply-accumulates per
    token that the adapter's mathematics needs; computed, those that our modules make of it, idle experts included;
    total_operations, of the backbone and the adapter. The backbone's operations are its products with weights
    (`backbone_operations`); total and total_operations are missing where only shapes are known. The model may live on
    the meta device.

    Raises:
        ValueError: As `adapter_cost` and `layer_shapes` do.

    Example:
        >>> table = method_table({"LoRA-MoE": ma.MoeLoraConfig(num_experts=4, r=2)}, [(128, 128)])
        >>> table[["trainable", "active", "operations"]].iloc[0].tolist()
        [2560, 2560, 2560]
    """
    import pandas as pd

    model: Any = shapes if hasattr(shapes, "named_modules") else None
    weights = None if model is None else sum(parameter.numel() for parameter in model.parameters())
    products = None if model is None else backbone_operations(model)
    rows = []
    for method, config in configs.items():
        found = adapter_cost(config, layer_shapes(shapes, config))
        needed, computed = (
            found.macs("experts", column) + found.macs("router", column) for column in ("paper", "module")
        )
        rows.append(
            (
                method,
                None if weights is None else weights + found.parameters,
                found.parameters,
                found.active_parameters + found.router_parameters,
                found.router_parameters / found.parameters,
                needed,
                computed,
                None if products is None else products + needed,
            )
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = [name for name in COLUMNS if name not in ("method", "router_share")]
    return frame.astype(dict.fromkeys(numbers, "Int64"))


def adapter_cost(config: Any, layers: Sequence[tuple[int, int]]) -> Cost:
    """The cost of one configuration, ours (pure or PEFT's) or peft.LoraConfig, on layers [(in, out), …] together.

    Raises:
        ValueError: For a configuration that is not one of ours or that cannot be built, and for options that
            add parameters no formula counts.
    """
    refuse_uncounted(config)
    if hasattr(config, "check"):
        config.check()
    priced = [(layer_cost(config, *shape), times) for shape, times in Counter(map(tuple, layers)).items()]
    terms: dict[tuple[str, str, str], Term] = {}
    for one, times in priced:
        for term in one.terms:
            known = terms.get(key := (term.part, term.name, term.why), Term(term.part, term.name, 0, 0, 0, term.why))
            terms[key] = replace(
                known,
                paper=known.paper + times * term.paper,
                module=known.module + times * term.module,
                per_call=known.per_call + times * term.per_call,
            )
    return Cost(
        sum(one.expert_parameters * times for one, times in priced),
        sum(one.router_parameters * times for one, times in priced),
        sum(one.active_parameters * times for one, times in priced),
        tuple(terms.values()),
    )


def layer_cost(config: Any, in_features: int, out_features: int) -> Cost:
    """The cost of one layer.

    Raises:
        ValueError: For a configuration that is neither one of ours nor LoRA's.
    """
    if getattr(config, "peft_type", None) == "LORA":
        return lora_cost(in_features, out_features, config.r)
    return cost(registered_name(config), in_features, out_features, config)


def registered_name(config: Any) -> str:
    """The adapter's name in the registry, of a pure configuration or its sister with PEFT's half."""
    from ..adapters.base import REGISTRY

    names = {adapter.config_class: name for name, adapter in REGISTRY.items()}
    # the nearest ancestor: SiRA's configuration is a LoRA-MoE's too
    for ancestor in type(config).__mro__:
        if ancestor in names:
            return names[ancestor]
    raise ValueError(
        f"adapter is a {type(config).__name__}, which has no cost formula; pass peft.LoraConfig or a "
        f"configuration of {', '.join(REGISTRY)}"
    )


def refuse_uncounted(config: Any) -> None:
    for name, harmless in UNCOUNTED.items():
        value = getattr(config, name, harmless[0])
        if value not in harmless:
            raise ValueError(
                f"{name} = {value!r} changes parameters in a way the formulas do not count; leave it at {harmless[0]!r}"
            )


def layer_shapes(shapes: Shapes, config: Any) -> list[tuple[int, int]]:
    """[(in, out), …] of the linear layers that `config` adapts in a model; a list of shapes is given back.

    The model is a torch module, on any device.

    Raises:
        ValueError: For an empty list, a configuration without target_modules, and targets that meet no linear layer.
    """
    if not hasattr(shapes, "named_modules"):
        if not (found := [(int(width), int(height)) for width, height in shapes]):
            raise ValueError("shapes = [] has no layer; pass [(in_features, out_features), …] or the model")
        return found
    if config.target_modules is None:
        raise ValueError(
            "target_modules = None does not say which layers are adapted; name them, such as "
            "['q_proj', 'v_proj'], or pass shapes=[(in_features, out_features), …]"
        )
    adapted = is_adapted(shapes, config)
    found = [shape for name, module in shapes.named_modules() if (shape := linear_shape(module)) and adapted(name)]
    if not found:
        raise ValueError(
            f"target_modules = {config.target_modules} matches no linear layer of the model; see "
            "model.named_modules() for the names"
        )
    return found


def is_adapted(model: Any, config: Any) -> Any:
    """PEFT's own rule for a module's name; "all-linear" is every linear layer but the output embedding."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    targets = config.target_modules
    if isinstance(targets, str) and targets.lower() == "all-linear":
        output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        targets = [name for name, module in model.named_modules() if linear_shape(module) and module is not output]
    rest = {name: getattr(config, name, None) for name in ("exclude_modules", "layers_to_transform", "layers_pattern")}
    rule = LoraConfig(target_modules=targets, **rest)  # type: ignore[arg-type]
    return lambda name: bool(check_target_module_exists(rule, name))


def linear_shape(module: Any) -> tuple[int, int] | None:
    """(in, out) of a linear layer, None for any other module."""
    from torch import nn

    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":  # GPT-2's linear layer, whose weight is (in, out)
        return tuple(module.weight.shape)  # type: ignore[return-value]
    return None


def backbone_operations(model: Any) -> int:
    """Multiply-accumulates per token of a model's products with its weights, the output embedding's included.

    Attention's products of tokens with each other, which grow with the text, are left out, as are experts that a
    backbone of its own may hold outside linear layers.
    """
    shapes = [linear_shape(module) for module in model.modules()]
    return sum(shape[0] * shape[1] for shape in shapes if shape)
