"""The experts during training: their conditioning, their similarity, and how far a step moves them.

Every map B_i A_i is compared through r×r products of its factors (2r×2r for the change that a step makes of it), in
float64 and for all experts of a module at once; no (out, in) matrix is ever formed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters import Adapter
from ...adapters.gates import select
from .. import distributed
from .recorder import HookedRecorder, some_tokens

SAMPLE_TOKENS = 256  # evenly spaced tokens of a batch on which the experts' outputs are compared
DAMPING = 1e-6
PER_EXPERT = ("gram_condition_a", "gram_condition_b", "damped_condition_b", "update_norm", "effective_step")
PER_MODULE = ("map_similarity", "output_similarity", "update_similarity", "layer_step")

Factors = tuple[Tensor, Tensor]  # A (E, r, in), B (E, out, r)
Seen = tuple[Tensor, Tensor, int]  # tokens (T, in) of a batch, mean gates (E,) over its real tokens, their number


def condition_numbers(grams: Tensor, damping: float = 0.0) -> Tensor:
    """λ_max / λ_min of symmetric G + damping·I, G (E, r, r) positive semi-definite in float64 -> (E,).

    Without damping a singular G (λ_min within rounding of zero) has the condition number inf. G = 0 has none, since no
    direction is worse off than another: NaN, as for a G that is not finite.
    """
    finite = grams.isfinite().flatten(1).all(1)
    identity = torch.eye(grams.shape[-1], dtype=grams.dtype, device=grams.device)
    values = torch.linalg.eigvalsh(torch.where(finite[:, None, None], grams, identity))  # (E, r), ascending
    smallest, largest = values[:, 0], values[:, -1]
    resolved = smallest > grams.shape[-1] * torch.finfo(grams.dtype).eps * largest
    condition = (largest + damping) / (torch.where(resolved, smallest, 0.0) + damping)
    return torch.where(finite, condition, torch.nan)


def inner_products(down: Tensor, up: Tensor) -> Tensor:
    """⟨U_i D_i, U_j D_j⟩ of the maps of down D (E, k, in) and up U (E, out, k) -> (E, E).

    tr((U_i D_i)ᵀ U_j D_j) is the sum over the entries of (D_i D_jᵀ) ∘ (U_iᵀ U_j), both k×k.
    """
    experts, k, _ = down.shape
    rows, columns = down.flatten(0, 1), up.transpose(0, 1).flatten(1)  # (E·k, in), (out, E·k)
    products = (rows @ rows.T) * (columns.T @ columns)  # (E·k, E·k)
    return products.view(experts, k, experts, k).sum((1, 3))


def mean_cosine(products: Tensor) -> Tensor:
    """Mean cosine over the pairs i < j of vectors with inner products (E, E); zero vectors are left out.

    NaN where fewer than two vectors differ from zero.
    """
    squares = products.diagonal().clamp_min(0.0)
    inverse = torch.where(squares == 0, 0.0, squares.rsqrt())
    cosines = inverse[:, None] * products * inverse
    return (cosines.sum() - cosines.trace()) / pairs(inverse)


def output_cosine(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """Mean over the tokens of x (T, in) of the mean cosine between the experts' outputs B_i A_i x.

    An output that is zero within rounding is left out; NaN if no token has two others.
    """
    hidden = (x @ A.flatten(0, 1).T).unflatten(1, A.shape[:2]).transpose(0, 1)  # (E, T, r)
    grams = B.mT @ B  # (E, r, r)
    squares = ((hidden @ grams) * hidden).sum(-1)  # (E, T): ‖B_i A_i x‖²
    bound = hidden.square().sum(-1) * grams.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True)
    inverse = torch.where(squares <= 1e-13 * bound, 0.0, squares.rsqrt())  # (E, T)
    # the squared length of a sum of n unit vectors is n plus twice the sum of their pairs' cosines
    total = (hidden * inverse[:, :, None]).transpose(0, 1).flatten(1) @ B.transpose(1, 2).flatten(0, 1)  # (T, out)
    there = (inverse != 0).sum(0)
    return ((total.square().sum(1) - there) / pairs(inverse)).nanmean()


def pairs(inverse: Tensor) -> Tensor:
    """Ordered pairs i ≠ j of the vectors whose inverse length (E, …) is not zero -> (…); NaN if there is none."""
    there = (inverse != 0).sum(0).to(inverse.dtype)
    return torch.where(there > 1, there * (there - 1), torch.nan)


def update_factors(before: Factors, after: Factors) -> Factors:
    """(D (E, 2r, in), U (E, out, 2r)) with U D = B' A' − B A = (B' − B) A' + B (A' − A): nothing cancels."""
    (A, B), (new_A, new_B) = before, after
    return torch.cat([new_A, new_A - A], dim=1), torch.cat([new_B - B, B], dim=2)


def expert_measures(
    before: Factors, after: Factors, x: Tensor, gates: Tensor, scaling: float, damping: float = DAMPING
) -> dict[str, Tensor]:
    """Every kind of PER_EXPERT (E,) and of PER_MODULE () for one module and one step of its optimizer.

    before, after: factors around the step. x (T, in): a sample of tokens. gates (E,): mean gate of each expert.
    """
    before = before[0].double(), before[1].double()
    A, B = before
    gates = gates.to(A)
    gram_b = B.mT @ B
    moved = inner_products(*update_factors(before, (after[0].double(), after[1].double())))  # (E, E)
    norms = scaling * moved.diagonal().clamp_min(0.0).sqrt()
    return {
        "gram_condition_a": condition_numbers(A @ A.mT),
        "gram_condition_b": condition_numbers(gram_b),
        "damped_condition_b": condition_numbers(gram_b, damping),
        "update_norm": norms,
        "effective_step": gates * norms,
        "map_similarity": mean_cosine(inner_products(A, B)),
        "output_similarity": output_cosine(x.double(), A, B),
        "update_similarity": mean_cosine(moved),
        "layer_step": scaling * (gates @ moved @ gates).clamp_min(0.0).sqrt(),
    }


class ExpertRecorder(HookedRecorder):
    """Writes the record of a run's experts; dimensions (step, module, expert), or (step, module).

    A record at step t describes the weights before update t and the change that update t makes of them:
    gram_condition_a, gram_condition_b: condition number of A_i A_iᵀ and of B_iᵀ B_i; inf where singular, NaN if the
    factor is zero, as B is at the start. damped_condition_b: of B_iᵀ B_i + damping·I, which the preconditioner inverts.
    map_similarity, output_similarity, update_similarity: mean over pairs of experts of the cosine between their maps
    B_i A_i, between their outputs B_i A_i x (mean over some 250 real tokens of the last micro-batch, before dropout)
    and between the changes of their maps. Zero maps are left out; NaN where fewer than two are left.
    update_norm: Frobenius norm of the change of (alpha / r) B_i A_i. effective_step: that times the mean gate of the
    expert over the real tokens of the last micro-batch, its share, to first order, in the change of the layer's mean
    map. layer_step: Frobenius norm of the sum of these changes, with their directions.
    """

    def __init__(self, model: nn.Module, path: Path, every: int, damping: float = DAMPING) -> None:
        super().__init__(model, path, every)
        self.damping = damping
        self.factors = {name: single_pair(adapter, every) for name, adapter in self.adapters.items()}
        if not self.factors:
            raise ValueError(no_experts("the model", every))
        self.before: dict[str, Factors] = {}
        self.seen: dict[str, Seen] = {}

    def declare(self, steps: int) -> None:
        names, experts = list(self.factors), next(iter(self.factors.values()))[0].shape[0]
        for kind in PER_EXPERT:
            self.store.declare(kind, ("module", "expert"), (len(names), experts), {"module": names})
        for kind in PER_MODULE:
            self.store.declare(kind, ("module",), (len(names),), {"module": names})

    def see(self, name: str, x: Any, routing: Any, mask: Tensor | None) -> None:
        gates = select(routing.gates.detach(), mask)  # (tokens, E)
        few = some_tokens(x.detach().flatten(0, -2), mask, SAMPLE_TOKENS, self.place)
        self.seen[name] = few, gates.mean(0), len(gates)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.active:
            self.before = {name: (A.detach().clone(), B.detach().clone()) for name, (A, B) in self.factors.items()}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.before:
            whole = {name: seen_by_all(self.seen[name]) for name in self.before}
            if distributed.first():
                modules = [
                    expert_measures(before, self.factors[name], *whole[name], self._scaling(name), self.damping)
                    for name, before in self.before.items()
                ]
                record = {kind: torch.stack([module[kind] for module in modules]).cpu().numpy() for kind in modules[0]}
                self.store.append(state.global_step - 1, record)
            self.before, self.seen = {}, {}
        self.active = self.due(state.global_step)

    def _scaling(self, name: str) -> float:
        return getattr(self.adapters[name], "scaling", 1.0)


def single_pair(adapter: Adapter, every: int) -> Factors:
    """The one stack of experts of an adapter; ValueError for an adapter that has none, or several."""
    found = list(adapter.factor_pairs())
    if len(found) != 1 or any(factor.dim() != 3 for factor in found[0]) or len(found[0][0]) != len(found[0][1]):
        raise ValueError(no_experts(type(adapter).__name__, every))
    return found[0]


def no_experts(name: str, every: int) -> str:
    return (
        f"record_experts_every = {every} needs experts stacked in one pair A (E, r, in), B (E, out, r), which "
        f"{name} does not have; set record_experts_every=0, or train MoeLora or Sira"
    )


def seen_by_all(seen: Seen) -> tuple[Tensor, Tensor]:
    """(tokens (T, in), mean gates (E,)) of all processes, for the first of them; the others keep their own."""
    x, gates, _ = seen
    if distributed.world_size() == 1:
        return x, gates
    parts = [part for part in distributed.at_first((x.cpu(), gates.cpu(), seen[2])) if part[2]]
    total = sum(tokens for *_, tokens in parts)
    if not total:
        return x, gates
    mean = torch.stack([part * (tokens / total) for _, part, tokens in parts]).sum(0)
    return torch.cat([part for part, *_ in parts]).to(x.device), mean.to(gates.device)
