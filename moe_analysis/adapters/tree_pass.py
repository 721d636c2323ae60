"""A token's whole tree as one operation, with its gradient written out: S'MoRE as it is usually configured.

A tree of two layers is some four hundred small operations for autograd, most of them on a few numbers per token, and a
small model waits for each. Here the trees of all tokens are one operation that keeps what its gradient needs and no
more. `Smore.route` and `Smore.aggregate` say what is computed, `by_hand` when it is computed here, and `tree_steps` how.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .calls import hooks_everywhere, plain, untouched
from .fused import autocast_dtype
from .gates import Counted
from .smore_config import SmoreConfig
from .transforms import transformed
from .tree_gates import TreeGate
from .tree_steps import GateWeights, LayerWeights, Picked, ancestors, mix, mix_backward, pick, pick_backward

KINDS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
GATE_NAMES = ("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias", "keys")


def usual(config: SmoreConfig) -> bool:
    """Whether trees of this configuration are what this file computes."""
    router = (config.router, config.gate, config.gate_arch, config.router_activation)
    layers = config.activation in KINDS and config.activation_position == "all"
    return layers and router == ("top_down", "switch", "mlp", "relu") and min(config.fanout) > 1


def by_hand(adapter: Any, hidden: Float[Tensor, "token all_ranks"], known: Float[Tensor, "token down"]) -> bool:
    """Whether to compute the trees of a usual adapter here: nobody watches, replaces or transforms a part of them."""
    if transformed() or not len(hidden) or autocast_dtype(hidden) is not None:
        return False
    if hooks_everywhere():  # torch counts what each gate does (`theory.count`)
        return False
    kind = KINDS[adapter.config.activation]
    return (
        hidden.dtype == known.dtype == adapter.W_proj.dtype
        and all(untouched(one, kind) for one in members(adapter.activations))
        and all(unwatched(gate) for gate in members(adapter.gates))
    )


def unwatched(gate: Any) -> bool:
    """Whether calling a gate would do what `TreeGate` says, and nothing else."""
    if type(gate) is not TreeGate or "forward" in gate.__dict__ or gate._forward_hooks or gate._forward_pre_hooks:
        return False
    if gate._backward_hooks or gate._backward_pre_hooks or not untouched(gate.mlp, nn.Sequential):
        return False
    first, activation, second = members(gate.mlp)
    biased = first.bias is not None and second.bias is not None
    return biased and plain(first) and plain(second) and untouched(activation, nn.ReLU)


def members(parts: nn.Module) -> list[Any]:
    """The modules in a list of modules, without a search for each."""
    return list(parts._modules.values())


class GrownTrees(torch.autograd.Function):
    """(hidden, known, weights) -> x_L, the weighted balance loss, and ids and scores of each layer, the lowest first.

    counted: which tokens the balance loss counts; None if there is none.
    """

    @staticmethod
    def forward(
        ctx: Any,
        adapter: Any,
        counted: Counted | None,
        hidden: Float[Tensor, "token all_ranks"],
        known: Float[Tensor, "token down"],
        *weights: Float[Tensor, "..."] | None,
    ) -> tuple[Tensor, ...]:
        config: SmoreConfig = adapter.config
        gates, layers = by_layer(config, weights)
        picked: list[Picked] = []
        losses: list[Tensor] = []
        for gate, fanout in zip(reversed(gates), reversed(config.fanout), strict=True):
            one, loss = pick(known, ancestors(picked, gates), gate, fanout, counted, config.balance_weight)
            picked.insert(0, one)
            losses += [] if loss is None else [loss]
        active: list[Tensor] = []
        mixed: list[Any] = [None]  # what each layer finds below it, and at last x_L
        for values, one, layer in zip(by_pool(config, hidden), picked, layers, strict=True):
            outputs, mixture = mix(values, mixed[-1], one, layer, config.activation)
            active.append(outputs)
            mixed.append(mixture)
        output = mixed.pop()
        ctx.adapter, ctx.counted, ctx.weights = adapter, counted, len(weights)
        ctx.save_for_backward(hidden, known, *weights, *chain(*picked), *active, *mixed)
        ctx.set_materialize_grads(False)
        ids = [one.ids.view(len(hidden), -1, one.ids.shape[1]) for one in picked]  # (N, P, f)
        ctx.mark_non_differentiable(*ids)
        scores = [one.scores.T.view(chosen.shape) for one, chosen in zip(picked, ids, strict=True)]
        return output, sum(losses[1:], losses[0]) if losses else hidden.new_zeros(()), *ids, *scores

    @staticmethod
    def backward(ctx: Any, *grads: Float[Tensor, "..."] | None) -> tuple[Tensor | None, ...]:
        hidden, known, *kept = ctx.saved_tensors
        config, L = ctx.adapter.config, ctx.adapter.config.layers
        weights, kept = kept[: ctx.weights], kept[ctx.weights :]
        if torch.is_grad_enabled() or many_at_once(grads):
            return None, None, *differentiated(ctx.adapter, ctx.counted, [hidden, known, *weights], grads)
        gates, layers = by_layer(config, weights)
        picked = [Picked(*kept[6 * place : 6 * place + 6]) for place in range(L)]
        active, mixed = kept[6 * L : 7 * L], kept[7 * L :]
        grad, into_loss, outer = grads[0], grads[1], grads[2 + L :]
        grad = hidden.new_zeros(len(hidden), config.widths[-1]) if grad is None else grad.contiguous()
        values = by_pool(config, hidden)
        into: list[Any] = [None] * L
        for place in reversed(range(L)):
            into[place] = mix_backward(
                grad, values[place], mixed[place], picked[place], layers[place], active[place], config.activation
            )
            grad = into[place].below
        into_known = torch.zeros_like(known)
        into_gates: list[GateWeights] = []
        into_keys: list[list[Tensor]] = [[] for _ in range(L)]  # from the gates below, which see an ancestor's
        for place, one in enumerate(picked):
            of_scores, from_outside = into[place].scores, outer[place]
            if from_outside is not None:
                of_scores = of_scores + from_outside.flatten(0, 1)
            above = ancestors(picked[place + 1 :], gates)
            of_known, of_gate, of_above = pick_backward(of_scores, into_loss, known, above, gates[place], one)
            into_known += of_known
            into_gates.append(of_gate)
            for higher, of_keys in zip(reversed(range(L)), of_above, strict=False):
                into_keys[higher].append(of_keys)
        into_gates = [one._replace(keys=sum(seen, one.keys)) for one, seen in zip(into_gates, into_keys, strict=True)]
        into_layers = [scaled(one.layer, scale) for one, scale in zip(into, config.scales, strict=True)]
        into_hidden = joined(config, [one.values for one in into])
        return None, None, into_hidden, into_known, *chain(*into_gates), *chain(*into_layers)


def grown(
    adapter: Any,
    hidden: Float[Tensor, "token all_ranks"],
    known: Float[Tensor, "token down"],
    counted: Counted | None,
) -> tuple[Float[Tensor, "token width"], Float[Tensor, ""], list[Int[Tensor, "..."]], list[Float[Tensor, "..."]]]:
    """x_L, the weighted balance loss of all gates (0 if none is counted), and ids and scores (N, P, f) by layer."""
    output, loss, *choices = GrownTrees.apply(adapter, counted, hidden, known, *weights_of(adapter))
    L = adapter.config.layers
    return output, loss, choices[:L], choices[L:]


def weights_of(adapter: Any) -> list[Tensor | None]:
    """All weights of the gates, then of the layers, in the order of `GateWeights` and `LayerWeights`."""
    weights: list[Tensor | None] = []
    for gate in members(adapter.gates):
        first, _, second = members(gate.mlp)
        weights += (first.weight, first.bias, second.weight, second.bias, gate.keys)
    L, biased = adapter.config.layers, adapter.config.expert_bias
    pools = [0] * L if adapter.config.shared_pool else range(L)
    B, W = list(adapter.B), list(adapter.W)
    biases, W_biases = (list(adapter.B_bias), list(adapter.W_bias)) if biased else ([None] * len(B), [None] * L)
    for pool, matrix, bias in zip(pools, W, W_biases, strict=True):
        weights += (B[pool], biases[pool], matrix, bias)
    return weights


def names_of(config: SmoreConfig) -> list[str]:
    """The names of these weights in the adapter."""
    gates = [f"gates.{place}.{name}" for place in range(config.layers) for name in GATE_NAMES]
    pools = [0 if config.shared_pool else place for place in range(config.layers)]
    layers = [(f"B.{pool}", f"B_bias.{pool}", f"W.{place}", f"W_bias.{place}") for place, pool in enumerate(pools)]
    return [*gates, *chain(*layers)]


def by_layer(config: SmoreConfig, weights: Sequence[Any]) -> tuple[list[GateWeights], list[LayerWeights]]:
    """The weights of every gate and every layer, those of experts scaled."""
    L = config.layers
    gates = [GateWeights(*weights[5 * place : 5 * place + 5]) for place in range(L)]
    layers = [LayerWeights(*weights[5 * L + 4 * place :][:4]) for place in range(L)]
    return gates, [scaled(layer, scale) for layer, scale in zip(layers, config.scales, strict=True)]


def scaled(layer: LayerWeights, scale: float) -> LayerWeights:
    """A layer's weights with its experts scaled; the same for gradients."""
    if scale == 1.0:
        return layer
    return layer._replace(B=layer.B * scale, bias=None if layer.bias is None else layer.bias * scale)


def by_pool(config: SmoreConfig, hidden: Float[Tensor, "token all_ranks"]) -> list[Float[Tensor, "expert token rank"]]:
    """What A makes of the tokens, as the experts of every layer read it."""
    sizes = list(zip(config.num_experts, config.ranks, strict=True))
    if config.shared_pool:
        return [hidden.view(-1, *sizes[0]).transpose(0, 1)] * config.layers
    parts = hidden.split_with_sizes([s * r for s, r in sizes], 1)
    return [part.view(-1, *size).transpose(0, 1) for part, size in zip(parts, sizes, strict=True)]


def joined(config: SmoreConfig, parts: list[Float[Tensor, "expert token rank"]]) -> Float[Tensor, "token all_ranks"]:
    """The other way round, for gradients."""
    flat = [part.transpose(0, 1).flatten(1) for part in parts]
    return torch.stack(flat).sum(0) if config.shared_pool else torch.cat(flat, dim=1)


def many_at_once(grads: Sequence[Tensor | None]) -> bool:
    """Whether autograd hands over several gradients as one (`is_grads_batched`), which few operations can write into."""
    return any(one is not None and torch._C._functorch.is_legacy_batchedtensor(one) for one in grads)


class Again(nn.Module):
    """The trees as autograd computes them: for a gradient that is differentiated again, and for many at once."""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, hidden: Tensor, known: Tensor, real: Tensor | None) -> tuple[Tensor, ...]:
        adapter: Any = self.adapter
        output, choices = adapter.aggregate(hidden, known, real)
        losses = [choice.balance_loss for choice in choices if choice.balance_loss is not None]
        loss = adapter.config.balance_weight * torch.stack(losses).sum() if losses else output.new_zeros(())
        return output, loss, *(choice.scores for choice in choices)


def differentiated(
    adapter: Any, counted: Counted | None, leaves: list[Tensor | None], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients by autograd, with a graph of their own if one is wanted."""
    hidden, known, *weights = leaves
    names, L = names_of(adapter.config), adapter.config.layers
    given = {f"adapter.{name}": weight for name, weight in zip(names, weights, strict=True) if weight is not None}
    real = None if counted is None or counted.padding is None else ~counted.padding
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        made = torch.func.functional_call(Again(adapter), given, (hidden, known, real))
    pairs = [(one, grad) for one, grad in zip(made, [*grads[:2], *grads[2 + L :]], strict=True) if grad is not None]
    # a shared pool is among the weights once for every layer, and its whole gradient belongs to the first
    once = [True, True, *(names.index(name) == place for place, name in enumerate(names))]
    wanted = [one and leaf is not None and leaf.requires_grad for one, leaf in zip(once, leaves, strict=True)]
    outputs, seen = zip(*pairs, strict=True)
    inputs = [leaf for leaf, asked in zip(leaves, wanted, strict=True) if leaf is not None and asked]
    found = iter(torch.autograd.grad(outputs, inputs, seen, create_graph=again, allow_unused=True))
    return [next(found) if asked else None for asked in wanted]
