"""S'MoRE's bottom-up gates: a subtree is built first and then finds its expert. The paper describes them, its code
leaves them unbuilt; where the description is silent this is our reading.

Every node has a key for each expert of its pool, by its position in the tree. The lowest layer scores K · x_down and
takes the f best, as a top-down gate does. A node of a higher layer scores MLP(output of its subtree, key) for every
candidate and takes the best one that no sibling before it took, so that siblings differ as they do top-down; the scores
are its softmax over the pool, renormalized over the siblings for f > 1.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from . import gates as gating
from .calls import plain, untouched
from .tree_gates import Choice, switch_choice


class LeafGate(nn.Module):
    """The lowest layer's gate. Parameter: keys (P, s, down) for the P parents of the leaves."""

    def __init__(self, parents: int, num_experts: int, fanout: int, down_dim: int) -> None:
        super().__init__()
        self.fanout = fanout
        self.keys = nn.Parameter(torch.rand(parents, num_experts, down_dim))

    def forward(
        self,
        x: Float[Tensor, "token down"],
        outputs: Float[Tensor, "token node width"] | None,
        token_mask: Shaped[Tensor, "..."] | None,
        balanced: bool,
    ) -> Choice:
        """The choice for every parent; there are no outputs below yet."""
        logits = (x @ self.keys.flatten(0, 1).T).unflatten(-1, self.keys.shape[:2])  # (N, P, s)
        return switch_choice(logits, self.fanout, token_mask, balanced, dense=False)


class NodeGate(nn.Module):
    """A higher layer's gate. Parameters: keys (F, s, m) by position, mlp on (node output, key) to one score.

    The score has no bias: a softmax over the pool would not see it.
    """

    def __init__(
        self, nodes: int, num_experts: int, fanout: int, width: int, key_dim: int, activation: nn.Module
    ) -> None:
        super().__init__()
        self.fanout, self.width = fanout, width
        self.keys = nn.Parameter(torch.rand(nodes, num_experts, key_dim))
        self.mlp = nn.Sequential(nn.Linear(width + key_dim, key_dim), activation, nn.Linear(key_dim, 1, bias=False))

    def forward(
        self,
        x: Float[Tensor, "token down"],
        outputs: Float[Tensor, "token node width"],
        token_mask: Shaped[Tensor, "..."] | None,
        balanced: bool,
    ) -> Choice:
        """Outputs of the nodes' subtrees -> the choice for every parent of f = F / P nodes."""
        probabilities = self._scores(outputs).softmax(-1)  # (N, F, s)
        by_parent = probabilities.unflatten(1, (-1, self.fanout))  # (N, P, f, s)
        ids = distinct_best(by_parent.detach())  # (N, P, f)
        scores = by_parent.gather(-1, ids.unsqueeze(-1)).squeeze(-1)  # (N, P, f)
        if self.fanout > 1:
            scores = scores / scores.sum(-1, keepdim=True)
        loss = None
        if balanced:
            taken = ids.flatten(1).unsqueeze(-1)  # (N, F, 1)
            loss = gating.tree_switch_loss(probabilities, taken, token_mask)
        return Choice(ids, scores, by_parent.shape[-1], loss)

    def _scores(self, outputs: Float[Tensor, "token node width"]) -> Float[Tensor, "token node expert"]:
        """A score of every candidate."""
        parts: list[Any] = list(self.mlp)
        first, *others = parts
        if not (untouched(self.mlp, nn.Sequential) and plain(first)):
            nodes = outputs.unsqueeze(2).expand(-1, -1, self.keys.shape[1], -1)  # (N, F, s, width)
            return self.mlp(torch.cat([nodes, self.keys.expand(outputs.shape[0], -1, -1, -1)], dim=-1)).squeeze(-1)
        of_node, of_key = first.weight.split([self.width, self.keys.shape[-1]], dim=1)
        values = (outputs @ of_node.T).unsqueeze(2) + F.linear(self.keys, of_key, first.bias)  # (N, F, s, m)
        for layer in others:
            values = layer(values)
        return values.squeeze(-1)


def distinct_best(scores: Float[Tensor, "*tokens child expert"]) -> Int[Tensor, "*tokens child"]:
    """Sibling after sibling, each the best expert that none before it took; f ≤ s."""
    left, ids = scores, []
    for sibling in range(scores.shape[-2]):
        best = left[..., sibling, :].argmax(-1, keepdim=True)  # (…, 1)
        left = left.scatter(-1, best.unsqueeze(-2).expand(*left.shape[:-1], 1), -torch.inf)
        ids.append(best)
    return torch.cat(ids, dim=-1)
