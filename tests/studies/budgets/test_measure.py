"""From runs of several sizes, and from a campaign's table, to results that draw and judge themselves."""

from __future__ import annotations

from importlib import import_module

import pandas as pd
import pytest
from matplotlib.figure import Figure

import moe_analysis as ma
from moe_analysis.studies import budgets
from tests.studies.systems.test_measure import stored_row, table_of
from tests.studies.systems.test_scores import INSIDE_TASKS, OOD_TASKS, compare

measuring = import_module("moe_analysis.studies.budgets.measure")  # its package has a function of that name
FOUR = ("LoRA", "HydraLoRA", "MixLoRA", "S'MoRE")
SIZES = {10_240: 2, 20_480: 4}  # trainable parameters -> rank, with 4 experts on q_proj


@pytest.fixture
def runs(monkeypatch) -> dict[int, list]:
    """Runs that were never trained, by budget; the smaller has S'MoRE of one layer too."""
    transferred, found = {}, {}
    for budget, rank in SIZES.items():
        methods = (*FOUR, "S'MoRE, L = 1") if rank == 2 else FOUR
        own, outside = compare({"S'MoRE": 0.1}, methods=methods, seeds=range(3))
        adapter = ma.MoeLoraConfig(num_experts=4, r=rank, target_modules=["q_proj"])
        for run in own:
            vars(run.config).update(backbone="compact", adapter=adapter, eval_rows=5, steps=7)
        found[budget] = own
        transferred[id(own[0])] = outside

    def levels_on(run, suite, rows):
        names = list(INSIDE_TASKS if suite == "embedded" else OOD_TASKS)
        numbers = {"chance": 0.1, "majority": 0.1, "untrained": 0.2, "untrained_loss": 2.0}
        return pd.DataFrame({"dataset": names, **numbers, "kind": "choices", "rows": 50})

    monkeypatch.setattr(measuring, "evaluate_all", lambda own, *asked: transferred[id(own[0])])
    monkeypatch.setattr(measuring, "levels_on", levels_on)
    return found


def test_runs_of_several_sizes_become_figure_four(runs):
    found = ma.papers.smore_fig4(runs)
    assert set(found.numbers) >= {"costs", "results", "points"} and found.parts == ["originals", "variants"]
    assert set(found.points["method"]) == set(FOUR) and sorted(set(found.points["budget"])) == list(SIZES)
    assert found.costs.groupby("budget").size().to_dict() == {10_240: 5, 20_480: 4}
    figure = found.plot()
    assert isinstance(figure, Figure) and len(figure.axes) == 4 and found.interactive().data
    names = {claim.name: claim for claim in found.judged}
    assert names["smore_fig4_switch_retention"].parts[0].over == "3 tasks and 3 seeds"
    assert len(found.means) == 9 and found.origin.startswith("27 runs of 3 seeds, 7 steps each")


def test_layers_are_compared_where_there_are_several(runs):
    found = ma.papers.smore_table5(runs)
    assert list(found.numbers) == ["table", "points"] and set(found.points["layers"]) == {1, 2}
    assert set(found.table["budget"]) == {"all", 10_240} and len(found.runs) == 6
    assert isinstance(found.plot(), Figure) and found.interactive().data
    assert [claim.name for claim in found.judged][0] == "smore_table5_retention_L2"


def test_runs_of_two_suites_or_none_are_refused(runs):
    runs[10_240][0].config.suite = "another"
    with pytest.raises(ValueError, match="runs are of the suites another, embedded"):
        budgets.measure(runs)
    with pytest.raises(ValueError, match="runs is empty; pass {budget: runs of that size}"):
        budgets.measure({})


def test_a_table_of_results_becomes_figure_four():
    rows = [
        stored_row(f"{system} @ {budget}" if system != "LoRA" else system, seed, right)
        for system, right in {"LoRA": 0.5, "MixLoRA": 0.5, "S'MoRE": 0.9}.items()
        for budget in ((20_000, 40_000) if system != "LoRA" else (0,))
        for seed in range(3)
    ]
    found = budgets.measure_table(pd.DataFrame(rows))
    assert found.stored == "trial" and not found.runs
    sizes = found.points.drop_duplicates(["method", "budget"])[["method", "budget"]].values.tolist()
    assert sorted(sizes) == [
        ["LoRA", 10_240],
        *([name, size] for name in ("MixLoRA", "S'MoRE") for size in (20_000, 40_000)),
    ]
    whole = next(claim for claim in found.judged if claim.name == "smore_fig4_switch_retention")
    assert {part.compares: part.verdict for part in whole.parts} == {
        "S'MoRE - LoRA": "not testable here",
        "S'MoRE - MixLoRA": "reproduced",
        "S'MoRE - HydraLoRA": "not testable here",
    }
    long = measuring.stored_scores(table_of(LoRA=0.5)).scores
    assert len(long)
    with pytest.raises(ValueError, match="has no configurations, so sizes are unknown"):
        budgets.measure_table(pd.DataFrame(rows).drop(columns="config"))


def test_times_are_measured_and_judged_at_every_width():
    """On fewer tokens than notebook 08, whose batches take twenty seconds."""
    found = ma.papers.smore_table7(rounds=6, tokens=8)
    widths = [f"width {hidden}" for hidden in (128, 256, 512, 768)]
    assert set(found.numbers) >= {"times", "expected"} and len(found.rounds) == 6 * len(widths)
    assert list(dict.fromkeys(found.times["size"])) == list(dict.fromkeys(found.expected["size"])) == widths
    assert found.times.groupby("size", sort=False)["method"].apply(list).tolist() == [["MixLoRA", "S'MoRE"]] * 4
    sizes = found.times.pivot(index="size", columns="method", values="trainable")
    assert (sizes["S'MoRE"] / sizes["MixLoRA"]).between(1 / 1.1, 1.1).all()  # judged as equal
    ratio = found.rounds[found.rounds["size"] == "width 128"]["ratio"].median()
    row = found.times.query("size == 'width 128' and method == \"S'MoRE\"").iloc[0]
    assert row["ratio"] == pytest.approx(ratio)
    assert isinstance(found.plot(), Figure) and found.interactive().data and len(found.judged) == 4
    assert [text.get_text() for text in found.plot().axes[0].get_yticklabels()] == widths
    panel = Figure().subplots()
    assert found.plot(panel) is panel and found.origin == "6 rounds, one thread of a CPU"
