"""S'MoRE: pools of residual experts arranged in layers, and every token routed through a tree of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Adapter, Routing, RoutingContext, kaiming_down, register
from .bottom_up import LeafGate, NodeGate
from .calls import untouched
from .fused import beside_frozen, down_products, up_product
from .smore_config import ACTIVATIONS, SmoreConfig
from .transforms import transformed
from .tree_gates import Ancestor, Choice, TreeGate, TreeRouting
from .tree_pass import by_hand, grown, usual
from .tree_products import mix_children, mix_leaves, node_products


@register("smore")
class Smore(Adapter):
    """delta(x) = W_proj x_L + b with x_{l+1} = Σ_n α_n σ(B^n A^n x + W_l x_l^n) over a node's children (S'MoRE, Eq. 3).

    Parameters by layer l: A[l] (s, r, in), B[l] (s, d_{l+1}, r), A_bias[l] (s, r), B_bias[l] (s, d_{l+1}), W[l]
    (d_{l+1}, d_l) and W_bias[l] from l = 1; W_proj (out, d_L), W_proj_bias, down, gates[l], activations[l] (prelu).
    With a shared pool there is A[0], B[0] and their biases only.

    >>> layer = Smore(16, 24, SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=2))
    >>> delta, routing = layer(torch.randn(5, 16))
    >>> tuple(delta.shape), [tuple(choice.ids.shape) for choice in routing.choices]
    ((5, 24), [(5, 2, 2), (5, 1, 2)])
    """

    config_class = SmoreConfig
    config: SmoreConfig
    usual = False  # whether `tree_pass` may compute its trees

    def __init__(self, in_features: int, out_features: int, config: SmoreConfig) -> None:
        super().__init__(in_features, out_features, config)
        pools = 1 if config.shared_pool else config.layers
        widths, sizes = config.widths, list(zip(config.num_experts, config.ranks, strict=True))[:pools]
        self.A = nn.ParameterList(kaiming_down(s, r, in_features) for s, r in sizes)
        self.B = nn.ParameterList(kaiming_down(s, d, r) for (s, r), d in zip(sizes, widths[1:], strict=False))
        above = list(zip(widths[2:], widths[1:], strict=False))  # (d_{l+1}, d_l) of the layers that have children
        self.W = nn.ParameterList([None, *(kaiming_down(*shape) for shape in above)])
        self.W_proj = nn.Parameter(torch.zeros(out_features, widths[-1]))
        if config.expert_bias:
            self.A_bias = nn.ParameterList(torch.zeros(s, r) for s, r in sizes)
            self.B_bias = nn.ParameterList(torch.zeros(s, d) for (s, _), d in zip(sizes, widths[1:], strict=False))
            self.W_bias = nn.ParameterList([None, *(torch.zeros(d) for d, _ in above)])
            self.W_proj_bias = nn.Parameter(torch.zeros(out_features))
        if config.init == "eq_1_layer":
            self._start_as_one_layer()
        self.down = nn.Linear(in_features, config.down_dim or in_features)
        self.gates = nn.ModuleList(self._gate(layer) for layer in range(config.layers))
        # a child position applies no activation in the lowest layer, which has no children
        lowest = 0 if config.activation_position == "all" else 1
        names = ["identity"] * lowest + [config.activation] * (config.layers - lowest)
        self.activations = nn.ModuleList(ACTIVATIONS[name]() for name in names)
        self.usual = type(self) is Smore and usual(config)

    def _gate(self, layer: int) -> nn.Module:
        config, down = self.config, self.down.out_features
        s, f, m = config.num_experts[layer], config.fanout[layer], config.key_dims[layer]
        activation = ACTIVATIONS[config.router_activation]()
        if config.router == "bottom_up":
            if layer == 0:
                return LeafGate(config.nodes[1], s, f, down)
            return NodeGate(config.nodes[layer], s, f, config.widths[layer], m, activation)
        above = config.layers - 1 - layer
        if config.gate_arch == "linear":  # a key is as wide as what its node knows, which doubles with every layer
            known = m = down * 2**above
        else:
            known = down + sum(config.key_dims[layer + 1 :])
        dtype = getattr(torch, config.gate_dtype) if config.gate_dtype else None
        return TreeGate(known, s, f, m, config.gate, config.gate_arch, activation, dtype)

    @torch.no_grad()
    def _start_as_one_layer(self) -> None:
        """B of expert i puts its r values in rows i·r …, W passes them on in the last d_l rows."""
        for B in self.B:
            s, width, r = B.shape
            B.copy_(F.pad(torch.eye(s * r), (0, 0, 0, width - s * r)).unflatten(1, (s, r)).transpose(0, 1))
        for W in self.W[1:]:
            W.copy_(F.pad(torch.eye(W.shape[1]), (0, 0, W.shape[0] - W.shape[1], 0)))  # [0; I]

    @beside_frozen
    def forward(
        self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None = None, base: nn.Linear | None = None
    ) -> tuple[Float[Tensor, "*tokens out"], Routing]:
        biases, bias = (list(self.A_bias), self.W_proj_bias) if self.config.expert_bias else (None, None)
        hidden, (known,), onto = down_products(x, list(self.A), [self.down], self.dropout, base, biases, bias)
        output, choices, loss = self.grow(hidden, known, context)
        delta = up_product(output, self.W_proj.T, onto)
        if base is None and bias is not None:
            delta = delta + bias
        return delta.reshape(*x.shape[:-1], self.out_features), TreeRouting(choices, x.shape[:-1], loss)

    def grow(
        self,
        hidden: Float[Tensor, "token all_ranks"],
        known: Float[Tensor, "token down"],
        context: RoutingContext | None = None,
    ) -> tuple[Float[Tensor, "token width"], list[Choice], Float[Tensor, ""] | None]:
        """x_L, the choice of every layer, and the weighted balance loss of all gates."""
        context, weight = context or RoutingContext(), self.config.balance_weight
        if self.usual and by_hand(self, hidden, known):
            counted = context.counted(known) if weight else None
            output, loss, ids, scores = grown(self, hidden, known, counted)
            return output, list(map(Choice, ids, scores, self.config.num_experts)), loss if weight else None
        output, choices = self.aggregate(hidden, known, context.token_mask)
        losses = [weight * choice.balance_loss for choice in choices if choice.balance_loss is not None]
        return output, choices, torch.stack(losses).sum() if losses else None

    def aggregate(
        self,
        hidden: Float[Tensor, "token all_ranks"],
        known: Float[Tensor, "token down"],
        token_mask: Shaped[Tensor, "..."] | None = None,
        planned: list[Choice] | None = None,
    ) -> tuple[Float[Tensor, "token width"], list[Choice]]:
        """x_L and the choice of every layer, from the ranks of all pools and what the router knows of a token.

        planned: trees to follow, the lowest layer first; None asks the router.
        """
        config = self.config
        sizes = [A.shape[0] * A.shape[1] for A in self.A]
        pools = list(hidden.split(sizes, dim=1))
        if planned is None and config.router == "top_down":
            planned = self.route(known, token_mask)
        choices: list[Choice] = []
        outputs: Tensor | None = None  # (N, F_l, d_l): the outputs of the nodes of the layer below
        for layer in range(config.layers):
            pool = 0 if config.shared_pool else layer
            if planned:
                choices.append(planned[layer])
            else:
                choices.append(self.gates[layer](known, outputs, token_mask, bool(config.balance_weight)))
            values = pools[pool].unflatten(1, self.A[pool].shape[:2])  # (N, s, r)
            outputs = self._layer(layer, pool, values, choices[-1], outputs)  # (N, F_{l+1}, d_{l+1})
        assert outputs is not None
        return outputs.squeeze(1), choices

    def route(
        self, known: Float[Tensor, "token down"], token_mask: Shaped[Tensor, "..."] | None = None
    ) -> list[Choice]:
        """The projected tokens -> the choices of all layers, lowest first, made from the top."""
        choices: list[Choice] = []
        ancestors: list[Ancestor] = []
        gates: list[Any] = list(self.gates)
        for gate in reversed(gates):
            if choices:
                keys = choices[0].keys
                assert keys is not None, "a top-down gate hands on its keys"
                ancestors.append(Ancestor(choices[0].ids.flatten(1), keys))
            choices.insert(0, gate(known, ancestors, token_mask, bool(self.config.balance_weight)))
        return choices

    def _layer(
        self,
        layer: int,
        pool: int,
        values: Float[Tensor, "token expert rank"],
        choice: Choice,
        below: Float[Tensor, "token node below"] | None,
    ) -> Float[Tensor, "token parent width"]:
        """Values of a pool and the outputs of the nodes below -> the outputs of their parents."""
        scale = self.config.scales[layer]
        B = self.B[pool] if scale == 1.0 else self.B[pool] * scale  # (s, d, r)
        bias = self.B_bias[pool] * scale if self.config.expert_bias else None  # (s, d)
        activate = self.activations[layer]
        if self.config.activation_position == "all":
            if below is None:  # a leaf is what its expert is, wherever it stands: activated once for all
                active = activated(activate, expert_outputs(values, B, bias))  # (s, N, d)
                mixed = mix_leaves(active, choice.scores.to(active.dtype), choice.ids)
            else:
                nodes = self._nodes(layer, values, choice.ids.flatten(1), B, bias, below)  # (N·F_l, d)
                active = activated(activate, nodes)
                mixed = mix_children(active, choice.scores.to(active.dtype))
            return mixed.unflatten(0, choice.ids.shape[:2])  # (N, P, d)
        mixed = mix_pool(values, B, bias, choice.weights)  # (N, P, d)
        if below is None:
            return mixed
        children = activate(below).unflatten(1, choice.ids.shape[1:])  # (N, P, f, d_l)
        scored = self.config.activation_position == "child_scored"
        weighed = (children * choice.scores.unsqueeze(-1)).sum(2) if scored else children.sum(2)  # (N, P, d_l)
        mixed = mixed + weighed @ self.W[layer].T
        if self.config.expert_bias:
            count = choice.scores.sum(-1, keepdim=True) if scored else float(choice.ids.shape[2])
            mixed = mixed + count * self.W_bias[layer]
        return mixed

    def _nodes(
        self,
        layer: int,
        values: Float[Tensor, "token expert rank"],
        ids: Int[Tensor, "token node"],
        B: Float[Tensor, "expert width rank"],
        bias: Float[Tensor, "expert width"] | None,
        below: Float[Tensor, "token node below"],
    ) -> Float[Tensor, "token*node width"]:
        """B^n v^n + W x + biases at every node."""
        bias = B.new_zeros(B.shape[:2]) if bias is None else bias + self.W_bias[layer]
        matrix = torch.cat([B.transpose(1, 2).flatten(0, 1), self.W[layer].T, bias])  # (s·r + d_l + s, d)
        return node_products(values, below.flatten(0, 1).to(values.dtype), ids, matrix.to(values.dtype))

    def factor_pairs(
        self,
    ) -> Iterator[tuple[Float[nn.Parameter, "expert rank in"], Float[nn.Parameter, "expert width rank"]]]:
        yield from zip(self.A, self.B, strict=True)

    def router_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.down.parameters()
        yield from self.gates.parameters()

    @property
    def num_gates(self) -> int:
        return sum(self.config.num_experts)


def activated(activation: nn.Module, values: Float[Tensor, "*places width"]) -> Float[Tensor, "*places width"]:
    """The activation of values that nothing else uses: written over them if its backward pass needs no more."""
    if transformed():
        return activation(values)
    if untouched(activation, nn.Tanh):
        return values.tanh_()
    return values.relu_() if untouched(activation, nn.ReLU) else activation(values)


def expert_outputs(
    values: Float[Tensor, "token expert rank"],
    B: Float[Tensor, "expert width rank"],
    bias: Float[Tensor, "expert width"] | None,
) -> Float[Tensor, "expert token width"]:
    """B^n v^n + b^n of every expert for every token."""
    values, B = values.transpose(0, 1), B.transpose(1, 2)
    return torch.bmm(values, B) if bias is None else torch.baddbmm(bias.unsqueeze(1), values, B)


def mix_pool(
    values: Float[Tensor, "token expert rank"],
    B: Float[Tensor, "expert width rank"],
    bias: Float[Tensor, "expert width"] | None,
    weights: Float[Tensor, "token parent expert"],
) -> Float[Tensor, "token parent width"]:
    """Σ_n w_n (B^n v^n + b^n), mixed before B is applied."""
    weighed = (values.unsqueeze(1) * weights.unsqueeze(-1)).flatten(2)  # (N, P, s·r)
    mixed = weighed @ B.transpose(1, 2).flatten(0, 1)
    return mixed if bias is None else mixed + weights @ bias
