"""Walks the routings of a real `Smore` or `Momor` module and counts the different outputs x_L that they make.

Scores are binary, as in the paper's definition of structural flexibility: an expert that was chosen counts with weight
1. A tree is a list with one tensor per layer, the layer farthest from the output first: ids of the experts under each
parent of N trees, as in `adapters.tree_gates.Choice`. Siblings are a set: their ids rise.

Two ways to count rows: exactly, for outputs that are whole numbers in float64, where rounding cannot make two of them
differ or agree, and up to a tolerance for any others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from ..adapters import Momor, MomorConfig, Smore, SmoreConfig
from ..adapters.tree_gates import Choice
from .flexibility import smore_flexibility
from .whole_numbers import whole_numbers

Trees = list[Int[Tensor, "tree _parent _child"]]
MOST_ROWS = 3_000_000  # of one enumeration; a row has d_L float64 numbers


def subsets(s: int, f: int) -> Int[Tensor, "subset child"]:
    """The C(s, f) subsets of an expert pool, in lexicographic order."""
    return torch.tensor(list(combinations(range(s), f)))


def trees_of_digits(config: SmoreConfig, digits: list[Int[Tensor, "tree _parent"]]) -> Trees:
    """digits[l], the number of the subset under each parent of layer l -> trees."""
    return [subsets(s, f)[digit] for s, f, digit in zip(config.num_experts, config.fanout, digits)]


def all_trees(config: SmoreConfig, chunk: int = 1 << 15) -> Iterator[Trees]:
    """Every tree of a configuration once, at most `chunk` at a time; ValueError for more than MOST_ROWS."""
    total = smore_flexibility(config.num_experts, config.fanout)
    if total > MOST_ROWS:
        raise ValueError(
            f"num_experts = {config.num_experts}, fanout = {config.fanout} have {total:.3g} trees, above "
            f"{MOST_ROWS}; take random_trees, or layer_outputs layer by layer"
        )
    for start in range(0, total, chunk):
        number = torch.arange(start, min(start + chunk, total))
        digits = []
        for s, f, parents in zip(config.num_experts, config.fanout, config.nodes[1:]):
            found, number = mixed_radix(number, comb(s, f), parents)
            digits.append(found)
        yield trees_of_digits(config, digits)


def mixed_radix(
    number: Int[Tensor, "tree"], base: int, places: int
) -> tuple[Int[Tensor, "tree place"], Int[Tensor, "tree"]]:
    """The lowest `places` digits of a number and what is left of it."""
    digits = []
    for _ in range(places):
        digits.append(number % base)
        number = number // base
    return torch.stack(digits, dim=1), number


def random_trees(config: SmoreConfig, count: int, generator: torch.Generator) -> Trees:
    """`count` trees, each independent and uniform over all."""
    sizes = zip(config.num_experts, config.fanout, config.nodes[1:])
    return trees_of_digits(
        config, [torch.randint(comb(s, f), (count, parents), generator=generator) for s, f, parents in sizes]
    )


def binary_choice(ids: Int[Tensor, "token parent child"], pool: int, dtype: torch.dtype) -> Choice:
    """The choice of these ids of a pool, whose scores are all 1."""
    return Choice(ids, torch.ones(ids.shape, dtype=dtype), pool)


def pool_values(layer: Smore, x: Float[Tensor, "token in"]) -> Float[Tensor, "token all_ranks"]:
    """A x + bias of all pools, as `Smore.aggregate` takes it."""
    hidden = torch.cat([F.linear(x, A.flatten(0, 1)) for A in layer.A], dim=1)
    if layer.config.expert_bias:
        hidden = hidden + torch.cat([bias.flatten() for bias in layer.A_bias])
    return hidden


@torch.no_grad()
def tree_outputs(layer: Smore, x: Float[Tensor, "in"], trees: Trees) -> Float[Tensor, "tree width"]:
    """x_L of one input x routed through each of N given trees with binary scores."""
    choices = [binary_choice(ids, s, x.dtype) for ids, s in zip(trees, layer.config.num_experts)]
    hidden = pool_values(layer, x.unsqueeze(0)).expand(len(trees[0]), -1)  # (N, Σ s·r)
    return layer.aggregate(hidden, hidden[:, :0], planned=choices)[0]  # planned trees leave the router nothing to know


def all_outputs(layer: Smore, x: Float[Tensor, "in"]) -> Float[np.ndarray, "tree width"]:
    """x_L of one input x over all trees of the layer's configuration."""
    return torch.cat([tree_outputs(layer, x, trees) for trees in all_trees(layer.config)]).numpy()


@torch.no_grad()
def outputs_above(
    layer: Smore, x: Float[Tensor, "in"], level: int, below: Float[Tensor, "_seen below"] | None
) -> Float[Tensor, "_made width"]:
    """The different outputs that a node above layer l = `level` can have, compared exactly.

    below: all the outputs that its children can have, None in the lowest layer; every set of experts meets
    every assignment of these to them.

    Raises:
        ValueError: When that makes more than MOST_ROWS, and for outputs that are not whole numbers.
    """
    config, pool = layer.config, 0 if layer.config.shared_pool else level
    s, f = config.num_experts[level], config.fanout[level]
    options = 1 if below is None else len(below)
    if (rows := comb(s, f) * options**f) > MOST_ROWS:
        raise ValueError(
            f"layer {level} has {rows:.3g} combinations of {options} outputs below it, above {MOST_ROWS}; "
            "stop a layer lower or take random_trees"
        )
    sizes = [A.shape[0] * A.shape[1] for A in layer.A]
    hidden = pool_values(layer, x.unsqueeze(0)).split(sizes, dim=1)[pool]
    values = hidden.unflatten(1, layer.A[pool].shape[:2])  # (1, s, r)
    found = []
    for chosen in subsets(s, f):
        for number in torch.arange(options**f).split(1 << 15):
            choice = binary_choice(chosen.expand(len(number), 1, f), s, x.dtype)
            children = None if below is None else below[mixed_radix(number, options, f)[0]]  # (N, f, d_l)
            found.append(layer._layer(level, pool, values.expand(len(number), -1, -1), choice, children).squeeze(1))
    return torch.from_numpy(exact_rows(torch.cat(found))).to(x.dtype)


def layer_outputs(
    layer: Smore, x: Float[Tensor, "in"], levels: int | None = None
) -> list[Float[Tensor, "_made _width"]]:
    """The Γ_l different outputs of the nodes above layers 0 … levels - 1 for one input x, bottom up.

    Each layer starts from the outputs, not the trees, of the layer below: equal subtrees are followed once. They are
    compared exactly, so that parameters are needed whose outputs are whole numbers: ValueError for any others.

    Args:
        levels: None is all layers.
    """
    found: list[Tensor] = []
    for level in range(layer.config.layers if levels is None else levels):
        found.append(outputs_above(layer, x, level, found[-1] if found else None))
    return found


def active_experts(config: SmoreConfig, trees: Trees) -> Float[Tensor, "tree all_experts"]:
    """1.0 for an expert that is used anywhere in its layer of the tree; this is all of the tree that MoMOR depends on."""
    return torch.cat(
        [
            torch.zeros(len(ids), s, dtype=torch.float64).scatter_(1, ids.flatten(1), 1.0)
            for ids, s in zip(trees, config.num_experts)
        ],
        dim=1,
    )


def momor_routings(config: SmoreConfig) -> Float[Tensor, "routing all_experts"]:
    """The active experts of every tree, each set once."""
    sets = [torch.from_numpy(distinct_rows(active_experts(config, trees).numpy())) for trees in all_trees(config)]
    return torch.from_numpy(distinct_rows(torch.cat(sets).numpy()))


class HeldMomor(Momor):
    """A float64 copy of a MoMOR with given gates in place of its routing."""

    gates_held: Float[Tensor, "token all_experts"]

    def __init__(self, layer: Momor, gates: Float[Tensor, "token all_experts"]) -> None:
        config = MomorConfig(**{**vars(layer.config), "balance_coef": 0.0})
        super().__init__(layer.in_features, layer.out_features, config)
        self.double().load_state_dict(layer.state_dict())
        self.register_buffer("gates_held", gates.double(), persistent=False)

    def _choose(
        self, pool: int, logits: Float[Tensor, "token expert"], token_mask: Shaped[Tensor, "..."] | None
    ) -> tuple[Float[Tensor, "token expert"], Float[Tensor, ""] | None]:
        return self.gates_held.split(self.config.num_experts, dim=1)[pool], None


def momor_outputs(
    layer: Momor, x: Float[Tensor, "in"], gates: Float[Tensor, "routing all_experts"]
) -> Float[np.ndarray, "routing out"]:
    """The update of one input x under each row of gates."""
    with torch.no_grad():
        return HeldMomor(layer, gates)(x.expand(len(gates), -1))[0].numpy()


def exact_rows(
    rows: Shaped[Tensor, "row width"] | Shaped[np.ndarray, "row width"],
) -> Int[np.ndarray, "_different width"]:
    """The different rows of whole numbers as int64, in no particular order; ValueError for any others."""
    return distinct_rows(whole_numbers(rows))


def distinct_rows(rows: Shaped[np.ndarray, "row width"]) -> Shaped[np.ndarray, "_different width"]:
    """The different rows, bit for bit except that -0 equals 0, in no particular order.

    Of numbers that were rounded the count is the machine's own; `exact_rows` refuses them.
    """
    clean = np.ascontiguousarray(rows + rows.dtype.type(0))
    _, first = np.unique(clean.view(np.dtype((np.void, clean.itemsize * clean.shape[1]))).ravel(), return_index=True)
    return clean[np.sort(first)]


def count_apart(rows: Float[np.ndarray, "row width"], tolerance: float) -> int:
    """How many of the rows can be told apart when coordinates closer than tolerance · max|rows| are equal.

    Rows are split wherever a sorted coordinate jumps by more than that, again and again until nothing changes, so
    that rows of different groups differ by more than the tolerance in some coordinate. Rows that a chain of small
    steps connects stay together: the count never exceeds the number of different rows, and N means that all differ.

    Raises:
        ValueError: For rows that are not finite, which differ from nothing.
    """
    if not np.isfinite(rows).all():
        raise ValueError("rows hold NaN or infinite entries, which cannot be told apart; the layer has diverged")
    gap = tolerance * float(np.abs(rows).max(initial=0.0))
    group, before = np.zeros(len(rows), dtype=np.int64), 0
    while (groups := int(group.max(initial=-1)) + 1) not in (before, len(rows)):
        before = groups
        for column in rows.T:
            order = np.lexsort((column, group))
            jumps = (np.diff(group[order]) != 0) | (np.diff(column[order]) > gap)
            group[order] = np.concatenate([[0], np.cumsum(jumps)])
            if jumps.all():
                return len(rows)
    return groups
