"""One gate and one layer of S'MoRE's trees, each with its gradient, for `tree_pass`.

The parents of all tokens are rows, M = N·P, and their f children each are the M·f rows of the next gate. Experts stand
first, (s, M): a softmax along a dimension of four leaves a processor nothing to do at once. A node finds its
B^n v^n + b^n in a table of what all experts make of its token, which is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from .gates import Counted, wide
from .tree_products import weighted_rows


class GateWeights(NamedTuple):
    """One layer's gate: both layers of its mlp, and the keys."""

    first: Float[Tensor, "key known"]
    first_bias: Float[Tensor, "key"]
    second: Float[Tensor, "key key"]
    second_bias: Float[Tensor, "key"]
    keys: Float[Tensor, "expert key"]


class LayerWeights(NamedTuple):
    """One layer's experts, and W from the second layer on; biases if the experts have them."""

    B: Float[Tensor, "expert width rank"]
    bias: Float[Tensor, "expert width"] | None
    W: Float[Tensor, "width below"] | None
    W_bias: Float[Tensor, "width"] | None


class Picked(NamedTuple):
    """A gate's choice.

    inner, queries: of its mlp, after the activation and at the end. rows: where the chosen experts' outputs stand in a
    table of all experts, (s·N). slope: the gradient of the balance loss with respect to the logits.
    """

    inner: Float[Tensor, "row key"]
    queries: Float[Tensor, "row key"]
    ids: Int[Tensor, "row child"]
    rows: Int[Tensor, "row child"]
    scores: Float[Tensor, "child row"]
    slope: Float[Tensor, "expert row"] | None


def ancestors(picked: list[Picked], gates: list[GateWeights]) -> list[tuple[Tensor, Tensor]]:
    """The choices above a gate, the top layer first: ids (M_j, f_j) and the keys that the gate sees."""
    return [(one.ids, gate.keys) for one, gate in zip(reversed(picked), reversed(gates), strict=False)]


def pick(
    known: Float[Tensor, "token down"],
    above: list[tuple[Tensor, Tensor]],
    gate: GateWeights,
    fanout: int,
    counted: Counted | None,
    balance_weight: float,
) -> tuple[Picked, Float[Tensor, ""] | None]:
    """The f best experts of every parent, with the softmax over them as scores, and the weighted balance loss."""
    own, *blocks = split_by_source(gate.first, known, above)
    inner = torch.addmm(gate.first_bias, known, own.T)  # (N, m)
    for (ids, keys), block in zip(above, blocks, strict=True):
        share = F.embedding(ids, keys @ block.T)  # (M_j, f_j, m)
        inner = (inner.unsqueeze(1) + share).flatten(0, 1)  # (M_j·f_j, m)
    inner = inner.relu_()
    queries = torch.addmm(gate.second_bias, inner, gate.second.T)  # (M, m)
    logits = gate.keys @ queries.T  # (s, M)
    best = logits.topk(fanout, dim=0)
    ids = best.indices.T.contiguous()  # (M, f)
    loss, slope = (None, None) if counted is None else balance(logits, ids, counted, balance_weight)
    numbers = torch.arange(len(known), device=ids.device).view(-1, 1, 1)
    rows = torch.add(numbers, ids.view(len(known), -1, fanout), alpha=len(known)).view_as(ids)
    return Picked(inner, queries, ids, rows, best.values.softmax(0), slope), loss


def balance(
    logits: Float[Tensor, "expert row"], ids: Int[Tensor, "row child"], counted: Counted, weight: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "expert row"]]:
    """`gates.tree_switch_loss` times its weight, and its gradient with respect to the logits."""
    experts, tokens = len(logits), len(counted.ones)
    places = ids.shape[0] // tokens
    probabilities = logits.softmax(0, dtype=wide(logits.dtype)).view(experts, tokens, places)
    if counted.padding is not None:
        probabilities.masked_fill_(counted.padding.view(tokens, 1), 0)
    chosen = counted.repeated(ids.numel() // tokens)
    counts = chosen.new_zeros(experts).scatter_add_(0, ids.view(-1), chosen).to(probabilities.dtype)
    weighed = probabilities * (counts * counted.share).mul_(weight * experts / places**2).view(experts, 1, 1)
    by_row = weighed.sum(0)
    slope = weighed.addcmul_(probabilities, by_row, value=-1)  # through the softmax
    return by_row.sum(), slope.flatten(1)


def pick_backward(
    into_scores: Float[Tensor, "row child"],
    into_loss: Float[Tensor, ""] | None,
    known: Float[Tensor, "token down"],
    above: list[tuple[Tensor, Tensor]],
    gate: GateWeights,
    one: Picked,
) -> tuple[Float[Tensor, "token down"], GateWeights, list[Float[Tensor, "expert key"]]]:
    """Gradients with respect to the tokens, the gate's weights, and the keys of its ancestors."""
    if one.slope is None or into_loss is None:
        into_logits = into_scores.new_zeros(len(gate.keys), len(one.ids))
    else:
        into_logits = (one.slope * into_loss).to(into_scores.dtype)
    weighed = into_scores.T * one.scores
    through_softmax = torch.addcmul(weighed, one.scores, weighed.sum(0), value=-1)  # (f, M)
    into_logits.scatter_add_(0, one.ids.T, through_softmax)
    into_queries = into_logits.T @ gate.keys  # (M, m)
    into_inner = relu_backward(into_queries @ gate.second, one.inner)  # (M, m)
    into_blocks: list[Tensor] = []
    into_above: list[Tensor] = []
    own, *blocks = split_by_source(gate.first, known, above)
    for (ids, keys), block in zip(reversed(above), reversed(blocks), strict=True):
        into_share = keys.new_zeros(len(keys), into_inner.shape[1])
        into_share.index_add_(0, ids.view(-1), into_inner)  # (s_j, m)
        into_blocks.insert(0, into_share.T @ keys)
        into_above.insert(0, into_share @ block)
        into_inner = into_inner.view(*ids.shape, -1).sum(1)  # (M_j, m)
    into_own = into_inner.T @ known
    into_first = torch.cat([into_own, *into_blocks], dim=1) if into_blocks else into_own
    weights = GateWeights(
        into_first, into_inner.sum(0), into_queries.T @ one.inner, into_queries.sum(0), into_logits @ one.queries
    )
    return into_inner @ own, weights, into_above


def split_by_source(
    first: Float[Tensor, "key known"], known: Float[Tensor, "token down"], above: list[tuple[Tensor, Tensor]]
) -> Sequence[Float[Tensor, "key _"]]:
    """The columns that read the token, and those that read each ancestor's key."""
    return first.split_with_sizes([known.shape[1], *(keys.shape[1] for _, keys in above)], 1) if above else [first]


class MixGrads(NamedTuple):
    """Gradients of one layer: with respect to scores, outputs below, what A makes of the tokens, and weights."""

    scores: Float[Tensor, "row child"]
    below: Float[Tensor, "node below"] | None
    values: Float[Tensor, "expert token rank"]
    layer: LayerWeights


def mix(
    values: Float[Tensor, "expert token rank"],
    below: Float[Tensor, "node below"] | None,
    one: Picked,
    layer: LayerWeights,
    activation: str,
) -> tuple[Float[Tensor, "_place width"], Float[Tensor, "row width"]]:
    """σ(B^n v^n + W x + b^n) at every place, and its sum over every parent's children by their scores.

    A leaf is what its expert is, wherever it stands, so the places are those of a table, (s·N). Above, they are nodes.
    """
    bias = layer.bias if layer.W_bias is None or layer.bias is None else layer.bias + layer.W_bias
    factors = layer.B.transpose(1, 2)
    table = torch.bmm(values, factors) if bias is None else torch.baddbmm(bias.unsqueeze(1), values, factors)
    outputs, rows = table.flatten(0, 1), one.rows
    if below is not None and layer.W is not None:
        outputs = outputs.index_select(0, rows.view(-1)).addmm_(below, layer.W.T)  # (M·f, d)
        rows = torch.arange(len(outputs), device=rows.device).view_as(rows)
    outputs = outputs.tanh_() if activation == "tanh" else outputs.relu_()
    return outputs, weighted_rows(outputs, rows, one.scores.T)


def mix_backward(
    grad: Float[Tensor, "row width"],
    values: Float[Tensor, "expert token rank"],
    below: Float[Tensor, "node below"] | None,
    one: Picked,
    layer: LayerWeights,
    outputs: Float[Tensor, "_place width"],
    activation: str,
) -> MixGrads:
    """The gradients of `mix`."""
    s, N, _ = values.shape
    into_places = (grad.unsqueeze(1) * one.scores.T.unsqueeze(2)).flatten(0, 1)  # (M·f, d)
    rows, into_below, into_W = one.rows.view(-1), None, None
    through = tanh_backward if activation == "tanh" else relu_backward
    into_table = grad.new_zeros(s * N, grad.shape[1])
    if below is None or layer.W is None:
        of_experts = torch.bmm(grad.view(N, -1, grad.shape[1]), outputs.view(s, N, -1).permute(1, 2, 0))  # (N, P, s)
        into_scores = of_experts.flatten(0, 1).gather(1, one.ids)
        into_table = through(into_table.index_add_(0, rows, into_places), outputs)
    else:
        into_scores = (outputs.view(*one.ids.shape, -1) * grad.unsqueeze(1)).sum(2)
        into_places = through(into_places, outputs)
        into_below, into_W = into_places @ layer.W, into_places.T @ below
        into_table.index_add_(0, rows, into_places)
    into_table = into_table.view(s, N, -1)
    into_B = torch.bmm(into_table.transpose(1, 2), values)  # (s, d, r)
    into_bias = None if layer.bias is None else into_table.sum(1)
    into_W_bias = None if layer.W_bias is None or into_bias is None else into_bias.sum(0)
    weights = LayerWeights(into_B, into_bias, into_W, into_W_bias)
    return MixGrads(into_scores, into_below, torch.bmm(into_table, layer.B), weights)


def tanh_backward(grad: Float[Tensor, "*places width"], made: Float[Tensor, "*places width"]) -> Tensor:
    return torch.ops.aten.tanh_backward(grad, made)


def relu_backward(grad: Float[Tensor, "*places width"], made: Float[Tensor, "*places width"]) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, made, 0)
