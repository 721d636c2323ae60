"""The products of S'MoRE's layers, each with a backward pass of its own.

Every token picks other experts, so the plain form gathers: a copy of an expert's output for each node, and in the
backward pass a table of zeros as large as all experts' outputs, into which the copies are added. Here a weighted sum
over children reads the outputs where they stand, and an expert's B is applied in rank space, where a node is narrow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class MixLeaves(torch.autograd.Function):
    """(outputs (s, N, d), scores (N, P, f), ids (N, P, f)) -> Σ_j scores_j outputs[ids_j], (N·P, d)."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, scores: Tensor, ids: Tensor) -> Tensor:
        tokens = torch.arange(ids.shape[0], device=ids.device).view(-1, 1, 1)
        rows = (ids * ids.shape[0] + tokens).flatten(0, 1)  # (N·P, f), of outputs as (s·N, d)
        with torch.enable_grad():  # torch's own backward pass of the weights is the one without copies
            weights = scores.detach().flatten(0, 1).requires_grad_()
            mixed = weighted_rows(outputs.detach().flatten(0, 1), rows, weights)
        ctx.of_weights = mixed, weights
        ctx.save_for_backward(scores, ids)
        ctx.experts = outputs.shape[0]
        return mixed.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        scores, ids = ctx.saved_tensors
        mixed, weights = ctx.of_weights
        grad = grads[0].contiguous()  # (N·P, d)
        N, P, _ = ids.shape
        # an expert's output collects from the token's parents, with weight 0 where it is no child
        by_expert = scores.new_zeros(ctx.experts, N, P)
        by_expert.permute(1, 2, 0).scatter_add_(-1, ids, scores)
        parents = torch.arange(N * P, device=ids.device).view(N, P).repeat(ctx.experts, 1)  # (s·N, P)
        into_outputs = weighted_rows(grad, parents, by_expert.flatten(0, 1)).unflatten(0, (ctx.experts, N))
        (into_weights,) = torch.autograd.grad(mixed, weights, grad, retain_graph=True)
        return into_outputs, into_weights.view_as(scores), None


class MixChildren(torch.autograd.Function):
    """(outputs (N·P·f, d), scores (N, P, f)) -> Σ_j scores_j outputs_j over each parent's own f rows, (N·P, d)."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, scores: Tensor) -> Tensor:
        ctx.save_for_backward(outputs, scores)
        weights = scores.flatten(0, 1)  # (N·P, f)
        rows = torch.arange(outputs.shape[0], device=outputs.device).view_as(weights)
        return weighted_rows(outputs, rows, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        outputs, scores = ctx.saved_tensors
        grad = grads[0].unsqueeze(1)  # (N·P, 1, d)
        into_outputs = (grad * scores.reshape(-1, scores.shape[-1], 1)).flatten(0, 1)
        into_scores = outputs.view(grad.shape[0], -1, outputs.shape[-1]) @ grad.transpose(1, 2)  # (N·P, f, 1)
        return into_outputs, into_scores.view_as(scores)


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """table (R, d), rows (M, k) indices of it, weights (M, k) -> Σ_k weights · table[rows], (M, d), without copies."""
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


class NodeProducts(torch.autograd.Function):
    """(values (N, s, r), below (N·F, d_l), ids (N, F), M (s·r + d_l + s, d)) -> (N·F, d), before the activation.

    A row is B^n v^n + W x + b^n for the expert n of its node: v^n stands in the n-th block of a row that is zero in
    the other blocks, x behind it, and a one in the n-th place of the last s. M holds B of all experts, W, and their
    biases, so all of it is one product.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, below: Tensor, ids: Tensor, matrix: Tensor) -> Tensor:
        N, s, r = values.shape
        nodes = ids.reshape(-1, 1)  # (N·F, 1)
        columns = nodes * r + torch.arange(r, device=ids.device)  # (N·F, r), where the node's block stands
        own = values.flatten(1).gather(1, columns.view(N, -1)).view(-1, r)  # (N·F, r)
        rows = values.new_zeros(len(nodes), matrix.shape[0])
        rows.scatter_(1, columns, own)
        rows[:, s * r : s * r + below.shape[1]] = below
        rows.scatter_(1, nodes + (s * r + below.shape[1]), 1.0)
        ctx.save_for_backward(rows, columns, matrix)
        ctx.sizes = (N, s, r)
        return rows @ matrix

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        rows, columns, matrix = ctx.saved_tensors
        (N, s, r), grad = ctx.sizes, grads[0]
        W = matrix[s * r : matrix.shape[0] - s]  # (d_l, d)
        into_own = (grad @ matrix[: s * r].T).gather(1, columns)  # (N·F, r)
        into_values = grad.new_zeros(N, s * r).scatter_add_(1, columns.view(N, -1), into_own.view(N, -1))
        return into_values.view(N, s, r), grad @ W.T, None, rows.T @ grad
