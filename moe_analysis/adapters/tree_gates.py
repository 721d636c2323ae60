"""The gates of a hierarchical router: which experts are under every node of a token's tree, and with what weight.

Nodes of one layer are flattened, outermost branch first: layer ℓ has F_ℓ = Π_{j≥ℓ} f_j nodes per token, F_L = 1.
Top-down (S'MoRE, section 3.2 of the reference) a node is chosen knowing its ancestors; bottom-up, knowing the output
of its own subtree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from . import gates as gating
from .base import Routing
from .calls import plain, untouched


@dataclass
class Choice:
    """What was chosen in one layer: P parents per token, f children each, of s experts.

    ids, scores: the chosen experts and their weights. balance_loss: without its coefficient; None if the gate has
    none. keys: as the descendants of a chosen expert see them, of a top-down gate.
    """

    ids: Int[Tensor, "token parent child"]
    scores: Float[Tensor, "token parent child"]
    num_experts: int
    balance_loss: Float[Tensor, ""] | None = None
    keys: Float[Tensor, "expert key"] | None = None
    known_weights: Float[Tensor, "token parent expert"] | None = field(default=None, init=False, repr=False)

    @property
    def weights(self) -> Float[Tensor, "token parent expert"]:
        """The scores by expert, zero for experts that were not chosen; computed once."""
        if self.known_weights is None:  # no cached_property: it takes a lock, which torch.compile refuses
            empty = self.scores.new_zeros(*self.ids.shape[:-1], self.num_experts)
            self.known_weights = empty.scatter(-1, self.ids, self.scores)
        return self.known_weights


class TreeRouting(Routing):
    """The trees that tokens were routed through; `choices[l]` is layer l, 0 farthest from the output."""

    def __init__(self, choices: list[Choice], shape: tuple[int, ...], balance_loss: Float[Tensor, ""] | None) -> None:
        self.choices, self.shape, self.balance_loss = choices, shape, balance_loss

    @property
    def gates(self) -> Float[Tensor, "*tokens all_experts"]:  # type: ignore[override]
        """The coefficient of every expert, the sum over its paths of the products of the scores."""
        paths, found = self.choices[-1].scores.new_ones(self.choices[-1].ids.shape[0], 1), []  # (N, 1)
        for choice in reversed(self.choices):
            found.append((paths.unsqueeze(1) @ choice.weights).squeeze(1))  # (N, s)
            paths = (paths.unsqueeze(-1) * choice.scores).flatten(1)  # (N, F_l)
        return torch.cat(found[::-1], dim=-1).reshape(*self.shape, sum(choice.num_experts for choice in self.choices))

    @property
    def tree(self) -> list[Int[Tensor, "*tokens _node"]]:
        """Expert ids by layer, 0 farthest from the output."""
        return [choice.ids.reshape(*self.shape, choice.ids.shape[1:].numel()) for choice in self.choices]


@dataclass
class Ancestor:
    """A layer above: its nodes' experts, and the keys that their descendants see.

    one_hot: (N, F_j, s_j): a product with it reads a table faster than a lookup, above all backward.
    """

    ids: Int[Tensor, "token node"]
    keys: Float[Tensor, "expert key"]

    def __post_init__(self) -> None:
        every = torch.arange(self.keys.shape[0], device=self.ids.device)
        self.one_hot = (self.ids.unsqueeze(-1) == every).to(self.keys.dtype)


class TreeGate(nn.Module):
    """One layer's gate: a query from what is known at a node, held against the key of every expert of the pool.

    Parameters: mlp (empty for arch="linear"), keys (s, m), and noise.weight (s, known) for noisy_topk. `known` is the
    width of what a node knows: the token's projection and the key of each ancestor, outermost first.
    """

    def __init__(
        self,
        known: int,
        num_experts: int,
        fanout: int,
        key_dim: int,
        gate: str,
        arch: str,
        activation: nn.Module,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.fanout, self.gate, self.dtype = fanout, gate, dtype
        layers = [nn.Linear(known, key_dim), activation, nn.Linear(key_dim, key_dim)] if arch == "mlp" else []
        self.mlp = nn.Sequential(*layers)
        self.keys = nn.Parameter(torch.rand(num_experts, key_dim))  # as in the authors' code
        if gate == "noisy_topk":
            self.noise = nn.Linear(known, num_experts, bias=False)
            nn.init.zeros_(self.noise.weight)

    def seen_keys(self) -> Float[Tensor, "expert key"]:
        """The keys as queries and descendants see them: of length 1 for noisy top-k, as they are otherwise."""
        return F.normalize(self.keys, dim=-1) if self.gate == "noisy_topk" else self.keys

    def forward(
        self,
        x: Float[Tensor, "token down"],
        ancestors: list[Ancestor],
        token_mask: Shaped[Tensor, "..."] | None,
        balanced: bool,
    ) -> Choice:
        """The choice for every parent; ancestors outermost first."""
        keys = self.seen_keys()
        if len(self.mlp):
            queries = self._queries(x, ancestors)  # (N, P, m)
            queries = F.normalize(queries, dim=-1) if self.gate == "noisy_topk" else queries
            logits = queries @ keys.T  # (N, P, s)
        else:
            logits = on_path(keys, None, x, ancestors)
            if self.gate == "noisy_topk":  # cosines here too
                logits = logits / path_length(x, ancestors).clamp_min(1e-12)
        if self.gate == "noisy_topk":
            choice = self._noisy(logits, x, ancestors, token_mask, balanced)
        else:
            choice = switch_choice(logits, self.fanout, token_mask, balanced, dense=self.gate == "dense")
        choice.keys = keys
        return choice

    def _queries(self, x: Float[Tensor, "token down"], ancestors: list[Ancestor]) -> Float[Tensor, "token parent key"]:
        if not untouched(self.mlp, nn.Sequential):
            return self.mlp(whole_path(x, ancestors))
        first, *others = self.mlp
        values = linear_on_path(first, x, ancestors)
        for layer in others:
            values = layer(values)
        return values

    def _noisy(
        self,
        clean: Float[Tensor, "token parent expert"],
        x: Float[Tensor, "token down"],
        ancestors: list[Ancestor],
        token_mask: Shaped[Tensor, "..."] | None,
        balanced: bool,
    ) -> Choice:
        raw_scale = linear_on_path(self.noise, x, ancestors)  # (N, P, s)
        noisy, scale = gating.noisy_logits(clean, raw_scale, self.training)
        kept = noisy.topk(self.fanout, dim=-1)
        scores = kept.values  # a single expert keeps its cosine, which may be negative: the softmax would be 1
        if self.fanout > 1:
            scores = scores.softmax(-1, dtype=self.dtype).to(noisy.dtype)  # (N, P, f)
        choice = Choice(kept.indices, scores, noisy.shape[-1])
        if balanced:
            weights = choice.weights
            load = gating.smooth_load(clean, noisy, scale, self.fanout) if self.training else (weights > 0).to(clean)
            choice.balance_loss = gating.noisy_loss(weights, load, token_mask, self.dtype)
        return choice


def switch_choice(
    logits: Float[Tensor, "token parent expert"],
    fanout: int,
    token_mask: Shaped[Tensor, "..."] | None,
    balanced: bool,
    dense: bool,
) -> Choice:
    """Softmax over the pool, the f largest kept and renormalized for f > 1; all kept as they are when dense.

    Computed with the experts first: a softmax along a dimension of four leaves a processor nothing to do at once.
    """
    first = logits.movedim(-1, 0)  # (s, N, P)
    if dense:
        probabilities = first.softmax(0).movedim(0, -1)  # (N, P, s)
        ids = torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
        return Choice(ids, probabilities, logits.shape[-1])
    kept = first.topk(fanout, dim=0)
    if fanout > 1:  # renormalized over the chosen, a softmax over all is the softmax over the chosen
        scores = kept.values.softmax(0)  # (f, N, P)
    else:
        scores = first.softmax(0).gather(0, kept.indices)
    choice = Choice(kept.indices.movedim(0, -1), scores.movedim(0, -1), logits.shape[-1])
    if balanced:
        probabilities = first.softmax(0).movedim(0, -1)  # (N, P, s)
        choice.balance_loss = gating.tree_switch_loss(probabilities, choice.ids, token_mask)
    return choice


def on_path(
    weight: Float[Tensor, "made known"],
    bias: Float[Tensor, "made"] | None,
    x: Float[Tensor, "token down"],
    ancestors: list[Ancestor],
) -> Float[Tensor, "token parent made"]:
    """Linear map of the concatenation (x, key of each ancestor), what is known at every parent, without making it.

    An ancestor's share is one of s_j rows: a small table, read by the ancestor's expert.
    """
    widths = [x.shape[-1], *(ancestor.keys.shape[-1] for ancestor in ancestors)]
    own, *blocks = weight.split(widths, dim=1)
    total = F.linear(x, own, bias).unsqueeze(1)  # (N, 1, out)
    for ancestor, block in zip(ancestors, blocks, strict=True):
        share = ancestor.one_hot @ (ancestor.keys @ block.T)  # (N, F_j, out)
        total = (total.unsqueeze(2) + share.unflatten(1, (total.shape[1], -1))).flatten(1, 2)  # (N, F_j, out)
    return total


def path_length(x: Float[Tensor, "token down"], ancestors: list[Ancestor]) -> Float[Tensor, "token parent 1"]:
    """Norm of what is known at every parent, without making it."""
    norms = x.norm(dim=-1).view(-1, 1, 1)
    for ancestor in ancestors:
        own = ancestor.keys.norm(dim=-1)[ancestor.ids].unsqueeze(-1)  # (N, F_j, 1)
        norms = torch.cat([norms.repeat_interleave(own.shape[1] // norms.shape[1], 1), own], dim=-1)
    return norms.norm(dim=-1, keepdim=True)


def linear_on_path(
    layer: Any, x: Float[Tensor, "token down"], ancestors: list[Ancestor]
) -> Float[Tensor, "token parent made"]:
    """A linear layer on what is known at every parent; called on all of it where it is not plain."""
    if plain(layer):
        return on_path(layer.weight, layer.bias, x, ancestors)
    return layer(whole_path(x, ancestors))


def whole_path(x: Float[Tensor, "token down"], ancestors: list[Ancestor]) -> Float[Tensor, "token parent known"]:
    """The concatenation itself."""
    total = x.unsqueeze(1)  # (N, 1, down)
    for ancestor in ancestors:
        seen = ancestor.one_hot @ ancestor.keys  # (N, F_j, m_j)
        above = total.unsqueeze(2).expand(-1, -1, seen.shape[1] // total.shape[1], -1).flatten(1, 2)  # (N, F_j, …)
        total = torch.cat([above, seen], dim=-1)
    return total
