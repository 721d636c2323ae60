"""T-REX Theorem 4.3 in our reading, and the measured noise of the router's gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moe_analysis.adapters import RoutingContext, TRex
from moe_analysis.theory import router_noise, trex_intuition, verify
from moe_analysis.theory.trex_intuition import Parabola, gate_parabola

vectors = arrays(np.float64, 4, elements=st.floats(-3, 3, width=32))


def test_every_claim_of_the_theorem_holds_and_says_that_the_reading_is_ours():
    table = verify("trex_theorem_4_3_*")
    assert len(table) == 4
    assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured"]].to_string()
    assert table["statement"].str.startswith("our reading:").all()


@settings(max_examples=100, deadline=None)
@given(vectors, vectors, vectors, st.floats(0, 1))
def test_the_parabola_is_the_loss_along_the_line_and_its_best_share_beats_any_other(R, P, target, omega):
    factor = np.random.default_rng(0).standard_normal((2, 4))  # a curvature of deficient rank
    H = factor.T @ factor
    parabola = gate_parabola(R, P, target, H)
    gap = omega * R + (1 - omega) * P - target
    assert parabola.loss(omega) == pytest.approx(0.5 * gap @ H @ gap, abs=1e-9)
    assert parabola.loss(parabola.best) <= parabola.loss(omega) + 1e-9
    assert parabola.loss(parabola.best) <= min(parabola.router, parabola.prior) + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 5), st.floats(0, 5), st.floats(0, 5))
def test_a_better_prior_makes_the_slope_at_the_router_positive(prior, router, curvature):
    parabola = Parabola(prior, router, curvature)
    if prior < router:
        assert parabola.slope_at_router > 0
        assert parabola.best < 1


def test_a_worse_prior_can_help_too_and_can_fail_to():
    assert Parabola(prior=2.0, router=1.0, curvature=8.0).best == pytest.approx(0.625)
    assert Parabola(prior=2.0, router=1.0, curvature=1.0).best == 1.0


def test_a_straight_line_is_best_at_its_better_end():
    assert Parabola(1.0, 2.0, 0.0).best == 0.0
    assert Parabola(2.0, 1.0, 0.0).best == 1.0


def test_the_best_share_of_the_line_may_lie_outside_the_unit_interval():
    parabola = Parabola(prior=1.0, router=4.0, curvature=2.0)
    assert parabola.best_on_line == pytest.approx(-1.0)
    assert parabola.best == 0.0


def test_a_line_search_without_its_half_is_found_wrong(monkeypatch):
    class Wrong(Parabola):
        @property
        def slope_at_router(self) -> float:
            return self.router - self.prior + self.curvature

    monkeypatch.setattr(trex_intuition, "Parabola", Wrong)
    assert not trex_intuition.trex_theorem_4_3_best_share().holds
    assert not trex_intuition.trex_theorem_4_3_when_the_prior_helps().holds


def test_a_loss_that_is_no_parabola_is_found_wrong(monkeypatch):
    """Its least value along the line is not above either end all the same, which any loss grants."""
    honest = trex_intuition.random_parabolas
    monkeypatch.setattr(
        trex_intuition,
        "random_parabolas",
        lambda *given: [(one, (R, P, 0.9 * target, H)) for one, (R, P, target, H) in honest(*given)],
    )
    assert not trex_intuition.trex_theorem_4_3_best_share().holds


def test_a_layer_that_is_no_parabola_is_found_wrong(monkeypatch):
    honest = trex_intuition.output_parabola
    monkeypatch.setattr(
        trex_intuition, "output_parabola", lambda *a: replace(honest(*a), curvature=1.01 * honest(*a).curvature)
    )
    assert not trex_intuition.trex_theorem_4_3_on_the_layer().holds


@pytest.mark.parametrize("wrong", ["prior", "router"])
def test_a_mix_that_leaves_the_share_out_of_a_part_is_found_wrong(monkeypatch, wrong):
    """Its update is affine in ω all the same."""
    honest = TRex._weigh

    def without_share(self, x, logits, context):
        routing, omega = honest(self, x, logits, context), self.omega
        part = self.prior(x, context) * self.config.intuition_coef * omega if wrong == "prior" else 0
        if wrong == "router":
            part = logits.softmax(-1) * self.config.router_coef * (1 - omega)
        routing.gates = routing.gates + part.unflatten(-1, routing.gates.shape[-2:])
        return routing

    monkeypatch.setattr(TRex, "_weigh", without_share)
    assert not trex_intuition.trex_theorem_4_3_on_the_layer().holds


@pytest.fixture(scope="module")
def noise():
    return router_noise.router_gradient_noise(seeds=(0,), steps=(0, 3), samples=16)


def test_noise_has_a_row_a_prior_seed_and_step(noise):
    assert list(noise["prior"]) == ["none", "none", "aligned", "aligned", "mismatched", "mismatched"]
    assert list(noise["step"]) == [0, 3] * 3
    ratio = noise["gradient_variance"] / noise["mean_gradient_squared"]
    np.testing.assert_allclose(noise["noise_to_signal"], ratio)


def test_training_the_router_lowers_the_loss_and_moves_the_share(noise):
    by_step = noise.pivot(index="prior", columns="step", values="loss")
    assert (by_step[3] < by_step[0]).all()
    assert (noise.loc[noise["step"] == 0, "omega"] == 0.5).all()
    assert (noise.loc[noise["step"] == 3, "omega"] != 0.5).all()


def test_per_sample_gradients_are_those_of_one_backward_a_sample():
    generator = torch.Generator().manual_seed(0)
    x, scores, cluster = router_noise.clustered_tasks(5, 2.0, generator)
    layer = router_noise.build_layer("aligned", generator)
    target = router_noise.saturated_output(layer, x, cluster)
    losses, gradients = router_noise.router_gradients(layer, x, scores, target)
    for sample in range(5):
        delta, _ = layer(x[sample : sample + 1], RoutingContext(intuition=scores[sample : sample + 1]))
        loss = ((delta[0] - target[sample]) ** 2).mean()
        expected = torch.autograd.grad(loss, layer.router.weight)[0].reshape(-1)
        torch.testing.assert_close(gradients[sample], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(losses[sample], loss.detach())


def test_the_target_is_what_a_certain_router_gives():
    generator = torch.Generator().manual_seed(1)
    x, _, cluster = router_noise.clustered_tasks(3, 2.0, generator)
    layer = router_noise.build_layer("none", generator)
    target = router_noise.saturated_output(layer, x, cluster)
    for sample in range(3):
        with torch.no_grad():
            layer.router.weight.zero_()
            layer.router.weight[cluster[sample]] = 1e6 * x[sample, 0]
        torch.testing.assert_close(layer(x[sample : sample + 1, :1])[0][0], target[sample, :1], rtol=1e-4, atol=1e-5)


def test_steps_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="steps = \\(5, 1\\) must increase"):
        router_noise.router_gradient_noise(steps=(5, 1))
