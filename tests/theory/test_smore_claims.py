"""S'MoRE's claims hold, and what makes them false is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from moe_analysis.adapters import MoeLora, MoeLoraConfig, Momor, MomorConfig, Smore, tree_pass
from moe_analysis.theory import smore, smore_codes, smore_families, smore_relatives, verify
from moe_analysis.theory import tree_enumeration as walk
from tests.theory.random_smore import FEW, SEEDS, small

CHEAP = ["smore_fig3_*", "smore_lemma_*", "smore_prop*", "smore_collapse_*", "smore_heterogeneous_layers"]


def test_the_cheap_claims_hold_for_several_seeds():
    for seed in (0, 1):
        table = verify(CHEAP, seed=seed)
        assert len(table) == 7
        assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured"]].to_string()


def test_the_counts_of_three_layers_are_those_of_the_paper():
    x = torch.zeros(3, dtype=torch.float64)
    for position, expected in [("all", 279_936), ("child_scored", 48_006)]:
        layer = smore_families.distinguishing_layer(smore.structure([4] * 3, [2] * 3, activation_position=position))
        assert len(walk.distinct_rows(walk.all_outputs(layer, x))) == expected
    assert smore.momor_count([4] * 3, [2] * 3, 0) == 726


def test_four_layers_hold_by_the_layer_wise_argument():
    claim = smore.smore_thm34_four_layers()
    assert claim.holds and claim.measured[-1] == 6**15


def test_the_code_of_the_proof_outgrows_floats_at_three_layers():
    assert verify("smore_thm34_codes_in_floats")["holds"].all()


@pytest.fixture
def two_layers(monkeypatch):
    """Every claim at L = 1, 2 and once more 2, where an enumeration takes milliseconds."""
    for module in (smore, smore_codes):
        monkeypatch.setattr(module, "paper_sizes", lambda layers: ([4] * min(layers, 2), [2] * min(layers, 2)))


def test_the_claims_of_two_layers_hold(two_layers):
    table = verify(
        [
            "smore_thm33_*",
            "smore_thm34_all_*",
            "smore_thm34_random_*",
            "smore_thm34_needs_*",
            "smore_thm34_single_*",
            "smore_cor*",
        ],
        seed=3,
    ).set_index("name")
    assert table["holds"].all()
    assert table.loc["smore_cor35_activation_on_child", "measured"] == [6, 126, 126] * 2
    assert table.loc["smore_thm34_needs_the_activation", "measured"] == [6, 114, 114]


def test_a_code_that_forgets_the_second_power_is_found_wrong(two_layers, monkeypatch):
    honest = smore_families.MultisetCode.forward
    monkeypatch.setattr(
        smore_families.MultisetCode, "forward", lambda self, z: honest(self, z) * (torch.arange(z.shape[-1]) == 0)
    )
    assert not smore.smore_thm34_all_trees().holds
    assert not smore_codes.smore_lemma_c8_multisets().holds


def test_an_aggregation_that_forgets_an_expert_is_found_wrong(two_layers, monkeypatch):
    honest = walk.binary_choice
    monkeypatch.setattr(walk, "binary_choice", lambda ids, pool, dtype: honest(ids.clamp(max=pool - 2), pool, dtype))
    assert not smore.smore_thm34_all_trees().holds
    assert not smore.smore_thm34_random_parameters().holds


@pytest.mark.parametrize("other", [65, 67])
def test_a_bound_that_is_too_small_or_that_nothing_attains_is_found_wrong(two_layers, monkeypatch, other):
    monkeypatch.setattr(smore, "momor_bound", lambda s, f: other if len(s) == 2 else 6)
    claim = smore.smore_thm33_momor_bound()
    assert not claim.holds and claim.residual == 1.0


def test_a_mixture_that_ignores_its_gates_does_not_attain_the_bound(two_layers, monkeypatch):
    honest = walk.HeldMomor
    monkeypatch.setattr(walk, "HeldMomor", lambda layer, gates: honest(layer, torch.ones_like(gates)))
    assert smore.smore_thm33_momor_bound().measured == [1, 1, 1]
    assert not smore.smore_thm33_momor_bound().holds


def test_relatives_with_other_up_factors_are_found_wrong(monkeypatch):
    honest = smore_relatives.as_smore

    def swapped(momor):
        layer = honest(momor)
        layer.W_proj.data = layer.W_proj.data.flip(1)
        return layer

    monkeypatch.setattr(smore_relatives, "as_smore", swapped)
    table = verify("smore_prop*")
    assert len(table) == 3 and not table["holds"].any()


def test_trees_of_a_training_step_that_take_another_expert_are_found_wrong(monkeypatch):
    assert smore_relatives.smore_thm34_trees_as_trained().holds

    def rolled(*given):
        output, *others = tree_pass.grown(*given)
        return output.roll(1, 0), *others

    monkeypatch.setattr("moe_analysis.adapters.smore.grown", rolled)
    assert not smore_relatives.smore_thm34_trees_as_trained().holds


def test_a_held_order_wise_mixture_sums_its_active_experts():
    momor = smore_families.randomized(Momor(5, 4, MomorConfig(r=2, alpha=6.0, num_experts=[3, 4], top_k=[2, 2])), 0)
    x, gates = torch.ones(5, dtype=torch.float64), walk.momor_routings(small([3, 4], [2, 2]))
    assert len(gates) == 6 * (3 + 1) and set(gates.sum(1).tolist()) == {4.0, 5.0}
    found = walk.momor_outputs(momor, x, gates)
    with torch.no_grad():
        updates = torch.cat([3.0 * torch.einsum("eor,eri,i->eo", B, A, x) for A, B in zip(momor.A, momor.B)])
        np.testing.assert_allclose(found, (gates @ updates).numpy(), rtol=1e-12)


@FEW
@given(SEEDS)
def test_the_order_wise_mixture_inside_is_the_sum_over_its_gates(seed):
    momor = smore_families.randomized(Momor(5, 4, MomorConfig(r=2, alpha=None, num_experts=[3, 4], top_k=[2, 2])), seed)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        delta, routing = smore_relatives.as_smore(momor)(x)
        weights = [gate(x).softmax(-1) for gate in momor.gates]
    expected = torch.zeros(6, 4, dtype=torch.float64)
    for pool, probability in enumerate(weights):
        for n, row in enumerate(probability):
            best = row.topk(2).indices.tolist()
            for expert in best:
                gate = row[expert] / row[best].sum()
                expected[n] += (gate * momor.B[pool][expert] @ (momor.A[pool][expert] @ x[n])).detach()
    torch.testing.assert_close(delta, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(routing.gates.sum(-1), torch.full((6,), 2.0, dtype=torch.float64))  # 1 from each pool


def test_a_fresh_two_layer_start_collapses_and_a_moved_one_does_not():
    options = {"activation": "identity", "init": "eq_1_layer"}
    layer = Smore(5, 3, small([3, 4], [2, 2], **options)).double()
    nn.init.normal_(layer.W_proj)
    mixture = smore_relatives.collapsed(layer)
    assert isinstance(mixture, MoeLora) and mixture.config.num_experts == 7 and mixture.scaling == 1.0
    with torch.no_grad():  # one expert of each pool by hand: its block of W_proj is its up factor
        assert torch.equal(mixture.B[0], layer.W_proj[:, 8:10]) and torch.equal(mixture.B[3], layer.W_proj[:, :2])
        layer.W[1][0, 0] += 1
    with pytest.raises(ValueError, match="W.1 was trained; only an untrained module"):
        smore_relatives.collapsed(layer)
    with pytest.raises(ValueError, match="must be equal in all layers"):
        smore_relatives.collapsed(Smore(5, 3, small([3, 4], [2, 2], **{**options, "r": [1, 2]})))
    with pytest.raises(ValueError, match="activation = 'tanh'"):
        smore_relatives.collapsed(Smore(5, 3, small([3, 4], [2, 2], init="eq_1_layer")))


def test_a_mixture_of_one_pool_keeps_its_scaling():
    mixture = smore_families.randomized(MoeLora(5, 4, MoeLoraConfig(num_experts=3, top_k=2, r=2, alpha=7.0)), 0)
    x = torch.ones(2, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(smore_relatives.as_momor(mixture)(x)[0], mixture(x)[0], rtol=1e-13, atol=1e-13)


def test_inputs_and_parameters_are_repeatable_and_their_size_is_the_scale():
    layer = smore_families.randomized(Smore(200, 3, small([4, 4], [2, 2], r=8)), 0, scale=3.0)
    again = smore_families.randomized(Smore(200, 3, small([4, 4], [2, 2], r=8)), 0, scale=3.0)
    assert torch.equal(layer.A[0], again.A[0]) and torch.equal(smore.inputs(1, 4), smore.inputs(1, 4))
    assert float(layer.A[0].detach().std()) == pytest.approx(3 / math.sqrt(200), rel=0.05)
    assert float(layer.B_bias[1].detach().std()) == pytest.approx(3.0, rel=0.2)
