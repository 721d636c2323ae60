"""The products of S'MoRE's layers, each with its own backward pass.

Tokens pick different experts, so the plain form gathers: a copy of an expert's output for each node, and in the
backward pass a table of zeros as large as all experts' outputs, into which the copies are added. Here a weighted sum
over children reads the outputs where they stand, and an expert's B is applied in rank space, where a node is narrow.

A backward pass that is itself differentiated, and a forward pass that torch transforms, take formulas of ordinary
operations instead.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from .transforms import transformed


def mix_leaves(
    outputs: Float[Tensor, "expert token width"],
    scores: Float[Tensor, "token parent child"],
    ids: Int[Tensor, "token parent child"],
) -> Float[Tensor, "token*parent width"]:
    """Σ_j scores_j outputs[ids_j] over the children j of every parent."""
    if transformed():
        return torch.bmm(by_expert(scores, ids, outputs.shape[0]), outputs.transpose(0, 1)).flatten(0, 1)
    return MixLeaves.apply(outputs, scores, ids)


def mix_children(
    outputs: Float[Tensor, "row width"], scores: Float[Tensor, "token parent child"]
) -> Float[Tensor, "token*parent width"]:
    """Σ_j scores_j outputs_j over each parent's own f of the rows, N·P·f in all."""
    if transformed():
        weights = scores.flatten(0, 1)  # (N·P, f)
        return torch.bmm(weights.unsqueeze(1), outputs.unflatten(0, weights.shape)).squeeze(1)
    return MixChildren.apply(outputs, scores)


def node_products(
    values: Float[Tensor, "token expert rank"],
    below: Float[Tensor, "row below"],
    ids: Int[Tensor, "token node"],
    matrix: Float[Tensor, "expert*rank+below+expert width"],
) -> Float[Tensor, "row width"]:
    """What every node adds up before its activation, a row for each of the N·F nodes.

    A row is B^n v^n + W x + b^n for the expert n of its node: v^n stands in the n-th block of a row that is zero in
    the other blocks, x behind it, and a one in the n-th place of the last s. M holds B of all experts, W, and their
    biases, so all of it is one product.
    """
    if transformed():
        every = torch.arange(values.shape[1], device=ids.device)
        taken = (ids.unsqueeze(-1) == every).to(values.dtype)  # (N, F, s)
        own = (taken.unsqueeze(-1) * values.unsqueeze(1)).flatten(2)  # (N, F, s·r)
        return torch.cat([own.flatten(0, 1), below, taken.flatten(0, 1)], dim=1) @ matrix
    return NodeProducts.apply(values, below, ids, matrix)[0]


def by_expert(
    scores: Float[Tensor, "token parent child"], ids: Int[Tensor, "token parent child"], experts: int
) -> Float[Tensor, "token parent expert"]:
    """The scores of all experts, zero for those that were not chosen."""
    return scores.new_zeros(*ids.shape[:-1], experts).scatter_add(-1, ids, scores)


class MixLeaves(torch.autograd.Function):
    """The custom form of `mix_leaves`."""

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Float[Tensor, "expert token width"],
        scores: Float[Tensor, "token parent child"],
        ids: Int[Tensor, "token parent child"],
    ) -> Float[Tensor, "token*parent width"]:
        tokens = torch.arange(ids.shape[0], device=ids.device).view(-1, 1, 1)
        rows = (ids * ids.shape[0] + tokens).flatten(0, 1)  # (N·P, f), of outputs as (s·N, d)
        with torch.enable_grad():  # torch's own backward pass of the weights is the one without copies
            weights = scores.detach().flatten(0, 1).requires_grad_()
            mixed = weighted_rows(outputs.detach().flatten(0, 1), rows, weights)
        ctx.of_weights = mixed, weights
        ctx.save_for_backward(outputs, scores, ids)
        return mixed.detach()

    @staticmethod
    def backward(
        ctx: Any, *grads: Float[Tensor, "row width"]
    ) -> tuple[Float[Tensor, "expert token width"], Float[Tensor, "token parent child"], None]:
        outputs, scores, ids = ctx.saved_tensors
        N, P, _ = ids.shape
        if torch.is_grad_enabled() or transformed():
            grad = grads[0].reshape(N, P, outputs.shape[-1])
            into_outputs = torch.bmm(by_expert(scores, ids, len(outputs)).transpose(1, 2), grad).transpose(0, 1)
            return into_outputs, torch.bmm(grad, outputs.permute(1, 2, 0)).gather(-1, ids), None
        mixed, weights = ctx.of_weights
        grad = grads[0].contiguous()  # (N·P, d)
        # an expert's output collects from the token's parents, with weight 0 if it is not a child
        collected = scores.new_zeros(len(outputs), N, P)
        collected.permute(1, 2, 0).scatter_add_(-1, ids, scores)
        parents = torch.arange(N * P, device=ids.device).view(N, P).repeat(len(outputs), 1)  # (s·N, P)
        into_outputs = weighted_rows(grad, parents, collected.flatten(0, 1)).reshape(outputs.shape)
        (into_weights,) = torch.autograd.grad(mixed, weights, grad, retain_graph=True)
        return into_outputs, into_weights.view_as(scores), None


class MixChildren(torch.autograd.Function):
    """The custom form of `mix_children`."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Float[Tensor, "row width"], scores: Float[Tensor, "token parent child"]
    ) -> Float[Tensor, "token*parent width"]:
        ctx.save_for_backward(outputs, scores)
        weights = scores.flatten(0, 1)  # (N·P, f)
        rows = torch.arange(outputs.shape[0], device=outputs.device).view_as(weights)
        return weighted_rows(outputs, rows, weights)

    @staticmethod
    def backward(
        ctx: Any, *grads: Float[Tensor, "_parents width"]
    ) -> tuple[Float[Tensor, "row width"], Float[Tensor, "token parent child"]]:
        outputs, scores = ctx.saved_tensors
        grad, weights = grads[0].unsqueeze(1), scores.flatten(0, 1).unsqueeze(-1)  # (N·P, 1, d), (N·P, f, 1)
        into_outputs = (grad * weights).reshape(outputs.shape)
        into_scores = outputs.view(*weights.shape[:2], outputs.shape[-1]) @ grad.transpose(1, 2)  # (N·P, f, 1)
        return into_outputs, into_scores.view_as(scores)


def weighted_rows(
    table: Float[Tensor, "row width"], rows: Int[Tensor, "mixed child"], weights: Float[Tensor, "mixed child"]
) -> Float[Tensor, "mixed width"]:
    """Σ_k weights · table[rows] over the k children, without copies; rows: indices of the table."""
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


class NodeProducts(torch.autograd.Function):
    """The custom form of `node_products`.

    The rows are a second output, for nobody to use: so a backward pass that is differentiated reaches what made them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Float[Tensor, "token expert rank"],
        below: Float[Tensor, "row below"],
        ids: Int[Tensor, "token node"],
        matrix: Float[Tensor, "expert*rank+below+expert width"],
    ) -> tuple[Float[Tensor, "row width"], Float[Tensor, "row expert*rank+below+expert"]]:
        N, s, r = values.shape
        nodes = ids.reshape(-1, 1)  # (N·F, 1)
        columns = nodes * r + torch.arange(r, device=ids.device)  # (N·F, r), where the node's block stands
        own = values.flatten(1).gather(1, columns.view(N, ids.shape[1] * r)).view(-1, r)  # (N·F, r)
        rows = values.new_zeros(len(nodes), matrix.shape[0])
        rows.scatter_(1, columns, own)
        rows[:, s * r : s * r + below.shape[1]] = below
        rows.scatter_(1, nodes + (s * r + below.shape[1]), 1.0)
        ctx.save_for_backward(rows, columns, matrix)
        ctx.sizes = (N, s, r)
        ctx.set_materialize_grads(False)
        return rows @ matrix, rows

    @staticmethod
    def backward(
        ctx: Any, *grads: Float[Tensor, "row _"] | None
    ) -> tuple[
        Float[Tensor, "token expert rank"] | None,
        Float[Tensor, "row below"] | None,
        None,
        Float[Tensor, "_matrix width"] | None,
    ]:
        rows, columns, matrix = ctx.saved_tensors
        (N, s, r), (grad, into_rows) = ctx.sizes, grads
        if into_rows is not None:  # the second derivative
            into_rows = into_rows if grad is None else into_rows + grad @ matrix.T
            into_own, into_below, _ = into_rows.split([s * r, matrix.shape[0] - s * r - s, s], dim=1)
        elif grad is not None:
            W = matrix[s * r : matrix.shape[0] - s]  # (d_l, d)
            into_own, into_below = grad @ matrix[: s * r].T, grad @ W.T  # (N·F, s·r), (N·F, d_l)
        else:
            return None, None, None, None
        into_own = into_own.gather(1, columns)  # (N·F, r)
        blocks = columns.view(N, len(columns) // max(N, 1) * r)  # (N, F·r)
        into_values = into_own.new_zeros(N, s * r).scatter_add_(1, blocks, into_own.view_as(blocks))
        return into_values.view(N, s, r), into_below, None, None if grad is None else rows.T @ grad
