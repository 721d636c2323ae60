"""Verdicts on what routers do, on gates that are made up so that what they must tell is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.routing import agreement, claims, claims_agreement, claims_experts, load, specialization
from tests.studies.fake_routers import MODULES, named_run, one_hot, soft, tokens_of

LABELS = {"dataset": list("aabbcc" * 4), "cluster": list("xy" * 12)}


def found_of(seeds: int = 3, tells: bool = True, same: bool = True, skewed: bool = False) -> SimpleNamespace:
    """Results of runs whose experts tell the data set or not, are the same in all seeds or not, evenly loaded or not."""
    tokens, generator = tokens_of(), np.random.default_rng(0)
    shared = generator.integers(0, 4, 192)
    recorded, before = [], []
    for seed in range(seeds):
        random = shared if same else generator.integers(0, 4, 192)
        codes = pd.factorize(tokens["dataset"])[0] if tells else random
        codes = np.where(generator.random(192) < 0.9, 0, codes) if skewed else codes
        gates = one_hot(codes, 4)[:, generator.permutation(4)]
        recorded.append((named_run(seed), {MODULES[0]: gates, MODULES[2]: gates}, tokens))
        before.append((named_run(seed), {module: soft(generator, 192, 4) for module in MODULES}, tokens))
    trained, untrained = (specialization.specialization(each, LABELS, permutations=20) for each in (recorded, before))
    return SimpleNamespace(
        trained=trained,
        untrained=untrained,
        loads=load.load_summary(recorded),
        seeds=agreement.between_seeds(recorded, 10),
        layers=agreement.between_layers(recorded, 10),
    )


def verdicts(**options) -> dict[str, str]:
    found = found_of(**options)
    told = [*claims.claims(found), *claims_agreement.claims(found)]
    assert {claim.kind for claim in told} == {"own"} and {claim.source for claim in told} == {"beyond the papers"}
    return {claim.statement: claim.verdict for claim in told}


def test_hypotheses_are_supported_where_values_lie_beyond_their_bar():
    found = verdicts()
    by_task, by_cluster = "experts specialize by data set", "experts specialize by semantic cluster"
    assert found[by_task] == found["training makes experts specialize by data set"] == "supported"
    assert found[by_cluster] == "not supported" and found["few experts are dead"] == "not supported"
    assert found["the mass of the gates is spread evenly over experts"] == "supported"
    same = "routers of different seeds find the same experts"
    assert found[same] == found["routers of different layers agree more than by chance"] == "supported"
    found = verdicts(tells=False, same=False)
    assert found[by_task] == found[same] == "not supported"
    assert found["few experts are dead"] == found["every expert has its own gates"] == "supported"
    skewed = verdicts(skewed=True)
    assert skewed["the mass of the gates is spread evenly over experts"] == "not supported"
    assert skewed["the largest gates are spread evenly over experts"] == "not supported"


def test_two_seeds_leave_no_pair_out():
    found = found_of(seeds=2)
    assert {claim.verdict for claim in claims_agreement.claims(found)[:2]} == {"not testable here"}


def test_one_system_that_differs_makes_a_claim_hold_in_part():
    found = claims.about_systems(
        "own_x",
        "loads are even",
        "load",
        {"A": np.array([0.2, 0.21, 0.2]), "B": -np.array([0.2, 0.21, 0.2])},
        "2 - load",
        0.1,
    )
    assert found.verdict == "in part" and found.note == "1 supported, 1 not supported"
    assert [part.statement for part in found.parts] == ["A: loads are even", "B: loads are even"]


def informed(levels: dict[str, float], spread: float = 0.001) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "label": "cluster", "view": view, "normalized": level + spread * offset}
            for method, level in levels.items()
            for view in ("gates", "top1")
            for seed, offset in enumerate((0.0, 1.0, -1.0) if method == "T-REX" else (0.0, -1.0, 1.0))
        ]
    )


def test_intuition_is_judged_with_and_without_the_priors_share():
    frame = informed({"T-REX": 0.1, "mix-and-match": 0.02, "T-REX, router alone": 0.01})
    told = claims_experts.claims(SimpleNamespace(informed=frame))
    assert [claim.verdict for claim in told] == ["supported", "supported", "not supported"]
    small = informed({"T-REX": 0.03, "mix-and-match": 0.03, "T-REX, router alone": 0.03}, spread=0.004)
    assert {claim.verdict for claim in claims_experts.claims(SimpleNamespace(informed=small))} == {"not supported"}
    wide = informed({"T-REX": 0.03, "mix-and-match": 0.02, "T-REX, router alone": 0.03}, spread=0.03)
    assert claims_experts.claims(SimpleNamespace(informed=wide))[0].verdict == "undecided"
    alone = claims_experts.claims(SimpleNamespace(informed=frame[frame["method"] == "T-REX"]))
    assert alone[0].note == "no run of mix-and-match" and alone[2].verdict == "not testable here"
    with pytest.raises(ValueError, match="label = 'cluster' has no row; the frame has dataset"):
        claims_experts.claims(SimpleNamespace(informed=frame.assign(label="dataset")))
