"""Costs by formula, against the authors' statistics, naive transcriptions and counts on the modules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.adapters import MoeLoraConfig, Smore, SmoreConfig, TRexConfig
from moe_analysis.adapters.base import REGISTRY
from moe_analysis.theory import cost_claims, verify
from moe_analysis.theory.cost import cost, differences, formulas_by_name, lora_cost
from moe_analysis.theory.count import (
    count,
    count_lora,
    experts_used,
    flop_counter,
    meta_layer,
    operations,
    parents_by_gate,
)
from moe_analysis.theory.smore_cost import (
    authors_gate_macs,
    compute_overhead,
    parameter_overhead,
    smore_cost,
    true_gate_macs,
    used_experts,
)

STATISTICS = Path(__file__).parents[1] / "golden" / "smore_param_stats.csv"
ROUTER_PRELU = [1249, 1275]  # rows whose router has prelu, which the file has no column for


def numbers(text: object) -> list[int]:
    return [int(part) for part in str(text).split("-")]


def configured(row) -> SmoreConfig:
    return SmoreConfig(
        num_experts=numbers(row.s),
        fanout=numbers(row.f),
        r=numbers(row.r),
        gate=row.gate,
        key_dim=row.d_g,
        shared_pool=bool(row.shared),
        down_dim=row.down or None,
        activation=row.act.partition("|")[0],
        router_activation="prelu" if row.Index in ROUTER_PRELU else "relu",
    )


@st.composite
def structures(draw, **options) -> SmoreConfig:
    layers = draw(st.integers(1, 3))
    s = [draw(st.integers(2, 4)) for _ in range(layers)]
    f = [draw(st.integers(1, size)) for size in s]
    r, m = ([draw(st.integers(1, 5)) for _ in range(layers)] for _ in range(2))
    return SmoreConfig(num_experts=s, fanout=f, r=r, key_dim=m, down_dim=draw(st.integers(1, 6)), **options)


def authors_statistics(in_features: int, out_features: int, config: Any) -> dict[str, int]:
    """The columns of the authors' `param_stats`, "flops" being multiplications a token. Gates are MLPs top-down.

    Their slips are kept: see `authors_gate_macs`; and a dense gate, which uses every expert, is counted by its fanout.
    """
    found = smore_cost(in_features, out_features, config)
    projection = out_features * (config.widths[-1] + int(config.expert_bias))
    product = out_features * config.widths[-1]
    macs = found.macs("experts")
    return {
        "trainable_param": found.parameters,
        "expert_param": found.expert_parameters,
        "expert_param_wo_proj": found.expert_parameters - projection,
        "gate_param": found.router_parameters,
        "active_param": found.active_parameters,
        "active_param_wo_proj": found.active_parameters - projection,
        "expert_flops": macs,
        "expert_flops_wo_proj": macs - product,
        "gate_flops": authors_gate_macs(in_features, config),
        "numel_named_parameters": found.parameters,
    }


def test_all_the_authors_statistics_are_reproduced():
    table = pd.read_csv(STATISTICS)
    assert len(table) == 1276
    for row in table.itertuples():
        found = authors_statistics(row.d_in, row.d_out, configured(row))
        assert found == {name: getattr(row, name) for name in found}, row.Index
        assert set(found) == set(table.columns[11:])


def test_the_authors_count_a_gate_once_and_the_true_count_once_a_parent():
    table = pd.read_csv(STATISTICS)
    below = 0
    for row in table.itertuples():
        config = configured(row)
        true = true_gate_macs(row.d_in, config)
        assert authors_gate_macs(row.d_in, config) == row.gate_flops <= true
        below += true > row.gate_flops
        assert (true == row.gate_flops) == all(F == 1 for F in config.nodes[1:])
    assert below == 700  # those of several layers whose upper nodes have more than one child


def test_a_dense_gate_uses_every_expert_where_the_authors_count_its_fanout():
    counted_so = SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=8, gate="dense")
    true = replace(counted_so, fanout=[4, 4])
    assert used_experts(counted_so) == [4, 2] and used_experts(true) == [4, 4]
    assert smore_cost(64, 64, true).macs("experts") > authors_statistics(64, 64, counted_so)["expert_flops"]
    down = [term for term in smore_cost(64, 64, true).terms if term.name.startswith("A ")]
    assert down and all(term.module == term.paper for term in down)  # no expert is idle


def test_every_adapter_has_a_formula():
    assert set(formulas_by_name()) == set(REGISTRY)
    with pytest.raises(ValueError, match="name = 'lora' has no cost formula; choose one of moelora"):
        cost("lora", 4, 4, None)
    with pytest.raises(ValueError, match="name = 'lora' is not an adapter"):
        meta_layer("lora", 4, 4, None)


def test_all_claims_hold():
    table = verify("smore_cost_*", seed=1)
    assert len(table) == 5
    assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured"]].to_string()


@pytest.mark.parametrize("seed", [6, 16, 20, 57])  # a router of these seeds gives no token all experts of a pool
def test_a_single_router_does_not_decide_how_many_experts_a_token_can_use(seed):
    assert verify("smore_cost_active_experts", seed=seed)["holds"].all()


@pytest.mark.parametrize("wrong", [lambda config: 0, lambda config: compute_overhead(config, distinct=True) + 1])
def test_another_overhead_of_operations_is_found_wrong(monkeypatch, wrong):
    assert cost_claims.smore_cost_operations().holds
    monkeypatch.setattr("moe_analysis.theory.smore_cost.compute_overhead", wrong)
    assert not cost_claims.smore_cost_operations().holds


@pytest.mark.parametrize("used", [lambda config: config.num_experts, lambda config: config.nodes[:-1]])
def test_operations_of_other_experts_than_those_that_are_used_are_found_wrong(monkeypatch, used):
    monkeypatch.setattr("moe_analysis.theory.smore_cost.used_experts", used)
    assert not cost_claims.smore_cost_operations().holds


def test_a_walk_that_leaves_out_what_is_below_is_found_wrong(monkeypatch):
    honest = Smore._layer
    monkeypatch.setattr(
        Smore,
        "_layer",
        lambda self, *given: honest(self, *given[:-1], given[-1] if given[-1] is None else 0 * given[-1]),
    )
    claim = cost_claims.smore_cost_operations()
    assert not claim.holds and claim.measured == claim.expected  # as many products, of another update


def test_the_formula_claim_fails_when_a_formula_is_off_by_one(monkeypatch):
    wrong = lambda width, height, config: replace(lora_cost(width, height, 1), router_parameters=1)  # noqa: E731
    monkeypatch.setattr(cost_claims, "adapter_cases", lambda: [("moelora", MoeLoraConfig(r=1, num_experts=1))])
    monkeypatch.setattr("moe_analysis.theory.cost.formulas_by_name", lambda: {"moelora": wrong})
    claim = cost_claims.smore_cost_formula_is_module()
    assert not claim.holds and claim.residual > 0


@settings(max_examples=6, deadline=None)
@given(structures(), st.sampled_from(["all", "child", "child_scored"]), st.booleans())
def test_formula_and_module_agree_for_any_structure(config, position, bias):
    config = replace(config, activation_position=position, expert_bias=bias)
    formula, counted = cost("smore", 9, 13, config), count(meta_layer("smore", 9, 13, config))
    assert (formula.expert_parameters, formula.router_parameters) == (
        counted.expert_parameters,
        counted.router_parameters,
    )
    assert formula.macs("experts", "module") == counted.expert_macs
    assert formula.macs("router", "module") == counted.router_macs
    assert formula.macs("router", "per_call") == counted.router_macs_per_call


def test_counting_by_hand_gives_a_mixtures_operations():
    layer = meta_layer("moelora", 10, 7, MoeLoraConfig(r=3, num_experts=5, top_k=2))
    assert operations(layer, 4) == (4 * 5 * 3 * (10 + 7), 4 * 5 * 10)
    found = cost("moelora", 10, 7, layer.config)
    assert found.macs("experts") == 2 * 3 * (10 + 7) and found.active_parameters == 2 * 3 * (10 + 7)
    assert {term.name for term in differences(found.terms)} == {"A", "B"}


def test_products_in_place_are_counted_too():
    with flop_counter() as counter:
        torch.zeros(3, 5).addmm_(torch.zeros(3, 4), torch.zeros(4, 5))
        torch.zeros(2, 3, 5).baddbmm_(torch.zeros(2, 3, 4), torch.zeros(2, 4, 5))
    assert counter.get_total_flops() == 2 * (3 * 4 * 5 + 2 * 3 * 4 * 5)


def test_a_mapper_works_once_a_sample_whatever_the_tokens():
    counted = count(meta_layer("trex", 10, 7, TRexConfig(num_down=2, num_up=3, intuition_mapper=True)))
    assert counted.router_macs == 6 * 10 and counted.router_macs_per_call == 6 * 32
    assert counted.expert_macs == 2 * 10 + 2 * 3 + 3 * 7 and counted.expert_macs_per_call == 0


def test_lora_is_counted_on_pefts_own_layer():
    formula, counted = lora_cost(24, 40, 3), count_lora(24, 40, 3)
    assert counted.expert_parameters == formula.parameters == 3 * 64
    assert counted.expert_macs == formula.macs("experts") == 3 * 64


class Walker:
    """S'MoRE for one token as its equations stand: product by product, each counted, an expert's once."""

    def __init__(self, layer: Smore, tree: list[torch.Tensor]) -> None:
        self.layer, self.config, self.macs = layer, layer.config, 0
        self.tree, self.known_outputs = [ids.flatten().tolist() for ids in tree], {}

    def times(self, matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        self.macs += matrix.numel()
        return matrix @ vector

    def expert(self, layer: int, n: int, x: torch.Tensor) -> torch.Tensor:
        if (layer, n) not in self.known_outputs:
            inner = self.times(self.layer.A[layer][n], x) + self.layer.A_bias[layer][n]
            self.known_outputs[layer, n] = self.times(self.layer.B[layer][n], inner) + self.layer.B_bias[layer][n]
        return self.known_outputs[layer, n]

    def node(self, layer: int, position: int, x: torch.Tensor, scores: list[list[float]]) -> torch.Tensor:
        """What the children of a node of the layer above hand up."""
        f, total = self.config.fanout[layer], 0.0
        for place in range(position * f, position * f + f):
            inner = self.expert(layer, self.tree[layer][place], x)
            if layer:
                below = self.node(layer - 1, place, x, scores)
                inner = inner + self.times(self.layer.W[layer], below) + self.layer.W_bias[layer]
            total = total + scores[layer][place] * torch.tanh(inner)
        return total

    def delta(self, x: torch.Tensor, scores: list[list[float]]) -> torch.Tensor:
        top = self.node(self.config.layers - 1, 0, x, scores)
        return self.times(self.layer.W_proj, top) + self.layer.W_proj_bias


@settings(max_examples=8, deadline=None)
@given(structures(), st.integers(0, 1000))
def test_the_needed_operations_are_those_of_a_token_that_uses_all_it_can(config, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = Smore(6, 5, config).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    delta, routing = layer(x)
    walker = Walker(layer, routing.tree)
    walked = walker.delta(x[0], [choice.scores.flatten().tolist() for choice in routing.choices])
    assert torch.allclose(walked, delta[0], atol=1e-10)
    idle = [most - int(used) for most, used in zip(used_experts(config), experts_used(routing), strict=True)]
    spared = sum(count * r * (6 + out) for count, r, out in zip(idle, config.ranks, config.widths[1:], strict=True))
    assert min(idle) >= 0 and walker.macs == smore_cost(6, 5, config).macs("experts") - spared


@settings(max_examples=10, deadline=None)
@given(structures())
def test_a_gate_runs_once_for_every_node_of_the_layer_above(config):
    assert parents_by_gate(Smore(5, 4, config), torch.randn(1, 5)) == config.nodes[1:]


@settings(max_examples=10, deadline=None)
@given(structures(expert_bias=False))
def test_parameters_are_twice_d_times_the_width_and_delta(config):
    counted = count(meta_layer("smore", 11, 11, config)).expert_parameters
    assert counted == 2 * 11 * config.widths[-1] + parameter_overhead(config)


def test_distinct_experts_cost_less_only_where_nodes_outnumber_them():
    few = SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=8)
    many = SmoreConfig(num_experts=[4] * 3, fanout=[2] * 3, r=8)
    assert compute_overhead(few) == compute_overhead(few, distinct=True) == 4 * 32 * 8 + 2 * 64 * (32 + 8)
    assert compute_overhead(many) - compute_overhead(many, distinct=True) == (8 - 4) * 32 * 8
    terms = {term.name: term.paper for term in smore_cost(64, 64, many).terms}
    assert compute_overhead(many, distinct=True) == sum(terms[f"{name} {layer}"] for name in "BW" for layer in range(3))


def test_a_shared_pool_is_held_and_used_once():
    config = SmoreConfig(num_experts=[4, 4], fanout=[1, 2], r=8, shared_pool=True)
    assert used_experts(config) == [4] and used_experts(replace(config, fanout=[1, 1])) == [2]
    own = replace(config, shared_pool=False)
    assert smore_cost(64, 64, config).expert_parameters < smore_cost(64, 64, own).expert_parameters
