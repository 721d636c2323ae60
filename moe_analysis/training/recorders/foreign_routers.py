"""Routers of other libraries: mixture-of-experts models of transformers, and PEFT's X-LoRA and Arrow.

A view of a router has the interface of our adapters that the recorders and `record_gates` use, so that its weights,
gradients and gates are recorded and analyzed in the same way. Gates are dense, (tokens, experts): the weights by which
the model multiplies the experts' outputs, after its own normalization, scaling and limits, and zero for an expert that
is not chosen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters import RoutingContext

LIKE_ROUTERS = ("Router", "Gating")  # in the names of classes
READ = (
    "supported are routers that return (logits, weights, indices), as in Mixtral, Llama4 and Switch, X-LoRA and Arrow"
)


class SeenRouting:
    """The routing of one forward pass. Its gates are computed when they are read."""

    balance_loss = None

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self.compute = compute

    @cached_property
    def gates(self) -> Tensor:
        return self.compute()


class RouterView(ABC):
    """One router of another library, as recorders see an adapter.

    Args:
        root: The model that is called; its batches show which tokens are real.
        module: The module whose forward pass shows the gates.
        num_gates: Experts.
        top_k: Experts of a token; None if the router does not say.
        system: The kind of mixture in lower case, such as "mixtral".
        decodes: Whether its tokens are those of a decoder that has an encoder.
    """

    def __init__(
        self, root: Any, module: Any, num_gates: int, top_k: int | None, system: str, decodes: bool = False
    ) -> None:
        self.root, self.module, self.decodes = root, module, decodes
        self.num_gates, self.top_k, self.system = num_gates, top_k, system

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.module).__name__}, num_gates={self.num_gates}, top_k={self.top_k})"

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The router's matrix (experts, in); its `grad` is that of the last backward pass."""

    @abstractmethod
    def gates(self, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Tensor:
        """(tokens, experts) of a forward pass of `module`, the tokens of its batch flattened."""

    @property
    def router(self) -> RouterView:
        return self

    @property
    def config(self) -> Any:
        return getattr(self.root, "config", None)

    @property
    def training(self) -> bool:
        return self.module.training

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the whole model: a loop may train any part of it."""
        return self.root.parameters()

    def router_parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()

    def register_forward_hook(self, hook: Callable[..., None], with_kwargs: bool = False) -> Handles:
        """`hook(view, (input, RoutingContext), [options,] (None, routing))` after every forward pass, as for a module.

        A hook sees the real tokens of the batch by the context's mask, where the model was called with one. Copies of
        the model bring hooks along, which then do nothing.
        """
        masks: dict[bool, Tensor | None] = {}

        def see_batch(model: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            masks[True], masks[False] = decoder_mask(options), mask_of_batch(options.get("attention_mask"))

        def see_routing(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            if module is self.module:
                told = (self, (args[0] if args else None, RoutingContext(token_mask=masks.get(self.decodes))))
                routing = SeenRouting(lambda: self.gates(args, options, output))
                hook(*told, *([options] if with_kwargs else []), (None, routing))

        return Handles(
            self.root.register_forward_pre_hook(see_batch, with_kwargs=True),
            self.module.register_forward_hook(see_routing, with_kwargs=True),
        )


class Handles:
    """Hooks that are taken off together."""

    def __init__(self, *handles: Any) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def short_name(name: str) -> str:
    """The name of a module without what PEFT and a head put around it, as `adapter_modules` gives names."""
    for around in ("base_model.", "lora_model.", "model.", "model."):  # PeftModel, X-LoRA's tuner, the head
        name = name.removeprefix(around)
    parts = name.split(".")
    if "modules_to_save" in parts:
        at = parts.index("modules_to_save")
        del parts[at : at + 2]  # with the adapter's name
    return ".".join(part for part in parts if part != "original_module")


def mask_of_batch(mask: Any) -> Tensor | None:
    """A mask (batch, sequence) of real tokens; None for a mask of another form."""
    return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


def decoder_mask(options: dict[str, Any]) -> Tensor | None:
    """Real tokens (batch, sequence) of a decoder after an encoder: by its mask, else those with a label."""
    if options.get("decoder_attention_mask") is not None:
        return mask_of_batch(options["decoder_attention_mask"])
    labels = options.get("labels")
    return mask_of_batch(labels.ne(-100)) if isinstance(labels, Tensor) else None


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
        raise ValueError(f"{type(self.module).__name__} returns nothing in which its gates could be found; {READ}")

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
    """The routers of a model without our adapters, by the names of their modules, in the model's order.

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
        one = not hasattr(module, "second_expert_policy")  # of two experts per token, as in NLLB, another form
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
                f"the router {name} is adapted by target_parameters, so its weight changes in each forward pass; "
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


class XLoraView(RouterView):
    """X-LoRA's gates of one adapted layer, or of all where `shared`: scalings of the adapters, the top k if asked.

    The classifier's last layer holds the rows of all layers; `weight` has those of this one.
    """

    def __init__(self, root: nn.Module, classifier: Any, layer: Any, shared: bool) -> None:
        experts = classifier.n_classes
        super().__init__(root, classifier, experts, layer.config.top_k_lora or experts, "xlora")
        self.layer, self.shared = layer, shared

    @property
    def weight(self) -> Tensor:
        whole = self.module.layers[-1].weight
        if self.shared:
            return whole
        own = slice(self.layer.layer_number * self.num_gates, (self.layer.layer_number + 1) * self.num_gates)
        rows = whole.detach()[own]
        rows.grad = None if whole.grad is None else whole.grad[own]
        return rows

    def gates(self, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Tensor:
        chosen = self.layer.get_maybe_topk_scalings(output)  # (batch, sequence, experts)
        return (chosen * self.layer.config.global_scaling_weight).flatten(0, -2)


class ArrowView(RouterView):
    """Arrow's gates of one adapted layer: the softmax over the top k of |x · prototype|.

    Prototypes are computed from the adapters at the first forward pass, and no gradient reaches them. Before it they
    are zeros here.
    """

    def __init__(self, root: nn.Module, arrow: Any) -> None:
        super().__init__(root, arrow, len(arrow.task_adapter_names), arrow.top_k, "arrow")

    @property
    def weight(self) -> Tensor:
        known = getattr(self.module, "prototypes", None)
        return torch.zeros(self.num_gates, self.module.in_features) if known is None else known

    def gates(self, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Tensor:
        x = inputs[0].detach().to(self.weight.dtype).flatten(0, -2)  # (tokens, in)
        likeness = (x @ self.weight.T).abs()  # (tokens, experts)
        values, chosen = likeness.topk(self.module.top_k, dim=1)
        scores = torch.full_like(likeness, float("-inf")).scatter(1, chosen, values)
        return torch.softmax(scores / self.module.temperature, dim=1)


def xlora_views(model: nn.Module) -> dict[str, RouterView]:
    """The gates of every layer that X-LoRA adapts, by its name; one entry where all layers share them."""
    from peft.tuners.xlora.classifier import XLoraClassifier
    from peft.tuners.xlora.layer import XLoraLayer

    classifiers = {name: part for name, part in model.named_modules() if isinstance(part, XLoraClassifier)}
    if not classifiers:
        return {}
    name, classifier = next(iter(classifiers.items()))
    owners = {place: getattr(part.forward, "__self__", None) for place, part in model.named_modules()}
    layers = {short_name(place): layer for place, layer in owners.items() if isinstance(layer, XLoraLayer)}
    if classifier.config.layerwise_scalings:
        return {place: XLoraView(model, classifier, layer, shared=False) for place, layer in layers.items()}
    return {short_name(name): XLoraView(model, classifier, next(iter(layers.values())), shared=True)}


def arrow_views(model: nn.Module) -> dict[str, RouterView]:
    """The gates of every layer whose active adapter is an Arrow router, by the layer's name."""
    from peft.tuners.lora import LoraLayer

    found: dict[str, RouterView] = {}
    for name, module in model.named_modules():
        arrows: Any = getattr(module, "lora_arrow", {}) if isinstance(module, LoraLayer) else {}
        for active in [one for one in getattr(module, "active_adapters", ()) if one in arrows] if arrows else []:
            found[short_name(name)] = ArrowView(model, arrows[active])
    return found
