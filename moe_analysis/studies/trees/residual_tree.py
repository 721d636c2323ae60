"""The residual tree of one token: which expert is at every node, why it was chosen, and what it adds."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from ...adapters import Smore
from ...adapters.tree_gates import Choice, TreeGate
from ..records import run_key

COLUMNS = (
    "node",
    "parent",
    "layer",
    "position",
    "expert",
    "score",
    "path_score",
    "similarity",
    "contribution",
    "share",
)


@torch.no_grad()
def residual_tree(adapter: Smore, x: Tensor) -> pd.DataFrame:
    """The tree through which the adapter routes one token x (in,), computed in float64; one row per node, root first.

    node, parent: numbers; the root is node 0, without a parent and an expert (-1). layer: 0 is farthest from the
    output, the root's is L. position: within its layer. score: its weight in its parent. path_score: the product of
    the scores up to the root. similarity: cosine between the query and the expert's key as the router compares them;
    NaN for gates that do not compare vectors (the bottom-up router's upper layers). contribution: norm of the change of
    delta(x) if the scores of the node and of all below it are set to zero; for the root, the norm of delta(x).
    share: contribution divided by the root's, NaN if that is zero. Contributions of siblings need not add up: their
    vectors may point in different directions, and there is an activation between the layers. Raises ValueError for x
    that is not one token.

    >>> batch = seen[0][list(seen[0])[-1]]
    >>> tree = residual_tree(batch.adapter, batch.inputs[0])
    >>> tree[["node", "parent", "layer"]].values.tolist()
    [[0, -1, 2], [1, 0, 1], [2, 0, 1], [3, 1, 0], [4, 1, 0], [5, 2, 0], [6, 2, 0]]
    """
    if x.shape != (adapter.in_features,):
        raise ValueError(f"x has shape {tuple(x.shape)}; pass one token, ({adapter.in_features},)")
    layer = copy.deepcopy(adapter).eval().double().cpu()
    token = x.detach().double().cpu().unsqueeze(0)
    known, hidden = layer.down(token), expert_inputs(layer, token)
    output, choices = layer.aggregate(hidden, known)
    rows = [
        {
            "node": 0,
            "parent": -1,
            "layer": layer.config.layers,
            "position": 0,
            "expert": -1,
            "score": 1.0,
            "path_score": 1.0,
            "similarity": float("nan"),
        }
    ]
    above, pruned = [0], [choices]
    for number in reversed(range(layer.config.layers)):
        choice, similar = choices[number], similarities(layer, number, known, choices)
        nodes = range(choice.ids.numel())
        for position in nodes:
            parent, child = divmod(position, choice.ids.shape[2])
            score = float(choice.scores[0, parent, child])
            rows.append(
                {
                    "node": len(rows),
                    "parent": above[parent],
                    "layer": number,
                    "position": position,
                    "expert": int(choice.ids[0, parent, child]),
                    "score": score,
                    "path_score": rows[above[parent]]["path_score"] * score,
                    "similarity": float(similar[position]),
                }
            )
            pruned.append(without(choices, number, position))
        above = list(range(len(rows) - len(nodes), len(rows)))
    return with_contributions(layer, rows, hidden, known, pruned)


def residual_trees(runs: Iterable[Any], batches: Iterable[Mapping[str, Any]], tokens: int = 8) -> pd.DataFrame:
    """The trees of evenly spaced tokens in every module: columns method, seed, module, token, and those of one tree.

    batches: for each run {module: LayerBatch}, with an `adapter` and its `inputs` (tokens, in).

    >>> trees = residual_trees(tree_runs, seen, tokens=2)
    >>> trees.groupby(["seed", "module"]).ngroups, trees["token"].nunique()
    (4, 2)
    """
    frames = []
    for run, modules in zip(runs, batches, strict=True):
        for module, seen in modules.items():
            rows = torch.linspace(0, len(seen.inputs) - 1, min(tokens, len(seen.inputs))).round().long().tolist()
            key = {**run_key(run), "module": module}
            frames += [residual_tree(seen.adapter, seen.inputs[row]).assign(**key, token=row) for row in rows]
    frame = pd.concat(frames, ignore_index=True)
    return frame[["method", "seed", "module", "token", *COLUMNS]]


def with_contributions(
    layer: Smore, rows: list[dict], hidden: Tensor, known: Tensor, planned: list[list[Choice]]
) -> pd.DataFrame:
    """All trees of `planned`, the complete one first, computed as one batch: the rows with contribution and share."""
    count = len(planned)
    batch = [
        Choice(torch.cat([c.ids for c in choices]), torch.cat([c.scores for c in choices]), choices[0].num_experts)
        for choices in zip(*planned, strict=True)
    ]
    outputs, _ = layer.aggregate(hidden.expand(count, -1), known.expand(count, -1), planned=batch)
    outputs = outputs @ layer.W_proj.T  # (trees, out)
    if layer.config.expert_bias:
        outputs = outputs + layer.W_proj_bias
    norms = torch.cat([outputs[:1].norm(dim=1), (outputs[0] - outputs[1:]).norm(dim=1)])
    frame = pd.DataFrame(rows).assign(contribution=norms.numpy(), share=(norms / norms[0]).numpy())
    return frame[list(COLUMNS)]


def expert_inputs(layer: Smore, x: Tensor) -> Tensor:
    """A^n x + a^n of the experts of all pools: x (N, in) -> (N, Σ s·r)."""
    hidden = x @ torch.cat([A.flatten(0, 1) for A in layer.A]).T
    return hidden + torch.cat([bias.flatten() for bias in layer.A_bias]) if layer.config.expert_bias else hidden


def without(choices: list[Choice], number: int, position: int) -> list[Choice]:
    """The choices of one token with the scores of a node and of all nodes below it set to zero."""
    pruned, first, stop = list(choices), position, position + 1
    for layer in range(number, -1, -1):
        choice = choices[layer]
        scores = choice.scores.flatten().clone()  # (F_l,)
        scores[first:stop] = 0.0
        pruned[layer] = replace(choice, scores=scores.view_as(choice.scores))
        if layer:
            f = choices[layer - 1].ids.shape[2]
            first, stop = first * f, stop * f
    return pruned


def similarities(layer: Smore, number: int, known: Tensor, choices: list[Choice]) -> Tensor:
    """Cosine between query and key at every node of a layer, (F_l,), for one token: known (1, down)."""
    gate, ids = layer.gates[number], choices[number].ids[0]  # (P, f)
    if isinstance(gate, TreeGate):
        parents = ids.shape[0]
        seen = [known.expand(parents, -1)]
        for above in reversed(range(number + 1, len(choices))):
            experts = choices[above].ids.flatten()  # (F_above,)
            keys = layer.gates[above].seen_keys()[experts]  # type: ignore[operator]
            seen.append(keys.repeat_interleave(parents // len(experts), dim=0))  # (P, m)
        queries = torch.cat(seen, dim=1)
        queries = gate.mlp(queries) if len(gate.mlp) else queries  # (P, m)
        return F.cosine_similarity(queries.unsqueeze(1), gate.seen_keys()[ids], dim=-1).flatten()
    if number == 0:  # the bottom-up router's leaves compare the token itself with keys by position
        keys = gate.keys[torch.arange(ids.shape[0]).unsqueeze(1), ids]  # type: ignore[index]
        return F.cosine_similarity(known.unsqueeze(1), keys, dim=-1).flatten()
    return torch.full((ids.numel(),), float("nan"), dtype=known.dtype)
