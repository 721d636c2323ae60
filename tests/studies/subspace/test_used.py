"""Directions that runs reach and use, on gates and factors of known rank."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from moe_analysis.adapters import RoutingContext, TRex, TRexConfig
from moe_analysis.studies.prior import router_alone
from moe_analysis.studies.subspace import used as used_subspace


def run_of(method: str, seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(name=method, seed=seed))


def gates_of_rank(rank: int, seed: int, experts: int = 8, tokens: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((experts, rank)))[0].T
    return np.linalg.qr(rng.standard_normal((tokens, rank)))[0] @ basis


@pytest.fixture
def recordings():
    return [
        (
            run_of(method, seed),
            {f"layers.{layer}.self_attn.q_proj": gates_of_rank(rank + layer, seed) for layer in (0, 1)},
        )
        for method, rank in (("LoRA-MoE", 2), ("T-REX", 5))
        for seed in (0, 1, 2)
    ]


def test_a_modules_layer_and_target_are_read_from_its_name():
    assert used_subspace.layer_and_target("layers.3.self_attn.q_proj") == (3, "q_proj")
    assert used_subspace.layer_and_target("head") == (0, "head")


def test_the_used_dimension_of_every_run_and_layer_is_the_rank_of_its_gates(recordings):
    used = used_subspace.used_by_runs(recordings)
    expected = [rank + layer for rank in (2, 5) for _ in range(3) for layer in (0, 1)]
    assert used["rank_0.01"].tolist() == used["rank_1e-06"].tolist() == expected
    assert used["effective_rank"].to_numpy() == pytest.approx(expected)
    assert used["layer"].tolist() == [0, 1] * 6 and set(used["target"]) == {"q_proj"}
    assert used["seed"].tolist() == [0, 0, 1, 1, 2, 2] * 2


def test_a_label_takes_the_place_of_the_runs_name(recordings):
    assert set(used_subspace.used_by_runs(recordings, "other")["method"]) == {"other"}
    assert set(used_subspace.energy_by_runs(recordings, "other")["method"]) == {"other"}


def test_equal_directions_leave_out_energy_in_equal_steps(recordings):
    bands = used_subspace.energy_bands(used_subspace.energy_by_runs([recordings[3]]))
    # layer 0 has five equal directions, layer 1 six
    assert bands["mean"].head(7).to_numpy() == pytest.approx(
        [(max(0, 1 - k / 5) + max(0, 1 - k / 6)) / 2 for k in range(7)], abs=1e-12
    )
    assert bands["direction"].tolist() == list(range(9))


def test_energy_below_rounding_of_one_is_still_seen():
    gates = np.diag([1.0, 1e-12, 0.0])
    beyond = used_subspace.energy_by_runs([(run_of("T-REX"), {"q": gates})])["beyond"]
    assert beyond.tolist() == pytest.approx([1.0, 1e-24, 0.0, 0.0])


def test_bands_lie_around_the_mean_of_the_seeds():
    gates = {seed: np.diag([1.0, scale]) for seed, scale in ((0, 0.5), (1, 1.0))}
    energy = used_subspace.energy_by_runs([(run_of("T-REX", seed), {"q": value}) for seed, value in gates.items()])
    row = used_subspace.energy_bands(energy).set_index("direction").loc[1]
    assert (row["low"], row["mean"], row["high"]) == pytest.approx((0.2, 0.35, 0.5))


def test_factors_reach_the_product_of_their_ranks():
    layer = TRex(9, 8, TRexConfig(num_down=2, num_up=3))
    torch.nn.init.normal_(layer.B)
    reached = used_subspace.reached_by_runs([(run_of("T-REX", 4), {"q": layer})]).iloc[0]
    assert reached[["seed", "rank_a", "rank_b", "experts", "span"]].tolist() == [4, 2, 3, 6, 6]


@pytest.mark.parametrize("intuition, rank", [(False, 1), (True, 3)])
def test_from_the_authors_start_only_the_intuition_tells_the_up_vectors_apart(intuition, rank):
    layer = TRex(9, 8, TRexConfig(num_down=2, num_up=3, intuition=intuition)).double()
    x, target, scores = torch.randn(32, 9).double(), torch.randn(32, 8).double(), torch.rand(32, 6).double()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        ((layer(x, RoutingContext(intuition=scores) if intuition else None)[0] - target) ** 2).mean().backward()
        optimizer.step()
    reached = used_subspace.reached_by_runs([(run_of("any"), {"q": layer})]).iloc[0]
    assert (reached["rank_a"], reached["rank_b"]) == (2, rank)


@pytest.mark.parametrize("mapper", [False, True])
def test_the_router_alone_is_the_routing_without_intuition(mapper):
    size = {"num_down": 2, "num_up": 3, "intuition_mapper": mapper, "num_clusters": 5 if mapper else None}
    layer = TRex(9, 8, TRexConfig(**size))
    torch.nn.init.normal_(layer.router.weight)
    torch.nn.init.constant_(layer.omega_logit, 0.004)
    x, scores = torch.randn(20, 9), torch.rand(20, 5 if mapper else 6)
    with torch.no_grad():
        mixed, router = (
            layer.route(x, RoutingContext(intuition=given)).gates.flatten(1).numpy()
            for given in (scores, torch.zeros_like(scores))
        )
    alone = router_alone({"q": layer}, {"q": mixed}, scores)["q"]
    np.testing.assert_allclose(alone, router, atol=1e-5)
    assert np.abs(mixed - router).max() > 0.1


def test_scores_of_another_number_of_tokens_are_refused():
    layer = TRex(9, 8, TRexConfig(num_down=2, num_up=3))
    with pytest.raises(ValueError, match="scores has 4 rows but q has 5 tokens"):
        router_alone({"q": layer}, {"q": np.ones((5, 6))}, np.ones((4, 6)))


def test_the_summary_says_what_is_reached_and_used(recordings):
    layer = TRex(9, 8, TRexConfig(num_down=2, num_up=4))
    torch.nn.init.normal_(layer.B)
    reached = used_subspace.reached_by_runs([(run_of("T-REX"), {"q": layer})])
    summary = used_subspace.used_summary(used_subspace.used_by_runs(recordings), reached).set_index("method")
    assert summary["reached"].to_dict() == {"LoRA-MoE": "–", "T-REX": "8"}
    assert summary.loc["LoRA-MoE", "rank_0.01"] == "2.5 [2.5, 2.5]" and summary.loc["T-REX", "experts"] == 8


@pytest.mark.parametrize(
    "values, text", [((1.234, 1.0, 1.5), "1.23 [1, 1.5]"), ((2.0, np.nan, np.nan), "2"), ((np.nan,) * 3, "–")]
)
def test_an_interval_is_shown_only_where_there_is_one(values, text):
    assert used_subspace.interval_text(*values) == text


def test_nothing_recorded_is_an_error():
    with pytest.raises(ValueError, match="recordings is empty"):
        used_subspace.used_by_runs([])
    with pytest.raises(ValueError, match="has no modules in recordings"):
        used_subspace.energy_by_runs([(run_of("T-REX"), {})])
