"""How evenly experts are loaded, and which are dead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.studies.routing import load
from tests.studies.fake_routers import MODULES, named_run, one_hot, soft, tokens_of

examples = settings(deadline=None, max_examples=15)


def summary_of(gates: np.ndarray) -> pd.Series:
    tokens = pd.DataFrame({"row": np.arange(len(gates)), "position": 0, "dataset": "a"})
    return load.load_summary([(named_run(), {MODULES[0]: gates}, tokens)]).iloc[0]


@examples
@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0.05, 5.0))
def test_the_mass_is_at_least_as_even_as_a_tokens_gates(seed: int, experts: int, concentration: float):
    gates = np.random.default_rng(seed).dirichlet(np.full(experts, concentration), 30)
    found = summary_of(gates)
    assert found["mass_balance"] >= found["token_entropy"] - 1e-9
    assert found["mass_peak"] == pytest.approx(gates.mean(0).max() * experts)


def test_even_gates_are_no_even_load_and_uneven_gates_can_be():
    by_a_hair = np.full((40, 4), 0.25) + 1e-4 * np.array([1.0, 0.0, 0.0, -1.0])
    found = summary_of(by_a_hair)
    assert found["token_entropy"] > 0.999 and found["top1_balance"] == 0.0 and found["top1_peak"] == 4.0
    found = summary_of(one_hot(np.arange(40) % 4, 4))
    assert found["token_entropy"] == 0.0 and found["top1_balance"] == found["mass_balance"] == pytest.approx(1.0)
    assert found["top1_variation"] == pytest.approx(0.0, abs=1e-12)


def test_dead_experts_are_those_never_on_top_or_starved():
    gates = np.tile([0.6, 0.37, 0.03, 0.0], (10, 1))
    gates[0] = [0.2, 0.4, 0.4, 0.0]
    found = summary_of(gates)  # ties count for both
    assert (found["never_top"], found["starved"], found["dead"]) == (0.25, 0.25, 0.25)
    found = summary_of(np.tile([0.6, 0.38, 0.02, 0.0], (10, 1)))
    assert (found["never_top"], found["starved"], found["dead"]) == (0.75, 0.5, 0.75)
    loads = load.expert_loads([(named_run(), {MODULES[0]: gates}, tokens_of(1, lengths=(10,)))])
    assert loads["top1"].tolist() == [0.9, 0.05, 0.05, 0.0] and loads["rank"].tolist() == [1, 2, 3, 4]


def test_ties_share_the_top_and_equal_experts_count_as_one():
    gates = np.full((10, 4), 0.25)
    found = summary_of(gates)
    assert found["top1_balance"] == pytest.approx(1.0) and found["distinct"] == 0.25
    gates = np.repeat(soft(np.random.default_rng(0), 30, 3) / 2, 2, axis=1)
    assert summary_of(gates)["distinct"] == 0.5
    np.testing.assert_allclose(load.distinct_experts(gates), 2 * gates[:, ::2])


def test_a_single_expert_has_no_balance():
    found = summary_of(np.ones((10, 1)))
    assert np.isnan(found["token_entropy"]) and np.isnan(found["top1_balance"]) and found["dead"] == 0.0
