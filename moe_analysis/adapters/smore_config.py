"""The configuration of S'MoRE: sizes by layer, the rules they must keep, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from torch import nn

from . import gates as gating
from .base import AdapterConfig

ACTIVATIONS = {"identity": nn.Identity, "tanh": nn.Tanh, "relu": nn.ReLU, "prelu": nn.PReLU}
CHOICES: dict[str, tuple[str | None, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "router_activation": tuple(ACTIVATIONS),
    "activation_position": ("all", "child", "child_scored"),
    "gate": ("switch", "noisy_topk", "dense"),
    "gate_arch": ("mlp", "linear"),
    "router": ("top_down", "bottom_up"),
    "init": ("w_final_zero", "eq_1_layer"),
    "gate_dtype": (None, "float32", "float64"),
}


@dataclass
class SmoreConfig(AdapterConfig):
    """S'MoRE. Lists have one entry per layer, the layer farthest from the output first.

    num_experts (s), fanout (f), r: pool sizes, children of a node, ranks. A number for r serves every layer.
    alpha: the experts of a layer are scaled by alpha / r; None leaves them as they are. A number serves every layer.
    key_dim: width of queries and keys (a number or one per layer). down_dim: of the token as routers see it; None: in.
    gate: "switch", "noisy_topk" or "dense". gate_arch: "mlp", or "linear", whose query is what is known, without key_dim.
    router: "top_down", or "bottom_up" with the switch gate.
    activation: "identity", "tanh", "relu" or "prelu" (one slope per layer); router_activation: the same, in the mlp.
    activation_position: "all" σ(BAx + Wx'), "child" BAx + Wσ(x') whose child term no score multiplies, "child_scored".
    shared_pool: one pool, and one B for all layers. expert_bias: biases of A, B, W and W_proj.
    init: "w_final_zero", or "eq_1_layer", which starts as a one-layer mixture would (both with W_proj = 0).
    balance_coef: None is 1e-2, and 0 for a dense gate. gate_dtype: of noisy top-k's softmax and balance loss; None is
    the input's, "float32" the authors'.

    >>> config = SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=[8, 4])
    >>> config.widths, config.nodes
    ([0, 32, 48], [4, 2, 1])
    >>> SmoreConfig(num_experts=[4, 4], fanout=[5, 2]).check()
    Traceback (most recent call last):
        ...
    ValueError: fanout[0] = 5 must be between 1 and num_experts[0] = 4: a node's children are different ...
    """

    r: list[int] | int = 8  # type: ignore[assignment]
    alpha: list[float | None] | float | None = None  # type: ignore[assignment]
    num_experts: list[int] = field(default_factory=lambda: [4, 4])
    fanout: list[int] = field(default_factory=lambda: [2, 2])
    key_dim: list[int] | int = 32
    down_dim: int | None = 32
    gate: str = "switch"
    gate_arch: str = "mlp"
    router: str = "top_down"
    activation: str = "tanh"
    router_activation: str = "relu"
    activation_position: str = "all"
    shared_pool: bool = False
    expert_bias: bool = True
    init: str = "w_final_zero"
    balance_coef: float | None = None
    gate_dtype: str | None = None

    @property
    def layers(self) -> int:
        return len(self.num_experts)

    @property
    def ranks(self) -> list[int]:
        return list(self.r) if isinstance(self.r, list) else [self.r] * self.layers

    @property
    def key_dims(self) -> list[int]:
        return list(self.key_dim) if isinstance(self.key_dim, list) else [self.key_dim] * self.layers

    @property
    def scales(self) -> list[float]:
        alphas = self.alpha if isinstance(self.alpha, list) else [self.alpha] * self.layers
        return [1.0 if alpha is None else alpha / r for alpha, r in zip(alphas, self.ranks, strict=True)]

    @property
    def widths(self) -> list[int]:
        """d_0 = 0, d_1, …, d_L: the width of what leaves each layer."""
        sizes = [s * r for s, r in zip(self.num_experts, self.ranks, strict=True)]
        return [0, *([sizes[0]] * self.layers if self.shared_pool else accumulate(sizes))]

    @property
    def nodes(self) -> list[int]:
        """F_0, …, F_L: nodes of a token's tree in each layer; F_L = 1 is the output."""
        return list(accumulate(reversed(self.fanout), lambda a, b: a * b, initial=1))[::-1]

    @property
    def balance_weight(self) -> float:
        if self.balance_coef is None:
            return 0.0 if self.gate == "dense" else 1e-2
        return self.balance_coef

    def check(self) -> None:
        self.check_types()
        self.check_lengths()
        self.check_shared()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                options = ", ".join(map(str, known))
                raise ValueError(f"{name} = {getattr(self, name)!r} is unknown; choose one of {options}")
        for layer, (s, f) in enumerate(zip(self.num_experts, self.fanout, strict=True)):
            if not 1 <= f <= s:
                raise ValueError(
                    f"fanout[{layer}] = {f} must be between 1 and num_experts[{layer}] = {s}: a node's "
                    "children are different experts of the pool"
                )
            gating.check_gate(self.gate, s, f, self.balance_weight)
        if self.shared_pool and any(len(set(values)) > 1 for values in (self.num_experts, self.ranks, self.scales)):
            raise ValueError(
                f"shared_pool=True needs equal layers, but num_experts = {self.num_experts}, r = {self.r} "
                f"and alpha = {self.alpha}"
            )
        if self.router == "bottom_up" and (self.gate != "switch" or self.gate_arch != "mlp"):
            raise ValueError(
                f"router = 'bottom_up' supports only gate = 'switch' and gate_arch = 'mlp', not gate = {self.gate!r} "
                f"and gate_arch = {self.gate_arch!r}"
            )

    def check_lengths(self) -> None:
        if not self.num_experts:
            raise ValueError("num_experts = [] must be a list with one pool size per layer")
        for name in ("fanout", "r", "alpha", "key_dim"):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != self.layers:
                raise ValueError(f"{name} = {value} has {len(value)} entries but num_experts has {self.layers}")
        if min(self.ranks) < 1 or min(self.key_dims) < 1 or (self.down_dim is not None and self.down_dim < 1):
            raise ValueError(f"r = {self.r}, key_dim = {self.key_dim}, down_dim = {self.down_dim} must be at least 1")
