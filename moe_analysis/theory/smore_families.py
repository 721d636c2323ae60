"""Real modules of the S'MoRE family with the parameters of Theorem 3.4's proof, and with random ones.

The proof: A = B = 0, so that the input has no say; the bias b^n holds the expert's index; W = [0; I] hands on what
comes from below beside it; and σ is an injective function of multisets, so that the sum over the children can be
undone. No elementwise activation is one: `MultisetCode` and `SingleNumberCode` take the place of the module's
`activations[l]`, whose inputs and outputs they share in shape.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapters import Smore, SmoreConfig
from .tree_enumeration import Trees, outputs_above
from .whole_numbers import LARGEST, whole_numbers


class MultisetCode(nn.Module):
    """σ(z) = (Z, Z², …, Z^f, 0, …) with Z = 1, 2, … the number of z in a given list: Z: X → ℕ of Lemma C.8.

    By Newton's identities the f sums of powers determine a multiset of at most f numbers, so that Σ σ(z) determines the
    multiset of its z. The layer's width is at least f.

    Raises:
        ValueError: For a z that is not listed, and for a list of z that are not whole numbers: only those are met again
            on every processor.
    """

    def __init__(self, inputs: Float[Tensor, "listed width"], size: int) -> None:
        """inputs: all the z there are, whole numbers; size: f, the largest multiset."""
        super().__init__()
        if inputs.shape[1] < size:
            raise ValueError(
                f"the code of {size} children needs {size} numbers, but the layer is {inputs.shape[1]} wide; raise r"
            )
        if size * len(inputs) ** size > LARGEST:
            raise ValueError(f"{size} children of {len(inputs)} kinds have power sums above 2^53; use fewer layers")
        whole_numbers(inputs)
        self.size, self.width = size, inputs.shape[1]
        self.columns = inputs.ne(0).any(0).nonzero().flatten()  # the others are zero in every z
        self.factors = torch.randint(2**62, self.columns.shape, generator=torch.Generator().manual_seed(0)) * 2 + 1
        listed = inputs[:, self.columns]
        keys, order = self._key(listed).sort()
        if (keys.diff() == 0).any():
            raise ValueError("inputs hold a row twice; pass each z once")
        self.keys, self.listed = keys, listed[order]  # (K,), (K, columns)

    def _key(self, z: Float[Tensor, "*nodes column"]) -> Int[Tensor, "*nodes"]:
        return (z.long() * self.factors).sum(-1)  # modulo 2^64, by which no two listed rows agree

    def number(self, z: Float[Tensor, "*nodes width"]) -> Int[Tensor, "*nodes"]:
        """Z of z."""
        seen = z[..., self.columns]
        place = torch.searchsorted(self.keys, self._key(seen)).clamp_(max=len(self.keys) - 1)
        if not torch.equal(self.listed[place].to(z.dtype), seen):
            raise ValueError("σ met a z that is not in its list; the layer's parameters or inputs have changed")
        return place + 1

    def inputs(self, number: Int[Tensor, "*nodes"]) -> Float[Tensor, "*nodes width"]:
        """z of the numbers Z."""
        z = self.listed.new_zeros(*number.shape, self.width)
        z[..., self.columns] = self.listed[number - 1]
        return z

    def forward(self, z: Float[Tensor, "*nodes width"]) -> Float[Tensor, "*nodes width"]:
        number = self.number(z).to(z.dtype).unsqueeze(-1)
        return F.pad(number.expand(*number.shape[:-1], self.size).cumprod(-1), (0, self.width - self.size))


class SingleNumberCode(MultisetCode):
    """σ(z) = (N^Z, 0, …) with N = f + 1: the code in one number of Xu et al. 2019, Lemma 5, with the sign of Z turned.

    Its numbers need Z · log2(N) bits, where sums of powers need f · log2(Z). They are made by multiplying, which is
    exact as long as they fit; a library's power function need not be.
    """

    def forward(self, z: Float[Tensor, "*nodes width"]) -> Float[Tensor, "*nodes width"]:
        powers = torch.full((len(self.keys),), self.size + 1.0, dtype=z.dtype).cumprod(0)  # N, N², …, N^K
        return F.pad(powers[self.number(z) - 1].unsqueeze(-1), (0, self.width - 1))


@torch.no_grad()
def distinguishing_layer(config: SmoreConfig, code: type[MultisetCode] = MultisetCode, in_features: int = 3) -> Smore:
    """A float64 Smore that distinguishes all trees that its form can (Theorem 3.4, Corollaries 3.5 and 3.6).

    Experts are numbered 0, 1, … in their biases, and 1, 2, 4, … where σ is applied to the child and the biases are summed
    without it. A shared pool has no rows for every layer: the bias takes the last row, σ the first ones, W = I.
    Raises ValueError without biases, for widths that hold no code, and where the codes leave float64's integers.
    """
    if not config.expert_bias:
        raise ValueError("expert_bias = False leaves no room for the expert's index; set it to True")
    layer = Smore(in_features, 2, config).double()
    for parameter in layer.parameters():
        parameter.zero_()
    inside, row = config.activation_position == "all", -1 if config.shared_pool else 0
    if config.shared_pool and config.widths[1] < max(config.fanout) + 1:
        raise ValueError(f"d = {config.widths[1]} holds an index and no code of {max(config.fanout)} children; raise r")
    for bias in layer.B_bias:
        index = torch.arange(len(bias), dtype=bias.dtype)
        bias[:, row] = index if inside else 2**index
    for W in layer.W[1:]:
        W.copy_(F.pad(torch.eye(W.shape[1]), (0, 0, W.shape[0] - W.shape[1], 0)))  # [0; I]
    below: Float[Tensor, "made width"] | None = None
    for level in range(config.layers):
        met = activation_inputs(layer, level, below) if inside else below
        if met is not None:
            layer.activations[level] = code(met, config.fanout[level])
        if level + 1 < config.layers:
            below = outputs_above(layer, torch.zeros(in_features, dtype=torch.float64), level, below)
    return layer


def activation_inputs(
    layer: Smore, level: int, below: Float[Tensor, "_seen below"] | None
) -> Float[Tensor, "row width"]:
    """b^n + W x of every expert n and every output x below, a row each, for A = B = 0."""
    bias = layer.B_bias[0 if layer.config.shared_pool else level].detach()  # (s, d_{l+1})
    if below is None:
        return bias
    return (bias.unsqueeze(1) + below @ layer.W[level].detach().T).flatten(0, 1)


def decoded_trees(layer: Smore, outputs: Float[Tensor, "tree width"]) -> Trees:
    """x_L of a distinguishing layer with fanouts of 2 and σ outside -> the trees that made them.

    Two numbers follow from the sums of their powers p_1 and p_2, (p_1 ± sqrt(2 p_2 − p_1²)) / 2; each is the number of
    a child's expert and output, and so on down. Outputs whose trees come back are the outputs of different trees. All
    of it is done in whole numbers; float64 has the root of a square to the last digit.

    Raises:
        ValueError: For other layers and for outputs that are not whole numbers.
    """
    config = layer.config
    trees: Trees = []
    if set(config.fanout) != {2} or config.activation_position != "all":
        raise ValueError(
            f"fanout = {config.fanout}, activation_position = {config.activation_position!r}: only "
            "fanouts of 2 with 'all' are decoded here"
        )
    row = -1 if config.shared_pool else 0
    outputs = torch.from_numpy(whole_numbers(outputs)).unsqueeze(1)  # (N, P, d_{l+1})
    for level in reversed(range(config.layers)):
        code: Any = layer.activations[level]
        root = (2 * outputs[..., 1] - outputs[..., 0] ** 2).double().sqrt().long()
        numbers = torch.stack([outputs[..., 0] - root, outputs[..., 0] + root], dim=-1) // 2  # (N, P, 2)
        z = code.inputs(numbers)  # (N, P, 2, d_{l+1})
        ids, order = z[..., row].long().sort(-1)
        trees.insert(0, ids)
        z = z.gather(2, order.unsqueeze(-1).expand_as(z)).flatten(1, 2)  # (N, F_l, d_{l+1})
        if level:
            undone = z @ layer.W[level].detach()  # (N, F_l, d_l): Wᵀ W = I undoes W
            outputs = torch.from_numpy(whole_numbers(undone))
    return trees


@torch.no_grad()
def randomized(layer: Any, seed: int, scale: float = 1.0) -> Any:
    """The module itself in float64, every parameter normal with deviation scale / sqrt(size of its last dimension).

    Biases, which have no inputs to share their variance, have deviation `scale`.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in layer.double().named_parameters():
        deviation = scale if "bias" in name else scale / parameter.shape[-1] ** 0.5
        parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer
