"""The routers of PEFT's mixtures of LoRA: X-LoRA's classifier, and Arrow's prototypes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .router_view import RouterView, short_name


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
