"""What the figures of S'MoRE's Fig. 4 and Tables 5 and 7 contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import method_color
from moe_analysis.studies.budgets import draw, draw_layers, draw_time
from moe_analysis.studies.budgets.differences import gaps_by_budget, layers_table
from moe_analysis.studies.budgets.points import budget_points, pareto_front
from tests.studies.drawn_texts import outside, overlaps
from tests.studies.fake_result import Found

from .test_points import BUDGETS, FOUR, LAYERS, layered, results

NINE = ("LoRA", "LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA", "MoMOR", "S'MoRE", "mix-and-match", "T-REX")


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    return budget_points(results(FOUR, parts=("originals", "variants")))


@pytest.fixture(scope="module")
def layers() -> tuple[pd.DataFrame, pd.DataFrame]:
    table = layered(dict(zip(LAYERS, (0.40, 0.45, 0.42))))
    found = budget_points(table)
    return found.assign(layers=found["method"].map(LAYERS)), layers_table(table)


@pytest.fixture(scope="module")
def times() -> pd.DataFrame:
    rows = [
        (method, 100, 0.1, 0.09, 0.12, ratio, ratio - 0.1, ratio + 0.2, 20, size)
        for size in ("20k", "80k")
        for method, ratio in (("LoRA", 0.8), ("MixLoRA", 1.0), ("S'MoRE", 1.3))
    ]
    return pd.DataFrame(
        rows,
        columns=[
            "method",
            "trainable",
            "seconds",
            "seconds_low",
            "seconds_high",
            "ratio",
            "ratio_low",
            "ratio_high",
            "rounds",
            "size",
        ],
    )


@pytest.fixture(scope="module")
def gaps() -> pd.DataFrame:
    return gaps_by_budget(results(FOUR, parts=("originals", "variants")), "S'MoRE", (*FOUR, "DoRA"))


def curves(points: pd.DataFrame, gaps: pd.DataFrame, *parts: str) -> Found:
    return Found(points=points, gaps=gaps, parts=parts, untrained={})


def stacked(points: pd.DataFrame, table: pd.DataFrame) -> Found:
    return Found(points=points, table=table, parts=["originals"])


def timed(times: pd.DataFrame) -> Found:
    expected = times[["method", "size"]].assign(computed_ratio=1.1, needed_ratio=1.2)
    return Found(times=times, expected=expected)


def test_figure_four_has_every_system_with_its_interval(points, gaps):
    figure = draw.plot(curves(points, gaps, "variants"))
    labels = ["Pareto front", *FOUR]
    panel = figure.axes[0]
    assert panel.get_xscale() == "log" and panel.get_xlabel() == "trainable parameters"
    assert panel.get_legend_handles_labels()[1] == labels
    curve = points.query("part == 'variants' and measure == 'accuracy' and method == \"S'MoRE\"")
    container = panel.containers[-1]
    np.testing.assert_allclose(container.lines[0].get_xydata(), curve[["trainable", "mean"]])
    whiskers = np.array(container.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(whiskers, curve[["low", "high"]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels


def test_beside_the_curves_stand_the_paired_gaps_at_every_budget_in_both_drawings(points, gaps):
    panel = draw.plot(curves(points, gaps, "variants")).axes[1]
    own = gaps.query("part == 'variants' and measure == 'accuracy' and against == 'MixLoRA'").sort_values("budget")
    bars = next(one for one in panel.containers if one.get_label() == "MixLoRA")
    np.testing.assert_allclose(bars.lines[0].get_xydata()[:, 1], own["difference"])
    np.testing.assert_allclose(np.array(bars.lines[2][0].get_segments())[:, :, 1], own[["low", "high"]])
    places = np.array([one.lines[0].get_xydata()[:, 0] for one in panel.containers])  # (others, budgets)
    assert (np.abs(np.log(places / list(BUDGETS))) < 0.15).all() and (np.diff(places, axis=0) > 0).all()
    fig = draw.interactive(curves(points, gaps))
    trace = next(one for one in fig.data if one.name == "MixLoRA" and one.xaxis == "x2")
    expected = gaps.query("part == 'originals' and measure == 'accuracy' and against == 'MixLoRA'")
    np.testing.assert_allclose(trace.y, expected.sort_values("budget")["difference"], rtol=1e-5)


def test_gaps_are_of_single_budgets_and_of_methods_that_were_trained(gaps):
    assert set(gaps["against"]) == set(FOUR) - {"S'MoRE"} and set(gaps["budget"]) == set(BUDGETS)
    assert gaps_by_budget(results({"LoRA": 0.4}), "S'MoRE", ("LoRA",)).empty
    panel = draw.plot(curves(budget_points(results(FOUR)), gaps.iloc[:0], "originals")).axes[1]
    assert [text.get_text() for text in panel.texts] == ["no equal budget"]


def test_seeds_and_the_meaning_of_bars_stand_below_and_no_texts_meet(points, gaps, layers, times):
    for figure in (
        draw.plot(curves(points, gaps, "originals", "variants")),
        draw_layers.plot(stacked(*layers)),
        draw_time.plot(timed(times)),
    ):
        assert overlaps(figure) == [] and outside(figure) == []
        assert "95 % intervals" in figure.get_supxlabel()
        assert figure.get_supxlabel().startswith("2 seeds, 4 steps. ")


def test_the_stairs_are_the_pareto_front(points, gaps):
    rows = points.query("part == 'originals' and measure == 'accuracy'")
    panel = draw.plot(curves(points, gaps, "originals")).axes[0]
    front = rows[pareto_front(rows)].sort_values("trainable")
    np.testing.assert_allclose(panel.lines[0].get_xydata(), front[["trainable", "mean"]])


def test_a_part_that_is_not_there_is_named(points, gaps):
    with pytest.raises(ValueError, match="no row of part = 'ood' and measure = 'accuracy'; the parts are 'originals'"):
        draw.plot(curves(points, gaps, "ood"))


def test_nine_systems_look_different_and_keep_their_colors():
    marks = draw.method_marks(NINE)
    assert len({mark.color for mark in marks.values()}) == 9
    assert all(marks[name].color == method_color(name) for name in ("LoRA", "S'MoRE", "T-REX"))
    clash = draw.method_marks(["T-REX", "T-REX, again", *[f"variant {number}" for number in range(12)]])
    assert len({mark.color for mark in clash.values()}) == len(clash)


@pytest.mark.parametrize(("value", "text"), [(500, "500"), (20_000, "20k"), (1_500_000, "1.5M"), (2e9, "2G")])
def test_sizes_are_written_short(value, text):
    assert draw.thousands(value) == text


def test_the_explorer_switches_parts_measures_and_sizes(points, gaps):
    fig = draw.interactive(curves(points, gaps))
    views, sizes = fig.layout.updatemenus
    assert {button.label for button in views.buttons} == {
        f"{part}: {measure}" for part in ("originals", "variants") for measure in ("accuracy", "loss")
    }
    button = next(button for button in views.buttons if button.label == "variants: loss")
    row = points.query("part == 'variants' and measure == 'loss' and method == 'MixLoRA'").sort_values("budget")
    change = button.args[0]
    np.testing.assert_allclose(change["y"][1], row["mean"], rtol=1e-6)
    np.testing.assert_allclose(change["error_y.array"][1], row["high"] - row["mean"], rtol=1e-4)
    assert [button.label for button in sizes.buttons] == ["trainable", "active", "operations"]
    np.testing.assert_allclose(sizes.buttons[1].args[0]["x"][1], row["active"])
    assert sizes.buttons[1].args[2] == (0, 1, 2, 3)  # the gaps stay at their budgets
    gap = gaps.query("part == 'variants' and measure == 'loss' and against == 'LoRA'").sort_values("budget")
    np.testing.assert_allclose(change["y"][len(FOUR)], gap["difference"], rtol=1e-5)
    assert len(fig.data) == 2 * len(FOUR) - 1


def test_the_layers_figure_has_means_and_paired_differences(layers):
    found, table = layers
    first, second = draw_layers.plot(stacked(found, table)).axes
    assert len(first.containers) == len(BUDGETS) and len(second.containers) == len(BUDGETS) + 1
    labels = second.get_legend_handles_labels()[1]
    assert labels == ["budget 20k", "budget 80k", "budget 320k", "all equal budgets"]
    whole = table.query("budget == 'all' and measure == 'accuracy'")["difference"]
    np.testing.assert_allclose(second.containers[-1].lines[0].get_xydata()[:, 1], whole)
    assert second.get_ylabel() == "difference to L = 1"
    explorer = draw_layers.interactive(stacked(found, table))
    assert sum(trace.visible for trace in explorer.data) == len(BUDGETS) + 1


def test_the_mean_over_a_single_budget_is_not_drawn_as_a_second_series():
    table = layered(dict(zip(LAYERS, (0.40, 0.45, 0.42))), budgets=BUDGETS[:1])
    points, differences = budget_points(table), layers_table(table)
    points = points.assign(layers=points["method"].map(LAYERS))
    own = differences.query("part == 'originals' and measure == 'accuracy'")
    both = [rows["difference"].to_numpy() for _, rows in own.groupby(own["budget"].astype(str))]
    assert len(both) == 2 and both[0] == pytest.approx(both[1])  # the table holds the same numbers twice
    figure = draw_layers.plot(stacked(points, differences))
    assert [len(panel.containers) for panel in figure.axes] == [1, 1] and not figure.legends
    assert figure.get_supxlabel().replace("\n", " ").endswith("One budget: 20k trainable parameters.")
    assert sum(trace.visible for trace in draw_layers.interactive(stacked(points, differences)).data) == 1


def test_the_time_figure_has_the_papers_range_and_a_row_for_every_size(times):
    panel = draw_time.plot(timed(times)).axes[0]
    band = panel.patches[0].get_extents().transformed(panel.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((1.15, 1.33))
    assert [text.get_text() for text in panel.get_yticklabels()] == ["20k", "80k"]
    assert [container.get_label() for container in panel.containers] == ["LoRA", "S'MoRE"]
    assert [container.lines[0].get_xdata().tolist() for container in panel.containers] == [[0.8] * 2, [1.3] * 2]
    assert (np.round([one.lines[0].get_xydata()[:, 1] for one in panel.containers]) == [[0, 1]] * 2).all()
    assert [text.get_text() for text in panel.texts] == ["0.80", "0.80", "1.30", "1.30"]
    line = next(line for line in panel.lines if line.get_label() == "MixLoRA")
    assert line.get_xdata()[0] == 1
    fig = draw_time.interactive(timed(times))
    assert fig.data[0].customdata[0, 0] == pytest.approx(100.0)  # milliseconds
    assert fig.layout.yaxis.ticktext == ("20k", "80k") and fig.layout.title.subtitle.text.startswith(
        "2 seeds, 4 steps. Systems take"
    )
    assert fig.data[-1].name == "expected from operations" and len(fig.data) == 3
    heights = {note.text: note.y for note in fig.layout.annotations}
    assert heights == {"S'MoRE in the paper": 1, "MixLoRA": 0}, "on a phone there is no room beside each other"


def test_all_are_saved(points, gaps, layers, times, tmp_path):
    drawn = {
        "smore_fig4": (
            draw.plot(curves(points, gaps, "originals", "variants")),
            draw.interactive(curves(points, gaps)),
            points,
        ),
        "smore_table5": (draw_layers.plot(stacked(*layers)), draw_layers.interactive(stacked(*layers)), layers[1]),
        "smore_table7": (draw_time.plot(timed(times)), draw_time.interactive(timed(times)), times),
    }
    for item, parts in drawn.items():
        paths = save(item, *parts, folder=tmp_path)
        assert all(path.stat().st_size for path in paths.values()) and len(paths) == 4
