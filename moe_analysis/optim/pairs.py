"""Which parameters of a model are the two factors of a low-rank update."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from ..adapters import Adapter


@dataclass(frozen=True)
class FactorPair:
    """One stack of low-rank experts of a layer: A (E, r, in) and B (E, out, r), or one expert without the E.

    Args:
        name: Where the pair lies in its model, for messages.
        num_experts: Of the two matrices of PEFT's `target_parameters`, A (E·r, in) and B (out, r·E): A's rows lie expert
            by expert, B's columns rank by rank. None for all other pairs.

    Example:
        >>> pair = FactorPair("layer", torch.zeros(4, 2, 16), torch.zeros(4, 24, 2))
        >>> pair.shape
        (2, 16, 24)
        >>> flat = FactorPair("layer", torch.zeros(4 * 2, 16), torch.zeros(24, 2 * 4), num_experts=4)
        >>> flat.shape, tuple(flat.up(flat.B).shape)
        ((2, 16, 24), (4, 24, 2))
    """

    name: str
    A: Tensor
    B: Tensor
    num_experts: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(r, in, out): pairs of one shape are preconditioned together, however many experts each has."""
        rank, width = self.down(self.A).shape[-2:]
        return rank, width, self.up(self.B).shape[-2]

    def down(self, factor: Tensor) -> Tensor:
        """A, or a tensor that lies as A does, as a stack (E, r, in); the memory is shared."""
        if self.num_experts is None:
            return stacked(factor)
        return factor.unflatten(0, (self.num_experts, -1))

    def up(self, factor: Tensor) -> Tensor:
        """B, or a tensor that lies as B does, as a stack (E, out, r); the memory is shared."""
        if self.num_experts is None:
            return stacked(factor)
        return factor.unflatten(1, (-1, self.num_experts)).permute(2, 0, 1)


def stacked(factor: Tensor) -> Tensor:
    """A factor of a single expert as a stack of one; the memory is shared."""
    return factor if factor.dim() == 3 else factor.unsqueeze(0)


def factor_pairs(model: nn.Module) -> list[FactorPair]:
    """Every trainable pair of a model, in the order of its modules: our adapters' own and those of PEFT's LoRA.

    A parameter of several experts that PEFT adapts by `target_parameters` is a stack of pairs, one for each expert.
    LoRA on convolutions and embeddings and block-diagonal LoRA have no such pairs.

    A pair that several layers share is one.

    Raises:
        ValueError: For factors whose shapes do not match, for one that has several partners or is computed from another
            weight, for KaSA, whose update is no product of two factors, and for a model that has none.

    Example:
        >>> found = factor_pairs(model)
        >>> len(found), found[0].shape, tuple(found[0].A.shape)
        (4, (2, 128, 128), (4, 2, 128))
    """
    pairs = [pair for name, module in model.named_modules() for pair in _pairs_of(name, module)]
    pairs = once([pair for pair in pairs if pair.A.requires_grad or pair.B.requires_grad])
    if not pairs:
        names = sorted({type(module).__name__ for module in model.modules() if isinstance(module, Adapter)})
        raise ValueError(
            "the model has no pair of low-rank factors to precondition (adapters: "
            f"{', '.join(names) or 'none'}); use MoeLora, Sira or LoRA, or a plain optimizer"
        )
    for pair in pairs:
        _check(pair)
    return pairs


def once(pairs: list[FactorPair]) -> list[FactorPair]:
    """Every pair once; refuses a factor of two pairs, whose preconditioner would be that of either."""
    owners: dict[Tensor, FactorPair] = {}
    found: list[FactorPair] = []
    for pair in pairs:
        known = owners.setdefault(pair.A, pair), owners.setdefault(pair.B, pair)
        if known[0] is not known[1]:
            other = next(one for one in known if one is not pair)
            raise ValueError(
                f"{pair.name} shares one factor with {other.name} and not the other, so no preconditioner is defined for "
                "it; share both or none, or use a plain optimizer"
            )
        found += [pair] if known[0] is pair else []
    return found


def _pairs_of(name: str, module: nn.Module) -> Iterator[FactorPair]:
    from peft.tuners.lora import LoraLayer, ParamWrapper

    name = name or type(module).__name__  # the model itself

    if isinstance(module, Adapter):
        for number, (A, B) in enumerate(module.factor_pairs()):
            yield FactorPair(f"{name}[{number}]" if number else name, A, B)
    elif isinstance(module, LoraLayer):
        for adapter, down in module.lora_A.items():
            up = module.lora_B[adapter]
            if isinstance(down, nn.Linear) and isinstance(up, nn.Linear):
                experts = module.num_experts if isinstance(module, ParamWrapper) and module.num_experts > 1 else None
                pair = FactorPair(f"{name}.{adapter}", down.weight, up.weight, experts)
                if adapter in getattr(module, "lora_diag", ()) and (pair.A.requires_grad or pair.B.requires_grad):
                    raise ValueError(
                        f"{pair.name}: kasa_config puts a diagonal between B and A, so they are not the two factors of "
                        "an update; leave it out, or use a plain optimizer"
                    )
                yield pair


def _check(pair: FactorPair) -> None:
    for letter, factor in (("A", pair.A), ("B", pair.B)):
        if not isinstance(factor, nn.Parameter):
            raise ValueError(
                f"{pair.name}: {letter} is computed from another weight, as by pruning, a parametrization or sharding, so "
                "it cannot be moved as a factor; undo that, or use a plain optimizer"
            )
    a, b = pair.down(pair.A), pair.up(pair.B)
    if a.dim() != 3 or b.dim() != 3 or a.shape[0] != b.shape[0] or a.shape[1] != b.shape[2]:
        raise ValueError(
            f"{pair.name}: A {tuple(pair.A.shape)} and B {tuple(pair.B.shape)} are not factors of one "
            "update; A must be (E, r, in) and B (E, out, r)"
        )
