"""Curves over budgets and comparisons at equal budget, on results whose differences are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from moe_analysis.studies.budgets import differences as comparison
from moe_analysis.studies.budgets import points as curves

BUDGETS = (20_000, 80_000, 320_000)
FOUR = {"LoRA": 0.40, "MixLoRA": 0.45, "HydraLoRA": 0.45, "S'MoRE": 0.50}
LAYERS = {"S'MoRE, L = 1": 1, "S'MoRE, L = 2": 2, "S'MoRE, L = 3": 3}


def results(
    heights: Mapping[str, float],
    noise: float = 0.002,
    seeds: int = 5,
    budgets=BUDGETS,
    slope: float = 0.02,
    parts=("originals",),
) -> pd.DataFrame:
    """Accuracies of `heights` plus `slope` for each factor e of the budget, loss 2 − accuracy; noise over seeds.

    LoRA uses all its parameters for a token, the others a third of them.
    """
    rng = np.random.default_rng(0)
    rows = []
    for method, height in heights.items():
        for budget in budgets:
            for seed in range(seeds):
                for number, part in enumerate(parts):
                    accuracy = height - 0.1 * number + slope * np.log(budget / budgets[0]) + 0.01 * seed
                    accuracy += noise * rng.standard_normal()
                    active = budget if method == "LoRA" else budget // 3
                    rows.append((method, seed, budget, budget, active, 2 * active, part, accuracy, 2 - accuracy))
    return pd.DataFrame(rows, columns=list(curves.COLUMNS))


def layered(heights: Mapping[str, float], **options) -> pd.DataFrame:
    table = results(heights, **options)
    return table.assign(layers=table["method"].map(LAYERS))


def test_a_point_is_the_mean_of_its_seeds_with_its_interval():
    from scipy import stats

    table = results(FOUR)
    point = curves.budget_points(table).query("method == \"S'MoRE\" and budget == 80000 and measure == 'loss'").iloc[0]
    values = table.query('method == "S\'MoRE" and budget == 80000')["loss"]
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert point[["mean", "low", "high"]].tolist() == pytest.approx([values.mean(), low, high])
    assert point[["trainable", "active", "operations", "seeds", "diverged"]].tolist() == [80000, 26666, 53332, 5, 0]


def test_a_run_that_diverged_is_counted_and_not_averaged():
    table = results(FOUR)
    table.loc[0, "loss"] = np.nan
    point = curves.budget_points(table).query("method == 'LoRA' and budget == 20000 and measure == 'loss'").iloc[0]
    assert point[["seeds", "diverged"]].tolist() == [4, 1]
    assert point["mean"] == pytest.approx(table.loc[1:4, "loss"].mean())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="part"), "lacks the columns part"),
        (lambda table: table.iloc[:0], "is empty"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "two rows of method 'LoRA', seed 0, budget 20000"),
        (lambda table: table.assign(active=0), "active = 0; sizes must be above 0"),
        (
            lambda table: table.assign(trainable=table["trainable"] + table["seed"]),
            "trainable of method 'HydraLoRA' at",
        ),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        curves.budget_points(change(results(FOUR)))


points_lists = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=8)


@given(points_lists, st.sampled_from(["accuracy", "loss"]))
@examples(max_examples=40, deadline=None)
def test_a_point_is_on_the_front_unless_another_dominates_it(pairs, measure):
    points = pd.DataFrame(pairs, columns=["trainable", "mean"]).assign(part="a", measure=measure)
    sign = 1 if measure == "accuracy" else -1

    def dominated(size, value):
        return any(s <= size and sign * v >= sign * value and (s, v) != (size, value) for s, v in pairs)

    assert curves.pareto_front(points).tolist() == [not dominated(*pair) for pair in pairs]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(1.1, 8.0), st.floats(9.0, 60.0))
@examples(max_examples=25, deadline=None)
def test_the_mean_height_is_the_integral_over_the_logarithm(values, smallest, largest):
    from scipy.integrate import quad

    knots = np.log([1.0, 8.0, 64.0])
    ends = np.log([smallest, largest])
    expected = quad(lambda x: np.interp(x, knots, values), *ends, points=[knots[1]])[0] / (ends[1] - ends[0])
    found = curves.mean_height(np.array([64.0, 1.0, 8.0]), np.array(values)[[2, 0, 1]], smallest, largest)
    assert found == pytest.approx(expected, abs=1e-7)


def test_the_area_of_a_straight_line_is_its_height_in_the_middle():
    table = results(FOUR, noise=0.0)
    areas = curves.curve_areas(table).query("method == 'LoRA' and measure == 'accuracy'").set_index("seed")["area"]
    middle = 0.40 + 0.02 * np.log(16) / 2
    assert areas.to_numpy() == pytest.approx(middle + 0.01 * np.arange(5))


def test_areas_stand_on_the_range_that_all_methods_cover():
    areas = curves.curve_areas(results(FOUR), "active")
    assert areas[["smallest", "largest"]].drop_duplicates().to_numpy().tolist() == [[20000, 320000 // 3]]
    apart = results(FOUR)
    apart.loc[apart["method"] == "LoRA", "trainable"] *= 1000
    assert curves.curve_areas(apart)["area"].isna().all()
    with pytest.raises(ValueError, match="size = 'bytes' is unknown"):
        curves.curve_areas(apart, "bytes")


def test_a_seed_without_its_last_budget_has_no_area():
    table = results(FOUR).query("not (method == 'LoRA' and seed == 1 and budget == 320000)")
    missing = curves.curve_areas(table).query("area.isna()", engine="python")
    assert set(zip(missing["method"], missing["seed"])) == {("LoRA", 1)}


def test_the_best_within_a_budget_is_chosen_by_the_other_seeds():
    table = results({"LoRA": 0.4}, noise=0.0, slope=-0.02, seeds=3)
    table.loc[(table["seed"] == 0) & (table["budget"] == 320_000), "accuracy"] = 0.9  # luck that must not choose
    best = curves.best_within_budget(table).query("measure == 'accuracy' and budget == 320000").set_index("seed")
    assert best.loc[0, ["chosen", "value"]].tolist() == [20_000, pytest.approx(0.4)]
    # to the other two seeds the lucky run shows the largest budget as the best
    assert best.loc[[1, 2], "chosen"].tolist() == [320_000] * 2
    assert best.loc[1, "value"] == pytest.approx(0.4 + 0.01 - 0.02 * np.log(16))


def test_a_single_seed_cannot_choose():
    assert curves.best_within_budget(results(FOUR, seeds=1))["value"].isna().all()


def test_differences_are_paired_by_seed_and_keep_the_measures_sign():
    found = comparison.equal_budget_differences(results(FOUR), "S'MoRE", ["LoRA"])
    whole = found[found["budget"] == "all"].set_index("measure")
    assert whole.loc["accuracy", "difference"] == pytest.approx(0.10, abs=0.005)
    assert whole.loc["loss", "difference"] == pytest.approx(-0.10, abs=0.005)
    assert (whole["low"] * whole["difference"] > 0).all() and (whole["seeds"] == 5).all()
    # seeds differ by 0.04 in height; unpaired, the interval would hold that
    assert (whole["high"] - whole["low"] < 0.01).all()
    assert found.loc[found["measure"] == "loss", "budget"].tolist() == ["all", *BUDGETS]


def test_only_budgets_of_equal_size_are_compared():
    table = results(FOUR)
    table.loc[(table["method"] == "LoRA") & (table["budget"] == 20_000), "trainable"] = 30_000
    found = comparison.equal_budget_differences(table, "S'MoRE", ["LoRA"])
    assert set(found["budget"]) == {"all", *BUDGETS[1:]}
    table.loc[table["method"] == "LoRA", "trainable"] *= 2
    nothing = comparison.equal_budget_differences(table, "S'MoRE", ["LoRA"])
    assert set(nothing["budget"]) == {"all"} and (nothing["seeds"] == 0).all()
    assert nothing["difference"].isna().all()


def test_a_diverged_run_is_counted_and_a_missing_one_takes_its_seed():
    table = results(FOUR)
    missing = comparison.equal_budget_differences(table.iloc[1:], "S'MoRE", ["LoRA"])
    whole = missing[missing["budget"] == "all"]
    assert whole[["seeds", "invalid"]].drop_duplicates().to_numpy().tolist() == [[4, 0]]
    table.loc[0, "loss"] = np.nan
    diverged = comparison.equal_budget_differences(table, "S'MoRE", ["LoRA"])
    whole = diverged[diverged["budget"] == "all"].set_index("measure")
    assert whole.loc["loss", ["seeds", "invalid"]].tolist() == [4, 1]
    assert whole.loc["accuracy", ["seeds", "invalid"]].tolist() == [5, 0]


def test_a_part_that_one_method_lacks_has_no_numbers_for_it():
    table = results(FOUR, parts=("originals", "variants")).query("not (method == 'LoRA' and part == 'variants')")
    found = comparison.equal_budget_differences(table, "S'MoRE", ["LoRA"]).query("measure == 'accuracy'")
    assert found.groupby("part")["seeds"].max().to_dict() == {"originals": 5, "variants": 0}


def test_more_layers_are_compared_to_the_fewest():
    table = comparison.layers_table(layered(dict(zip(LAYERS, (0.40, 0.45, 0.40)))))
    whole = table[(table["budget"] == "all") & (table["measure"] == "accuracy")].set_index("layers")
    assert whole["difference"].to_numpy() == pytest.approx([0.05, 0.0], abs=0.005)
    assert whole["against"].tolist() == ["S'MoRE, L = 1"] * 2 and (table["fewest"] == 1).all()


def test_layers_need_a_method_each():
    one = layered({"S'MoRE, L = 1": 0.4})
    with pytest.raises(ValueError, match="at least two numbers"):
        comparison.layers_table(one)
    with pytest.raises(ValueError, match="a column layers"):
        comparison.layers_table(one.drop(columns="layers"))
    both = layered({"S'MoRE, L = 1": 0.4, "S'MoRE, L = 2": 0.4}).assign(layers=1)
    with pytest.raises(ValueError, match="one method per number of layers"):
        comparison.layers_table(both)
