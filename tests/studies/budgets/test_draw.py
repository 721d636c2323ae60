"""What the figures of S'MoRE's Fig. 4 and Tables 5 and 7 contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import method_color
from moe_analysis.studies.budgets import draw
from moe_analysis.studies.budgets.differences import layers_table
from moe_analysis.studies.budgets.draw_layers import layers_explorer, layers_figure
from moe_analysis.studies.budgets.draw_time import time_explorer, time_figure
from moe_analysis.studies.budgets.points import budget_points, pareto_front

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


def test_figure_four_has_both_sizes_and_every_system_with_its_interval(points):
    figure = draw.budget_figure(points, ["variants"])
    labels = ["Pareto front", *FOUR]
    for panel, size in zip(figure.axes, ("trainable", "active")):
        assert panel.get_xscale() == "log" and panel.get_xlabel().startswith(size)
        assert panel.get_legend_handles_labels()[1] == labels
        curve = points.query("part == 'variants' and measure == 'accuracy' and method == \"S'MoRE\"")
        container = panel.containers[-1]
        np.testing.assert_allclose(container.lines[0].get_xydata(), curve[[size, "mean"]])
        whiskers = np.array(container.lines[2][0].get_segments())[:, :, 1]
        np.testing.assert_allclose(whiskers, curve[["low", "high"]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels


def test_the_stairs_are_the_pareto_front(points):
    rows = points.query("part == 'originals' and measure == 'loss'")
    panel = draw.budget_figure(points, ["originals"], "loss").axes[1]
    front = rows[pareto_front(rows, "active")].sort_values("active")
    np.testing.assert_allclose(panel.lines[0].get_xydata(), front[["active", "mean"]])


def test_a_part_that_is_not_there_is_named(points):
    with pytest.raises(ValueError, match="no row of part = 'ood' and measure = 'accuracy'; the parts are 'originals'"):
        draw.budget_figure(points, ["ood"])


def test_nine_systems_look_different_and_keep_their_colors():
    marks = draw.method_marks(NINE)
    assert len({mark.color for mark in marks.values()}) == 9
    assert all(marks[name].color == method_color(name) for name in ("LoRA", "S'MoRE", "T-REX"))
    clash = draw.method_marks(["T-REX", "T-REX, again", *[f"variant {number}" for number in range(12)]])
    assert len({mark.color for mark in clash.values()}) == len(clash)


@pytest.mark.parametrize(("value", "text"), [(500, "500"), (20_000, "20k"), (1_500_000, "1.5M"), (2e9, "2G")])
def test_sizes_are_written_short(value, text):
    assert draw.thousands(value) == text


def test_the_explorer_switches_parts_measures_and_sizes(points):
    fig = draw.budget_explorer(points)
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
    assert len(fig.data) == len(FOUR)


def test_the_layers_figure_has_means_and_paired_differences(layers):
    found, table = layers
    first, second = layers_figure(found, table, ["originals"]).axes
    assert len(first.containers) == len(BUDGETS) and len(second.containers) == len(BUDGETS) + 1
    labels = second.get_legend_handles_labels()[1]
    assert labels == ["budget 20k", "budget 80k", "budget 320k", "all equal budgets"]
    whole = table.query("budget == 'all' and measure == 'accuracy'")["difference"]
    np.testing.assert_allclose(second.containers[-1].lines[0].get_xydata()[:, 1], whole)
    assert second.get_ylabel() == "difference to L = 1"
    explorer = layers_explorer(table)
    assert sum(trace.visible for trace in explorer.data) == len(BUDGETS) + 1


def test_the_time_figure_has_the_papers_range_and_every_size(times):
    expected = times[["method", "size"]].assign(computed_ratio=1.1, needed_ratio=1.2)
    panel = time_figure(times, expected).axes[0]
    band = panel.patches[0].get_extents().transformed(panel.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((1.15, 1.33))
    assert [text.get_text() for text in panel.get_yticklabels()] == ["LoRA", "MixLoRA", "S'MoRE"]
    assert [container.lines[0].get_xdata().tolist() for container in panel.containers] == [
        [0.8] * 2,
        [1.0] * 2,
        [1.3] * 2,
    ]
    assert panel.get_xlabel().endswith("from top to bottom: 20k; 80k")
    fig = time_explorer(times, expected)
    assert fig.data[0].customdata[0, 0] == pytest.approx(100.0)  # milliseconds
    assert fig.data[-1].name == "expected from operations" and len(fig.data) == 4


def test_one_size_needs_no_names_and_no_expectation(times):
    one = times[times["size"] == "20k"].drop(columns="size")
    assert time_figure(one).axes[0].get_xlabel() == "time of a training step over MixLoRA's"
    assert len(time_explorer(one).data) == 3


def test_all_are_saved(points, layers, times, tmp_path):
    drawn = {
        "smore_fig4": (draw.budget_figure(points, ["originals", "variants"]), draw.budget_explorer(points), points),
        "smore_table5": (layers_figure(*layers, ["originals"]), layers_explorer(layers[1]), layers[1]),
        "smore_table7": (time_figure(times), time_explorer(times), times),
    }
    for item, parts in drawn.items():
        paths = save(item, *parts, folder=tmp_path)
        assert all(path.stat().st_size for path in paths.values()) and len(paths) == 4
