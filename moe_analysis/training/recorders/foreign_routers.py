"""Routers that are not ours: those in the mixtures of experts of transformers, and PEFT's X-LoRA and Arrow.

A view of a router answers what the recorders and `record_gates` ask of an adapter of ours, so that its weights,
gradients and gates are recorded and analyzed alike. Gates are dense, (tokens, experts): the weights by which the model
multiplies the experts' outputs, after its own normalization, scaling and limits, and zero for an expert that is not
chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .peft_routers import arrow_views, xlora_views
from .router_view import RouterView, short_name

LIKE_ROUTERS = ("Router", "Gating")  # in the names of classes
READ = "routers that return (logits, weights, indices), as Mixtral's, Llama4's and Switch's, X-LoRA and Arrow are read"


class TopKView(RouterView):
    """A router that returns (logits, weights (tokens, k), indices (tokens, k)), or dense weights (tokens, experts)."""

    @property
    def weight(self) -> Tensor:
        matrix = matrix_of(self.module)
        assert matrix is not None, "foreign_routers looked for it"
        return matrix

    def gates(self, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Tensor:
        if isinstance(output, tuple) and len(output) >= 3:
            weights, chosen = (one.flatten(0, -2) if isinstance(one, Tensor) else one for one in output[1:3])
            if isinstance(chosen, Tensor) and not chosen.is_floating_point() and weights.shape == chosen.shape:
                return weights.new_zeros(len(weights), self.num_gates).scatter(1, chosen, weights)
        if isinstance(output, tuple) and len(output) == 2 and self._dense(output[0]):
            return output[0].flatten(0, -2)
        raise ValueError(f"{type(self.module).__name__} returns nothing that is known to hold its gates; {READ}")

    def _dense(self, scores: Any) -> bool:
        """Whether these are weights of all experts, no more than top_k of them different from zero."""
        fits = isinstance(scores, Tensor) and scores.is_floating_point() and scores.shape[-1] == self.num_gates
        return fits and self.top_k is not None and bool(scores.count_nonzero(-1).le(self.top_k).all())


class SwitchView(RouterView):
    """The router of Switch Transformers: one expert a token, and none beyond an expert's capacity in a text."""

    @property
    def weight(self) -> Tensor:
        return self.module.classifier.weight

    def gates(self, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Tensor:
        kept, probability, _ = output  # (batch, sequence, experts) of zeros and ones, (batch, sequence, 1)
        return (kept * probability).flatten(0, -2)


def foreign_routers(model: nn.Module) -> dict[str, Any]:
    """The routers of a model that has none of ours, by the names of their modules, in the model's order.

    Of X-LoRA and Arrow there is one for each adapted layer, named as the layer; one for the whole model where X-LoRA
    gives all layers the same gates.

    Raises:
        ValueError: For a router that cannot be read; names it and those that can.

    >>> from transformers import MixtralConfig, MixtralForCausalLM
    >>> sizes = {"hidden_size": 16, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    >>> mixtral = MixtralForCausalLM(MixtralConfig(vocab_size=32, num_hidden_layers=2, num_local_experts=4, **sizes))
    >>> foreign_routers(mixtral)
    {'layers.0.mlp.gate': TopKView(MixtralTopKRouter, num_gates=4, top_k=2), 'layers.1.mlp.gate': ...}
    """
    found: dict[str, RouterView] = {}
    unread = {}
    for name, module in used_modules(model):
        view = view_of(model, name, module)
        if view is not None:
            found[name] = view
        elif any(word in type(module).__name__ for word in LIKE_ROUTERS):
            unread[name] = type(module).__name__
    if unread:
        named = ", ".join(f"{kind} ({name})" for name, kind in list(unread.items())[:3])
        raise ValueError(f"{type(model).__name__} has routers that cannot be read: {named}; {READ}")
    return found | xlora_views(model) | arrow_views(model)


def view_of(model: nn.Module, name: str, module: nn.Module) -> RouterView | None:
    """The view of a module that is a router of transformers; None of any other."""
    kind, experts = type(module), getattr(module, "num_experts", None)
    if not isinstance(experts, int) or not any(word in kind.__name__ for word in (*LIKE_ROUTERS, "Gate")):
        return None
    decodes = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False)) and name.startswith("decoder.")
    if type(getattr(module, "classifier", None)) is nn.Linear and hasattr(module, "expert_capacity"):
        one = not hasattr(module, "second_expert_policy")  # of two experts a token, as in NLLB, another form
        return SwitchView(model, module, experts, 1, family(module), decodes) if one else None
    matrix, top_k = matrix_of(module), getattr(module, "top_k", None)
    if matrix is None or len(matrix) != experts or not isinstance(top_k, int):
        return None
    return TopKView(model, module, experts, top_k, family(module), decodes)


def used_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model by short names, without those that PEFT keeps aside for `modules_to_save`.

    Raises:
        ValueError: For a router whose weight PEFT adds to in each forward pass, so that nothing holds its gradient.
    """
    from peft.tuners.lora.layer import ParamWrapper
    from peft.utils.other import ModulesToSaveWrapper

    aside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            active = next(iter(module.active_adapters), None)
            kept = module.modules_to_save
            unused = [part for key, part in kept.items() if key != active or module.disable_adapters]
            unused += [module.original_module] if active in kept and not module.disable_adapters else []
            aside |= {id(inner) for part in unused for inner in part.modules()}
        if isinstance(module, ParamWrapper) and view_of(model, "", innermost(module)) is not None:
            raise ValueError(
                f"the router {name} is adapted by target_parameters, and its weight is another in each forward pass; "
                "train it whole, with modules_to_save, to record it"
            )
        if id(module) not in aside:
            yield short_name(name), module


def innermost(module: Any) -> nn.Module:
    while hasattr(module, "base_layer"):
        module = module.base_layer
    return module


def family(module: nn.Module) -> str:
    """ "mixtral" of a router in transformers.models.mixtral; the name of its class elsewhere."""
    package, _, rest = type(module).__module__.partition("transformers.models.")
    return rest.split(".")[0] if not package and rest else type(module).__name__.lower()


def matrix_of(module: nn.Module) -> Tensor | None:
    """A router's own matrix, or that of the one linear layer in it."""
    own = getattr(module, "weight", None)
    if isinstance(own, Tensor):
        return own if own.dim() == 2 else None
    layers = [child for child in module.children() if isinstance(child, nn.Linear)]
    return layers[0].weight if len(layers) == 1 else None
