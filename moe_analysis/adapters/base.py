"""What makes up every adapter: a configuration, a pure module and an entry in the registry.

`AdapterConfig` is the mathematical half of a configuration. `moe_analysis.TRexConfig` and its siblings are the same
classes with PEFT's half added by `moe_analysis.peft_bridge`, and work wherever the pure ones do.

The signatures of `adapters` and `theory` give shapes: `Float[Tensor, "*tokens in"]`. An axis has one name in both, and
in comments and formulas the letter in brackets:

    *tokens                  leading dimensions of the layer's input, (batch, sequence) or any others, none for a vector
    token (N)                the same tokens in rows
    in, out                  features of the adapted layer
    expert (E, s), rank (r)  experts of a layer or of one pool, and the rank of one
    all_experts, all_ranks   those of all pools side by side (Σ s, Σ s·r)
    hidden (K, m)            what a token is narrowed to between two products
    sample, cluster          prompts, and the clusters of the intuition
    num_down, num_up (I, J)  T-REX: vectors of its experts
    parent, child (P, f)     S'MoRE: nodes of the layer above, and the children that each of them chooses
    node (F)                 S'MoRE: nodes of a layer, P·f
    width, below (d)         S'MoRE: of what leaves a node, and of what reaches it from the layer below
    down, key (m)            S'MoRE: of a token's projection for the router, and of an expert's key
    tree                     S'MoRE: trees that are listed
    target (T), routing (K)  theory: updates to approximate, and routings to try
    row                      two axes or three in one, which the docstring names

Other names belong to one function. `...` is any shape, `_name` an axis that differs from item to item, `rank*expert`
two axes in one, the first outermost. `tests/adapters/test_shapes.py` checks all of it at every call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .field_types import annotations_of, fits, said
from .gates import Counted


@dataclass
class AdapterConfig:
    """Fields that every adapter shares; names as in PEFT.

    r: rank of one expert. alpha: the update is scaled by alpha / r if the system scales at all.
    dropout: probability applied to the experts' input; the router always reads the clean input.
    target_modules: names of the linear layers to adapt, as PEFT understands them (`"all-linear"` works).
    gate_backward_power: p of the backward factor g^p on the experts' path (1 plain, 1/2 rescaled; Sun et al. 2025).

    >>> ma.adapters.MoeLoraConfig(r=0).check()
    Traceback (most recent call last):
        ...
    ValueError: r = 0 must be at least 1
    """

    rescales_gates: ClassVar[bool] = False  # whether the system has gates in [0, 1] that can be rescaled

    r: int = 4
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: list[str] | str | None = None
    gate_backward_power: float = 1.0

    def check(self) -> None:
        """Raise ValueError for a value that cannot be built; called by every adapter's constructor."""
        self.check_types()
        if self.r < 1:
            raise ValueError(f"r = {self.r} must be at least 1")
        self.check_shared()

    def check_types(self) -> None:
        """Raise ValueError for the first field whose value is not of its type, or is a number that is not finite."""
        hints = annotations_of(cast(Any, type(self)), cast(Any, AdapterConfig))
        for name in (entry.name for entry in fields(self)):
            # which layers are adapted is PEFT's to check
            if name in hints and name != "target_modules" and not fits(getattr(self, name), hints[name]):
                raise ValueError(f"{name} = {getattr(self, name)!r} must be {said(hints[name])}")

    def check_shared(self) -> None:
        """The part of the check that does not depend on how many ranks there are."""
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout = {self.dropout} must be in [0, 1)")
        if not 0.0 <= self.gate_backward_power <= 1.0:
            raise ValueError(f"gate_backward_power = {self.gate_backward_power} must be in [0, 1]")
        if self.gate_backward_power != 1.0 and not self.rescales_gates:
            raise ValueError(
                f"gate_backward_power = {self.gate_backward_power} has no meaning for "
                f"{type(self).__name__}, whose routing weights are not gates in [0, 1]; set it to 1"
            )


@dataclass
class RoutingContext:
    """What a router may use in addition to the hidden state.

    intuition: cosine of each sample's prompt to the cluster centroids (T-REX), one row per row of x
        (batch, …, in); for x (rows, in) the rows may be a multiple of the batch, a flattened (batch, sequence).
    token_mask: True, or any number except 0, for real tokens; padding is not counted in balance losses.
    Arrays and lists become tensors. Raises ValueError for values that cannot be converted.

    >>> scores, mask = torch.rand(2, 32), torch.ones(2, 6, dtype=torch.bool)
    >>> context = RoutingContext(intuition=scores, token_mask=mask)
    >>> delta, routing = ma.adapters.TRex(16, 16, ma.adapters.TRexConfig())(torch.randn(2, 6, 16), context)
    >>> tuple(delta.shape)
    (2, 6, 16)
    """

    intuition: Float[Tensor, "sample cluster"] | None = None
    token_mask: Shaped[Tensor, "sample sequence"] | None = None

    def __post_init__(self) -> None:
        self.intuition = as_tensor("intuition", self.intuition)
        self.token_mask = as_tensor("token_mask", self.token_mask)
        self.known_counted: tuple[Tensor | None, tuple[Any, ...], Counted] | None = None

    def counted(self, values: Float[Tensor, "token _"]) -> Counted:
        """The tokens that a balance loss counts, for values in rows; made once for layers that share a context."""
        mask = self.token_mask
        # a mask can be written over
        version = mask._version if isinstance(mask, Tensor) and not mask.is_inference() else None
        seen, known = (version, len(values), values.dtype, values.device), self.known_counted
        if known is None or known[0] is not mask or known[1] != seen:
            known = self.known_counted = mask, seen, Counted.of(mask, values)
        return known[2]


def as_tensor(name: str, value: Any) -> Any:
    """An array or a list as a tensor of the numbers it holds, anything else as it is.

    >>> as_tensor("intuition", [[0.5, 0.25]])
    tensor([[0.5000, 0.2500]], dtype=torch.float64)
    """
    if isinstance(value, Tensor) or not (isinstance(value, (list, tuple)) or hasattr(value, "__array__")):
        return value
    try:
        return torch.tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} = {value!r} is not a table of numbers ({error}); pass a tensor or an array"
        ) from error


@dataclass
class Routing:
    """What a router decided.

    gates: the weight that multiplied each expert's output; a table for T-REX's pairs of vectors.
    balance_loss: already multiplied by its coefficient; None if the gate has no such loss.

    >>> layer = ma.adapters.MoeLora(16, 16, ma.adapters.MoeLoraConfig(num_experts=4, top_k=1, gate="switch"))
    >>> _, routing = layer(torch.randn(2, 6, 16))
    >>> tuple(routing.gates.shape), tuple(routing.balance_loss.shape)
    ((2, 6, 4), ())
    """

    gates: Float[Tensor, "*tokens expert"] | Float[Tensor, "*tokens num_down num_up"]
    balance_loss: Float[Tensor, ""] | None = None


class Adapter(nn.Module):
    """An additive update of one linear layer: `layer(x, context) -> (delta, Routing)`.

    Raises:
        ValueError: For widths below 1, a configuration of another system, and one that its own `check` refuses.

    >>> layer = REGISTRY["moelora"](16, 24, ma.adapters.MoeLoraConfig(num_experts=4, r=2))
    >>> delta, routing = layer(torch.randn(5, 16))
    >>> tuple(delta.shape), layer.num_gates
    ((5, 24), 4)
    >>> [(tuple(A.shape), tuple(B.shape)) for A, B in layer.factor_pairs()]
    [((4, 2, 16), (4, 24, 2))]
    """

    config_class: ClassVar[type[AdapterConfig]] = AdapterConfig

    def __init__(self, in_features: int, out_features: int, config: AdapterConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            wanted = f"pass a {self.config_class.__name__}, which {type(self).__name__} is built from"
            raise ValueError(f"config = {config!r} is a {type(config).__name__}; {wanted}")
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if not fits(value, int) or value < 1:
                raise ValueError(f"{name} = {value!r} must be a whole number of at least 1")
        config.check()
        self.in_features, self.out_features, self.config = in_features, out_features, config
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(
        self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None = None, base: nn.Linear | None = None
    ) -> tuple[Float[Tensor, "*tokens out"], Routing]:
        """The update delta(x) and the routing that made it.

        With `base`, a frozen linear layer that `fused.fusible` allows, the result is base(x) + delta.
        """
        raise TypeError(f"{type(self).__name__} must define forward")

    def factor_pairs(
        self,
    ) -> Iterator[tuple[Float[nn.Parameter, "expert rank in"], Float[nn.Parameter, "expert out rank"]]]:
        """(A, B) of every stack of low-rank experts, for optimizers that treat factors in pairs."""
        return iter(())

    @property
    def num_gates(self) -> int:
        """Number of gates per token."""
        return self.config.num_experts  # type: ignore[attr-defined]

    def router_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that decide the routing; they get their own learning rate and clipping."""
        router = getattr(self, "router", None)
        return router.parameters() if router is not None else iter(())

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


REGISTRY: dict[str, type[Adapter]] = {}


def register(name: str) -> Callable[[type[Adapter]], type[Adapter]]:
    """Class decorator: put an adapter in the registry under a lower-case name, which becomes its PEFT type.

    Raises ValueError for a name that is taken or not a lower-case word, and for a configuration that belongs to another
    adapter or is not a dataclass: budgets and checkpoints find an adapter by its configuration.

    >>> @register("moelora")
    ... class Mine(Adapter): ...
    Traceback (most recent call last):
        ...
    ValueError: adapter name 'moelora' is taken by MoeLora; choose another
    """

    def add(adapter_class: type[Adapter]) -> type[Adapter]:
        if name in REGISTRY:
            raise ValueError(f"adapter name {name!r} is taken by {REGISTRY[name].__name__}; choose another")
        if not (name.isidentifier() and name.islower()):
            raise ValueError(f"adapter name {name!r} must be a lower-case word, such as 'gatedlora'")
        config = adapter_class.config_class
        if "__dataclass_fields__" not in vars(config) or config is AdapterConfig:
            raise ValueError(
                f"{adapter_class.__name__}.config_class = {config.__name__} must be a separate class, a "
                "@dataclass that inherits from AdapterConfig"
            )
        if owner := next((one for one in REGISTRY.values() if one.config_class is config), None):
            raise ValueError(
                f"{adapter_class.__name__}.config_class = {config.__name__} belongs to {owner.__name__}; "
                "define a separate @dataclass that inherits from it"
            )
        REGISTRY[name] = adapter_class
        return adapter_class

    return add


def kaiming_down(*shape: int) -> nn.Parameter:
    """A down factor, initialized as in LoRA: Kaiming-uniform(sqrt 5) over the last dimension, in_features.

    That is the uniform distribution on ±1/sqrt(in_features), written out because torch's helper would count
    all but the first dimension of a stack (E, r, in_features) as fan-in.

    >>> A = kaiming_down(4, 2, 16)  # four experts of rank 2 on 16 features
    >>> tuple(A.shape), bool(A.abs().max() <= 0.25)
    ((4, 2, 16), True)
    """
    bound = 1.0 / math.sqrt(shape[-1])
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def per_row(values: Float[Tensor, "sample expert"], shape: torch.Size) -> Float[Tensor, "row expert"]:
    """One row per sample -> one row per row of x of this shape.

    x (rows, …, in) has as many rows as there are samples. x (rows, in) may also be a flattened (batch, sequence), whose
    rows are a multiple: the tokens of a sample stand together, so each row of values is repeated. x (in,) is one row.

    Raises:
        ValueError: for any other number of rows; names both.

    >>> per_row(torch.eye(2), torch.Size((4, 16))).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> per_row(torch.eye(2), torch.Size((4, 5, 16)))
    Traceback (most recent call last):
        ...
    ValueError: intuition has 2 rows but the layer's input has 4; pass one row per sample
    """
    batch, rows = values.shape[0], shape[0] if len(shape) > 1 else 1
    if rows == batch:
        return values
    if len(shape) != 2 or batch == 0 or rows % batch:
        raise ValueError(f"intuition has {batch} rows but the layer's input has {rows}; pass one row per sample")
    return values.repeat_interleave(rows // batch, dim=0)
