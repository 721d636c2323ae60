"""gR's statements about steps and bending, and the measurements they rest on, against naive references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis import optim
from moe_analysis.adapters import MoeLora, MoeLoraConfig, moe_lora
from moe_analysis.theory import fixed_rank, gated_step, riemannian, verify
from moe_analysis.theory.fixed_rank import RankPoint, unit
from moe_analysis.theory.gated_step import RULES, HeldGates, constant_gates, first_step, full_matrix_change

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=25, deadline=None)


def random_layer(seed: int, experts: int = 3, rank: int = 2, **options) -> tuple[MoeLora, torch.Tensor, torch.Tensor]:
    """(layer from 6 to 5 features with random factors, x (8, 6), gradient (8, 5)), float64."""
    generator = torch.Generator().manual_seed(seed)
    layer = MoeLora(6, 5, MoeLoraConfig(r=rank, num_experts=experts, alpha=3.0, **options)).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x, gradient = (torch.randn(8, width, generator=generator, dtype=torch.float64) for width in (6, 5))
    return layer, x, gradient


def random_point(seed: int, rank: int = 2) -> tuple[RankPoint, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return RankPoint.from_factors(rng.standard_normal((rank, 6)), rng.standard_normal((7, rank)), 0.7), rng


def truncated(W: np.ndarray, rank: int) -> np.ndarray:
    u, sigma, vt = np.linalg.svd(W)
    return (u[:, :rank] * sigma[:rank]) @ vt[:rank]


def test_every_claim_holds_for_several_seeds():
    for seed in (0, 1):
        table = verify("gr_*", seed=seed)
        assert len(table) == 10
        assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured"]].to_string()


def test_what_the_paper_only_draws_is_marked_as_our_reading():
    table = verify("gr_*").set_index("name")["statement"]
    ours = set(table.index[table.str.startswith("our reading:")])
    assert ours == {
        "gr_curvature_closed_form",
        "gr_curvature_inverse_in_gate",
        "gr_first_order_exponents",
        "gr_exact_remedy_is_power_zero",
    }


def test_exponents_are_two_three_halves_one_and_one():
    claim = riemannian.gr_first_order_exponents()
    assert claim.expected == [2.0, 1.5, 1.0, 1.0]
    assert claim.measured == pytest.approx(claim.expected, abs=1e-6)


@pytest.mark.parametrize(
    "check",
    [
        "gr_first_order_exponents",
        "gr_exact_remedy_is_power_zero",
        "gr_gate_gradient_unchanged",
        "gr_single_expert_control",
        "gr_sparse_gates",
    ],
)
def test_a_backward_that_ignores_its_power_is_found_wrong(monkeypatch, check):
    honest = moe_lora.up_mixture
    monkeypatch.setattr(moe_lora, "up_mixture", lambda hidden, gates, up, power, y: honest(hidden, gates, up, 1.0, y))
    assert not getattr(riemannian, check)().holds


def test_gates_that_do_not_sum_to_one_break_the_control(monkeypatch):
    monkeypatch.setattr(MoeLoraConfig, "normalizes", False)
    assert "A" in riemannian.gr_single_expert_control().measured


@pytest.mark.parametrize(
    "check, wrong",
    [
        ("gr_step_invariance", lambda A, B, dA, dB, damping=0.0: (dA, dB)),
        ("gr_descent_direction", lambda A, B, dA, dB, damping=0.0: (-dA, dB)),
        ("gr_descent_direction", lambda A, B, dA, dB, damping=0.0: (dA, dB)),
        ("gr_descent_direction", lambda A, B, dA, dB, damping=0.0: (B.mT @ B @ dA, dB @ A @ A.mT)),
    ],
)
def test_a_wrong_preconditioner_is_found_wrong(monkeypatch, check, wrong):
    monkeypatch.setattr(optim, "precondition", wrong)
    assert not getattr(riemannian, check)().holds


@pytest.mark.parametrize("seed", [65, 107])  # of matrices C close to singular before C had known singular values
def test_the_step_is_invariant_whatever_the_draw(seed):
    assert riemannian.gr_step_invariance(seed).residual < 1e-6


def test_a_start_that_takes_a_plain_step_is_found_wrong(monkeypatch):
    monkeypatch.setattr(optim, "RiemannianSGD", lambda layer, lr, damping: torch.optim.SGD(layer.parameters(), lr))
    assert not riemannian.gr_zero_start().holds


def test_half_a_bend_is_found_wrong(monkeypatch):
    honest = RankPoint.bend
    monkeypatch.setattr(RankPoint, "bend", lambda self, xi: honest(self, xi) / 2)
    assert not fixed_rank.gr_curvature_closed_form().holds


def test_a_manifold_that_does_not_know_the_gate_is_found_wrong(monkeypatch):
    honest = RankPoint.measured_curvature
    monkeypatch.setattr(
        RankPoint,
        "measured_curvature",
        lambda self, xi, t: honest(RankPoint(self.U, self.sigma / self.sigma[0], self.V), xi, t),
    )
    assert not fixed_rank.gr_curvature_inverse_in_gate().holds


@FEW
@given(SEEDS, st.sampled_from(list(RULES)), st.integers(1, 3), st.floats(0.05, 0.9))
def test_the_measured_change_is_that_of_a_naive_step(seed, rule, rank, gate):
    layer, x, gradient = random_layer(seed, rank=rank)
    gates = torch.tensor([gate, 0.5 * gate, 1.0], dtype=torch.float64)
    measured = full_matrix_change(HeldGates(layer, gates), x, gradient, rule, relative_step=1e-7)
    full = gradient.T @ x  # (out, in)
    power, s = RULES[rule].power, layer.scaling
    for expert, g in enumerate(gates.tolist()):
        A, B = layer.A.detach()[expert], layer.B.detach()[expert]
        identity = 1e-6 * torch.eye(rank, dtype=torch.float64)
        dA = torch.linalg.inv(B.T @ B + identity) @ (s * g**power * B.T @ full)
        dB = (s * g**power * full @ A.T) @ torch.linalg.inv(A @ A.T + identity)
        change = g * s * (B @ dA + dB @ A) / (g if RULES[rule].divide else 1.0)
        assert float(measured[expert]) == pytest.approx(float(change.norm()), rel=1e-4)


@FEW
@given(SEEDS)
def test_the_prediction_is_the_derivative_of_an_undamped_step(seed):
    layer, x, gradient = random_layer(seed)
    change = full_matrix_change(HeldGates(layer, torch.ones(3)), x, gradient, "plain", damping=1e-13)
    torch.testing.assert_close(change, gated_step.predicted_change(layer, x, gradient), rtol=1e-4, atol=0)


def test_held_gates_replace_the_routing_and_nothing_else():
    layer, x, _ = random_layer(0, top_k=1)
    gates = torch.tensor([0.2, 0.0, 1.5], dtype=torch.float64)
    delta, routing = HeldGates(layer, gates)(x)
    expected = sum(g * layer.scaling * x @ (B @ A).T for g, A, B in zip(gates, layer.A, layer.B))
    torch.testing.assert_close(delta, expected)
    assert routing.gates.shape == (8, 3)


def test_a_measurement_leaves_the_layer_as_it_was():
    layer, x, gradient = random_layer(0)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    moved, gates, lr = first_step(HeldGates(layer, torch.ones(3)), x, gradient, "rescaled")
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.config.gate_backward_power == 1.0 and layer.A.grad is None
    assert lr > 0 and not torch.equal(moved.A, layer.A) and gates.tolist() == [1, 1, 1]


def test_the_routed_copies_have_the_gates_they_were_asked_for():
    gates = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    layer, x, _ = gated_step.routed_copies(gates)
    torch.testing.assert_close(constant_gates(layer(x)[1].gates), gates)
    assert type(layer) is MoeLora


def test_gates_that_differ_between_tokens_are_refused():
    layer, x, gradient = random_layer(0)
    with pytest.raises(ValueError, match="gates differ between tokens; fix them with HeldGates"):
        full_matrix_change(layer, x, gradient, "plain")


@pytest.mark.parametrize("rule", RULES)
def test_an_expert_with_gate_zero_does_not_move_and_leaves_the_others_as_they_were(rule):
    layer, x, gradient = random_layer(0)
    with_zero, without = (
        full_matrix_change(HeldGates(layer, torch.tensor([first, 0.3, 0.6])), x, gradient, rule, damping=1e-12)
        for first in (0.0, 0.1)
    )
    assert with_zero[0] == 0 and without[0] > 0
    torch.testing.assert_close(with_zero[1:], without[1:], rtol=1e-4, atol=0)


@pytest.mark.parametrize("gates", [[0.0, 0.0, 0.0], [-0.1, 1.0, 1.0]], ids=str)
def test_gates_of_which_none_moves_or_one_is_negative_are_refused(gates):
    layer, x, gradient = random_layer(0)
    with pytest.raises(ValueError, match="must be at least 0, and one above: experts with gate 0 do not move"):
        full_matrix_change(HeldGates(layer, torch.tensor(gates)), x, gradient, "plain")


def test_a_layer_at_its_start_has_no_step_to_measure():
    layer, x, gradient = random_layer(0)
    torch.nn.init.zeros_(layer.B)
    with pytest.raises(ValueError, match="every B is zero"):
        full_matrix_change(HeldGates(layer, torch.ones(3)), x, gradient, "plain")


@FEW
@given(SEEDS, st.integers(1, 5))
def test_the_nearest_matrix_is_that_of_a_full_decomposition(seed, rank):
    point, rng = random_point(seed, rank)
    xi = point.tangent(rng.standard_normal((7, 6)))
    np.testing.assert_allclose(point.nearest(0.1 * xi), truncated(point.matrix + 0.1 * xi, rank), atol=1e-8)


@FEW
@given(SEEDS, st.integers(1, 5))
def test_tangent_and_normal_part_are_orthogonal_and_curves_of_rank_r_start_along_the_tangent_space(seed, rank):
    rng = np.random.default_rng(seed)
    A, B, dA, dB, X = (rng.standard_normal(shape) for shape in [(rank, 6), (7, rank), (rank, 6), (7, rank), (7, 6)])
    point = RankPoint.from_factors(A, B)
    np.testing.assert_allclose(point.matrix, B @ A, atol=1e-12)
    velocity = dB @ A + B @ dA
    np.testing.assert_allclose(point.normal(velocity), 0, atol=1e-10)
    assert np.sum(point.tangent(X) * point.normal(X)) == pytest.approx(0, abs=1e-10)
    np.testing.assert_allclose(point.tangent(X) + point.normal(X), X)


@FEW
@given(SEEDS, st.floats(0.05, 1.0))
def test_the_bend_is_normal_and_grows_with_one_over_the_gate(seed, gate):
    point, rng = random_point(seed)
    xi = unit(point.tangent(rng.standard_normal((7, 6))))
    np.testing.assert_allclose(point.tangent(point.bend(xi)), 0, atol=1e-8 * np.linalg.norm(point.bend(xi)))
    np.testing.assert_allclose(point.scaled(gate).bend(xi), point.bend(xi) / gate)
    np.testing.assert_allclose(point.scaled(gate).matrix, gate * point.matrix)


def test_a_zero_up_factor_has_no_manifold_of_rank_r():
    with pytest.raises(ValueError, match="rank below r = 2 .* train the adapter"):
        RankPoint.from_factors(np.ones((2, 6)) + np.eye(2, 6), np.zeros((7, 2)))


def test_matrices_of_full_rank_do_not_bend():
    with pytest.raises(ValueError, match="r = 6 but the layer is 7 x 6.*use r < 6"):
        RankPoint.from_factors(np.eye(6), np.ones((7, 6)))
