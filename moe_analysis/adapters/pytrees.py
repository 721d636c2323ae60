"""Contexts and routings as trees of tensors, so that torch.func, torch.export and the like see the tensors inside.

`torch.func.vmap(layer)(x)` then returns a routing with the mapped dimension in front of every tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .base import Routing, RoutingContext
from .tree_gates import Choice, TreeRouting

for record in (Routing, RoutingContext):
    torch.export.register_dataclass(record, serialized_type_name=f"moe_analysis.{record.__name__}")


def leaves_of(routing: TreeRouting) -> tuple[list[Any], list[int]]:
    """Ids and scores by layer, (…, P, f), and the balance loss where there is one; the sizes of the pools."""
    children: list[Any] = [
        [laid_out(choice.ids, routing.shape) for choice in routing.choices],
        [laid_out(choice.scores, routing.shape) for choice in routing.choices],
    ]
    found = [] if routing.balance_loss is None else [routing.balance_loss]
    return children + found, [choice.num_experts for choice in routing.choices]


def keyed_leaves_of(routing: TreeRouting) -> tuple[list[tuple[Any, Any]], list[int]]:
    children, sizes = leaves_of(routing)
    names = ("ids", "scores", "balance_loss")
    return [(pytree.GetAttrKey(name), child) for name, child in zip(names, children, strict=False)], sizes


def routing_of(children: Any, sizes: list[int]) -> TreeRouting:
    ids, scores, *loss = children
    shape = ids[0].shape[:-2] if isinstance(ids[0], Tensor) else ()
    choices = [Choice(in_rows(one), in_rows(score), size) for one, score, size in zip(ids, scores, sizes, strict=True)]
    return TreeRouting(choices, shape, loss[0] if loss else None)


def laid_out(leaf: Any, shape: tuple[int, ...]) -> Any:
    """(N, P, f) -> (…, P, f); torch also carries trees of other things than tensors."""
    return leaf.reshape(*shape, *leaf.shape[1:]) if isinstance(leaf, Tensor) else leaf


def in_rows(leaf: Any) -> Any:
    """(…, P, f) -> (N, P, f)."""
    return leaf.reshape(leaf.shape[:-2].numel(), *leaf.shape[-2:]) if isinstance(leaf, Tensor) else leaf


pytree.register_pytree_node(
    TreeRouting,
    leaves_of,
    routing_of,
    flatten_with_keys_fn=keyed_leaves_of,
    serialized_type_name="moe_analysis.TreeRouting",
)
