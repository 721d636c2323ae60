"""Verdicts on S'MoRE's Fig. 4 and Tables 2, 5 and 7, on scores whose differences are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_analysis.evidence import Effect
from moe_analysis.studies.budgets import claims, claims_layers, claims_time, gaps
from moe_analysis.studies.budgets.differences import layers_table
from moe_analysis.studies.budgets.points import budget_points
from moe_analysis.studies.budgets.results import budget_results
from moe_analysis.studies.systems.endpoints import inside_parts, task_table

BUDGETS = (20_000, 80_000)
TASKS = {"originals": ("a", "b", "c", "d"), "variants": ("e", "f", "g")}
FOUR = {"LoRA": 0.40, "MixLoRA": 0.45, "HydraLoRA": 0.45, "S'MoRE": 0.60}
LAYERS = {"S'MoRE, L = 1": 1, "S'MoRE": 2, "S'MoRE, L = 3": 3}


def found_of(
    heights: dict[str, float], noise: float = 0.002, seeds: int = 5, above: bool = True, **sizes
) -> SimpleNamespace:
    """What the judging modules read of a result; effects of tasks and seeds are the same for all systems."""
    rng = np.random.default_rng(0)
    of_task = {dataset: rng.normal(0, 0.05) for own in TASKS.values() for dataset in own}
    rows = []
    for method, height in heights.items():
        for number, budget in enumerate(BUDGETS):
            for seed in range(seeds):
                for part, names in TASKS.items():
                    for dataset in names:
                        accuracy = height + of_task[dataset] + 0.01 * seed + 0.02 * number + noise * rng.normal()
                        rows.append((method, seed, part, dataset, 50, accuracy, 2 - accuracy, budget))
    frame = pd.DataFrame(rows, columns=["method", "seed", "part", "dataset", "rows", "accuracy", "loss", "budget"])
    known = pd.DataFrame(
        [
            {
                "method": method,
                "budget": budget,
                "trainable": sizes.get(method, 1) * budget,
                "active": budget,
                "operations": budget,
            }
            for method in heights
            for budget in BUDGETS
        ]
    )
    levels = frame[["part", "dataset"]].drop_duplicates().assign(guess=0.1)
    parts = pd.DataFrame({"part": list(TASKS), "above": above})
    results = budget_results(frame, known)
    return SimpleNamespace(
        scores=frame, results=results, guessing=parts, tasks=task_table(frame, levels), parts=inside_parts(frame)
    )


def told(found: list) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in found}


def test_a_number_has_the_sign_of_what_is_said_to_be_subtracted():
    """A lower loss is claimed as "LoRA - S'MoRE", an accuracy as "S'MoRE - LoRA"."""
    layers = dict(zip(LAYERS, (0.40, 0.60, 0.70)))
    words = {"1 layer": "S'MoRE, L = 1", "2 layers": "S'MoRE", "3 layers": "S'MoRE, L = 3"}
    layered = found_of(layers)
    layered.points = pd.DataFrame(LAYERS.items(), columns=["method", "layers"])
    parts = [part for claim in claims.claims(found_of(FOUR)) for part in claim.parts]
    for claim in [*parts, *claims_layers.claims(layered)]:
        first, second = ((FOUR | layers)[words.get(name, name)] for name in claim.compares.split(" - "))
        sign = -1 if claim.endpoint.startswith("loss") else 1
        assert claim.measured == pytest.approx(sign * (first - second), abs=0.01) and claim.measured > 0, claim.name


def test_every_gate_and_the_best_of_each_sweep_are_judged_on_each_endpoint():
    found = claims.claims(found_of({**FOUR, "MixLoRA (dense)": 0.7, "S'MoRE (dense)": 0.6}))
    names = told(found)
    assert [name for name in names if name.startswith("smore_")] == [
        "smore_fig4_switch_retention",
        "smore_fig4_dense_retention",
        "smore_table2_retention",
        "smore_fig4_switch_acquisition",
        "smore_fig4_dense_acquisition",
        "smore_table2_acquisition",
    ]
    assert names["smore_fig4_switch_retention"] == names["smore_table2_acquisition"] == "reproduced"
    dense = next(claim for claim in found if claim.name == "smore_fig4_dense_retention")
    assert {part.compares: part.verdict for part in dense.parts} == {
        "S'MoRE (dense) - LoRA": "reproduced",
        "S'MoRE (dense) - MixLoRA (dense)": "contradicted",
        "S'MoRE (dense) - HydraLoRA": "reproduced",
    }
    assert dense.verdict == "in part" and dense.parts[0].over == "4 tasks and 5 seeds"
    own = [claim for claim in found if claim.kind == "own"]
    assert {claim.verdict for claim in own if "dense" not in claim.name} == {"supported"} and len(own) == 2 * 3


def test_each_opponent_has_the_papers_own_effect_against_it():
    table2 = claims.best_of_sweep(found_of(FOUR), "originals")
    assert [part.paper_effect for part in table2.parts] == [0.0220, 0.0095, 0.0172]
    fig4 = claims.equal_budget(found_of(FOUR), "originals", "switch")
    assert [part.smallest for part in fig4.parts] == [0.0110, 0.00475, 0.0086]
    assert [part.paper_effect for part in fig4.parts] == [None] * 3
    assert table2.smallest is fig4.smallest is None


@pytest.mark.parametrize(
    ("smore", "noise", "verdict"),
    [(0.45, 0.08, "undecided"), (0.45, 0.0005, "not reproduced"), (0.30, 0.002, "contradicted")],
)
def test_figure_four_is_judged_by_the_interval_over_tasks_and_seeds(smore, noise, verdict):
    found = claims.equal_budget(found_of({**FOUR, "S'MoRE": smore}, noise, seeds=8), "originals", "switch")
    assert found.parts[1].verdict == verdict  # against MixLoRA


def test_the_mean_over_equal_budgets_is_what_is_compared():
    found = found_of(FOUR, noise=0.0)
    whole = gaps.at_equal_budgets(found, "originals", "S'MoRE", "LoRA")
    assert isinstance(whole, Effect) and whole.values.shape == (4, 5)
    np.testing.assert_allclose(whole.values, 0.2, atol=1e-12)
    assert gaps.at_equal_budgets(found_of(FOUR, LoRA=2), "originals", "S'MoRE", "LoRA") == "no equal budget"
    assert gaps.at_equal_budgets(found, "originals", "S'MoRE", "SiRA") == "no run of SiRA"
    within = found_of(FOUR, above=False)
    judged = gaps.at_equal_budgets(within, "originals", "S'MoRE", "LoRA")
    assert not isinstance(judged, str), "the rule on tasks at floor has judged them already"
    within.tasks = within.tasks.assign(reference=np.nan)
    assert "no system is above guessing" in gaps.at_equal_budgets(within, "originals", "S'MoRE", "LoRA")


def test_the_best_size_is_chosen_by_the_other_seeds():
    found = found_of(FOUR, noise=0.0)
    lucky = (found.scores["method"] == "LoRA") & (found.scores["seed"] == 0) & (found.scores["budget"] == BUDGETS[0])
    found.scores.loc[lucky, "accuracy"] += 0.01  # not enough to make the small budget the better one for other seeds
    found.results = found.results.copy()
    best = gaps.best_scores(found, "originals", "LoRA")
    larger = found.scores.query("method == 'LoRA' and budget == 80000 and part == 'originals'")
    np.testing.assert_allclose(best, larger.pivot(index="dataset", columns="seed", values="accuracy"))
    one = SimpleNamespace(**{**vars(found), "scores": found.scores[found.scores["budget"] == BUDGETS[0]]})
    assert gaps.at_best_size(one, "originals", "S'MoRE", "LoRA").startswith(
        "only one size of S'MoRE and LoRA was trained"
    )
    assert "fewer than two seeds" in gaps.at_best_size(found_of(FOUR, seeds=1), "originals", "S'MoRE", "LoRA")


def test_a_size_that_is_not_trained_yet_is_no_size_that_a_method_cannot_choose():
    found = found_of(FOUR, noise=0.0)
    missing = {"method": "S'MoRE", "seed": 4, "budget": BUDGETS[1]}  # the larger size, which is the better one
    for name in ("scores", "results"):
        frame = getattr(found, name)
        setattr(found, name, frame[~(frame[list(missing)] == pd.Series(missing)).all(axis=1)])
    effect = gaps.at_best_size(found, "originals", "S'MoRE", "LoRA")
    assert effect.values.shape == (4, 4)  # without the seed that lacks a size
    np.testing.assert_allclose(effect.values, 0.2, atol=1e-12)  # all others at the larger size, as LoRA's


def test_more_layers_are_a_family_per_endpoint():
    heights = dict(zip(LAYERS, (0.40, 0.50, 0.40)))
    found = found_of(heights, noise=0.001)
    layered = found.results.assign(layers=found.results["method"].map(LAYERS))
    points = budget_points(layered)
    found.points = points.assign(layers=points["method"].map(LAYERS))
    names = told(claims_layers.claims(found))
    assert names["smore_table5_retention_L2"] == "supported" and names["smore_table5_retention_L3"] == "not supported"
    assert names["own_smore_layers_acquisition_L2"] == "supported" and len(names) == 2 * 2 * 2
    assert "verdict" not in layers_table(layered)


def timed(ratios, size_ratio: float = 1.0) -> SimpleNamespace:
    times = pd.DataFrame(
        {"method": ["MixLoRA", "S'MoRE"], "trainable": [1000, 1000 * size_ratio], "size": "width 128", "ratio": 1.2}
    )
    rounds = pd.DataFrame({"size": "width 128", "round": range(len(ratios)), "ratio": ratios})
    return SimpleNamespace(times=times, rounds=rounds)


@pytest.mark.parametrize(
    ("middle", "spread", "least", "most"),
    [
        (1.24, 0.01, "reproduced", "reproduced"),
        (1.00, 0.01, "contradicted", "reproduced"),  # cheaper than the paper's
        (1.80, 0.01, "reproduced", "contradicted"),
        (1.24, 0.60, "undecided", "undecided"),
    ],
)
def test_times_are_judged_at_both_ends_of_the_papers_range(middle, spread, least, most):
    ratios = middle + spread * np.linspace(-1, 1, 20)
    (claim,) = claims_time.claims(timed(ratios))
    assert [part.verdict for part in claim.parts] == [least, most]
    assert claim.parts[0].over == "20 rounds" and claim.parts[0].measured == pytest.approx(middle - 1.15)
    assert claim.verdict == (least if least == most else "in part")
    if least == "undecided":
        assert "rounds would see" in claim.parts[0].note


def test_times_without_an_interval_or_equal_parameters_are_not_testable():
    few = claims_time.claims(timed([1.2] * 5))[0]
    assert few.verdict == "not testable here" and few.parts[0].note == "5 rounds; an interval of the median needs 6"
    unequal = claims_time.claims(timed([1.2] * 20, size_ratio=2.0))[0]
    assert {part.note for part in unequal.parts} == {"the two have different numbers of parameters at this size"}
