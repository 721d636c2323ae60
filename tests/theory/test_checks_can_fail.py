"""Every check of a statement fails where a part of the library that it is about is broken."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from moe_analysis.adapters import MoeLora, Smore, TRex, rescale
from moe_analysis.adapters import smore as smore_adapter
from moe_analysis.adapters.gates import keep_top_k
from moe_analysis.optim import RiemannianSGD
from moe_analysis.theory import CHECKS, checked, smore, smore_codes
from moe_analysis.theory.fixed_rank import RankPoint
from moe_analysis.theory.smore_families import MultisetCode
from moe_analysis.theory.tucker import hosvd

LARGE = ("smore_thm34_four_layers", "smore_thm34_codes_in_floats")  # their statements need three layers or four

layer_of, start_of, share_of, grown = Smore._layer, Smore._start_as_one_layer, TRex.omega.fget, smore_adapter.grown
scale_of, gate_of, moved_by = rescale.backward_scale, MoeLora._gate, RiemannianSGD._apply
code_of, point_of, bend_of = MultisetCode.forward, RankPoint.from_factors, RankPoint.bend


def without_below(layer: Any, *given: Any) -> torch.Tensor:
    *others, below = given
    return layer_of(layer, *others, None if below is None else 0 * below)


def last_block_first(layer: Any) -> None:
    start_of(layer)
    for B in layer.B:
        B.data = B.data.flip(0)


def last_digits_wrong(*given: Any) -> tuple[Any, ...]:
    output, *others = grown(*given)
    return output * (1 + 1e-6), *others


def identity(grams: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    eye = torch.eye(grams.shape[-1], dtype=grams.dtype).expand_as(grams).contiguous()
    return eye, torch.zeros(len(grams), dtype=torch.bool)


ADAPTERS, THEORY = "moe_analysis.adapters", "moe_analysis.theory"
NOTHING_BELOW = (f"{ADAPTERS}.Smore._layer", without_below)
OTHER_BLOCKS = (f"{ADAPTERS}.Smore._start_as_one_layer", last_block_first)
ENDS_EXCHANGED = (f"{ADAPTERS}.TRex.omega", property(lambda layer: 1 - share_of(layer)))
SHARE_SQUARED = (f"{ADAPTERS}.TRex.omega", property(lambda layer: share_of(layer) ** 2))
CHORD = (f"{THEORY}.trex_intuition.Parabola.slope_at_router", property(lambda line: line.router - line.prior))
NO_POWER = (f"{ADAPTERS}.rescale.backward_scale", lambda gates, power: gates)
NO_METRIC = ("moe_analysis.optim.preconditioner.damped_inverse", identity)
ONE_POWER = (
    f"{THEORY}.smore_families.MultisetCode.forward",
    lambda code, z: code_of(code, z) * (torch.arange(z.shape[-1]) == 0),
)
BROKEN: dict[str, tuple[str, Any]] = {
    "smore_cost_formula_is_module": (f"{THEORY}.smore_cost.known_widths", lambda config, down: [down] * config.layers),
    "smore_cost_parameters": (f"{THEORY}.smore_cost.parameter_overhead", lambda config: config.widths[-1] ** 2),
    "smore_cost_gates_run_once_a_parent": (
        f"{ADAPTERS}.SmoreConfig.nodes",
        property(lambda config: [1] * (config.layers + 1)),
    ),
    "smore_cost_active_experts": (f"{THEORY}.smore_cost.used_experts", lambda config: config.num_experts),
    "smore_cost_operations": NOTHING_BELOW,
    "gr_curvature_closed_form": (f"{THEORY}.fixed_rank.RankPoint.bend", lambda point, xi: bend_of(point, xi) / 2),
    "gr_curvature_inverse_in_gate": (
        f"{THEORY}.fixed_rank.RankPoint.from_factors",
        staticmethod(lambda A, B, scale=1.0: point_of(A, B)),
    ),
    "gr_first_order_exponents": NO_POWER,
    "gr_exact_remedy_is_power_zero": NO_POWER,
    "gr_single_expert_control": (f"{ADAPTERS}.MoeLoraConfig.normalizes", False),
    "gr_gate_gradient_unchanged": NO_POWER,
    "gr_sparse_gates": NO_POWER,
    "gr_step_invariance": NO_METRIC,
    "gr_descent_direction": NO_METRIC,
    "gr_zero_start": ("moe_analysis.optim.riemannian.damped_inverse", identity),
    "smore_thm33_momor_bound": (
        f"{ADAPTERS}.momor.up_mixture",
        lambda hidden, gates, *rest: rescale.up_mixture(hidden, torch.ones_like(gates), *rest),
    ),
    "smore_thm34_all_trees": NOTHING_BELOW,
    "smore_thm34_four_layers": ONE_POWER,
    "smore_thm34_random_parameters": NOTHING_BELOW,
    "smore_thm34_needs_the_activation": NOTHING_BELOW,
    "smore_thm34_codes_in_floats": ONE_POWER,
    "smore_thm34_single_precision": NOTHING_BELOW,
    "smore_thm34_trees_as_trained": (f"{ADAPTERS}.smore.grown", last_digits_wrong),
    "smore_cor35_activation_on_child": NOTHING_BELOW,
    "smore_cor36_shared_pool": NOTHING_BELOW,
    "smore_heterogeneous_layers": NOTHING_BELOW,
    "smore_fig3_three_trees": NOTHING_BELOW,
    "smore_lemma_c8_multisets": ONE_POWER,
    "smore_prop31_mixture": OTHER_BLOCKS,
    "smore_prop32_momor": NOTHING_BELOW,
    "smore_prop32_coefficients": NOTHING_BELOW,
    "smore_collapse_to_one_layer": OTHER_BLOCKS,
    "trex_lemma_4_1_span": ENDS_EXCHANGED,
    "trex_lemma_4_1_rank_of_one_update": ENDS_EXCHANGED,
    "trex_lemma_4_1_kronecker": ENDS_EXCHANGED,
    "trex_lemma_4_1_equal_parameters": ENDS_EXCHANGED,
    "trex_lemma_4_1_used_dimension": ENDS_EXCHANGED,
    "trex_theorem_4_2_single_target": ENDS_EXCHANGED,
    "trex_theorem_4_2_family_with_fixed_factors": ENDS_EXCHANGED,
    "trex_theorem_4_2_shared_factors": (f"{THEORY}.trex_approximation.hooi", hosvd),
    "trex_theorem_4_2_nested_systems": ENDS_EXCHANGED,
    "trex_theorem_4_3_best_share": CHORD,
    "trex_theorem_4_3_when_the_prior_helps": CHORD,
    "trex_theorem_4_3_on_the_layer": SHARE_SQUARED,
    "trex_theorem_4_3_router_gradient_scale": SHARE_SQUARED,
}


class AllExperts:
    """A backward pass whose factor is a power of the softmax over all experts, in place of the kept gates."""

    def gate(self, layer: MoeLora, logits: torch.Tensor, *rest: Any) -> Any:
        self.softmax = logits.detach().softmax(-1)
        return gate_of(layer, logits, *rest)

    def scale(self, gates: torch.Tensor, power: float) -> torch.Tensor:
        return scale_of(self.softmax * (gates > 0), power)


def next_chosen(gates: torch.Tensor, power: float) -> torch.Tensor:
    """The factor of the next smaller gate; the smallest has that of the largest."""
    chosen = gates.topk(int((gates > 0).sum(-1).max()))
    return scale_of(torch.zeros_like(gates).scatter(-1, chosen.indices, chosen.values.roll(1, -1)), power)


def also_without_a_token(optimizer: Any, factor: torch.Tensor, gradient: torch.Tensor, group: Any) -> None:
    moved_by(optimizer, factor, gradient, group)
    if factor.dim() == 3:
        factor[~gradient.flatten(1).any(1)] *= 0.999


all_experts = AllExperts()
TOP_K, SCALE = f"{ADAPTERS}.gates.top_k_softmax", f"{ADAPTERS}.rescale.backward_scale"
SPARSE: dict[str, tuple[str, list[tuple[str, Any]]]] = {  # what no dense gate shows
    "least kept": ("first_order_exponents", [(TOP_K, lambda z, k: keep_top_k((-z).softmax(-1), k, normalize=True))]),
    "all kept": ("first_order_exponents", [(TOP_K, lambda z, k: z.softmax(-1))]),
    "not renormalized": ("first_order_exponents", [(TOP_K, lambda z, k: keep_top_k(z.softmax(-1), k, False))]),
    "softmax of all": (
        "first_order_exponents",
        [(f"{ADAPTERS}.MoeLora._gate", lambda *given: all_experts.gate(*given)), (SCALE, all_experts.scale)],
    ),
    "0 to the power 0": ("exact_remedy_is_power_zero", [(SCALE, lambda gates, power: gates**power)]),
    "a step without a token": (
        "exact_remedy_is_power_zero",
        [("moe_analysis.optim.RiemannianSGD._apply", also_without_a_token)],
    ),
    "another chosen expert's gate": ("first_order_exponents", [(SCALE, next_chosen)]),
}


@pytest.mark.parametrize("fault", SPARSE)
def test_a_check_of_gates_fails_where_those_of_chosen_experts_are_broken(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, parts = SPARSE[fault]
    for part in parts:
        monkeypatch.setattr(*part)
    assert [claim.name for claim in checked([f"gr_{name}", "gr_sparse_gates"]) if claim.holds] == []


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_fails_where_the_library_is_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name not in LARGE:
        for module in (smore, smore_codes):
            monkeypatch.setattr(module, "paper_sizes", lambda layers: ([4] * min(layers, 2), [2] * min(layers, 2)))
    monkeypatch.setattr(*BROKEN[name])
    (claim,) = checked(name)
    assert not claim.holds


@pytest.mark.parametrize(
    "part, name",
    [
        (f"{ADAPTERS}.trex.up_product", "trex_lemma_4_1_kronecker"),
        (f"{ADAPTERS}.trex.up_product", "trex_theorem_4_2_single_target"),
        (f"{ADAPTERS}.trex.up_product", "trex_theorem_4_2_family_with_fixed_factors"),
        (f"{ADAPTERS}.trex.up_product", "trex_theorem_4_3_on_the_layer"),
        (f"{THEORY}.tucker.projection_error", "trex_theorem_4_2_shared_factors"),
        (f"{THEORY}.fixed_rank.RankPoint.measured_curvature", "gr_curvature_closed_form"),
        (f"{THEORY}.fixed_rank.RankPoint.bend", "gr_curvature_closed_form"),
        (f"{THEORY}.gated_step.full_matrix_change", "gr_first_order_exponents"),
        (f"{ADAPTERS}.moe_lora.up_mixture", "gr_sparse_gates"),
        ("moe_analysis.optim.precondition", "gr_descent_direction"),
        (f"{ADAPTERS}.momor.up_mixture", "smore_fig3_three_trees"),
        (f"{ADAPTERS}.moe_lora.up_mixture", "smore_prop31_mixture"),
    ],
)
def test_a_check_fails_where_the_library_gives_nan(part: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max` passes over NaN if it comes second."""
    honest = resolve_name(part)

    def unknown(*given: Any, **options: Any) -> Any:
        found = honest(*given, **options)
        return tuple(one * torch.nan for one in found) if isinstance(found, tuple) else found * torch.nan

    monkeypatch.setattr(part, unknown)
    (claim,) = checked(name)
    assert not claim.holds
