"""What the figures of optimizers against each other contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from moe_analysis.drawing.style import METHOD_COLORS
from moe_analysis.studies.optimizers import OneExpert, draw_control, measure, measure_rescaling
from moe_analysis.studies.optimizers.curves import progress_curves
from moe_analysis.studies.optimizers.draw import progress_explorer, spread_out
from tests.studies.drawn_texts import outside, overlaps

from .test_curves import FORMS, four, run

ADAM = ("AdamW", "RAdamW", "gAdamW", "gRAdamW")


@pytest.fixture(scope="module")
def curves():
    return progress_curves(four(0.2))


def test_figure_2_draws_three_measures_of_both_methods(curves):
    figure = measure_rescaling(four(0.2)).plot()
    labels = [panel.get_ylabel().split(" (")[0] for panel in figure.axes]
    assert labels == ["training loss", "test loss", "test accuracy"]
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["RSGD, lr 0.1", "gRSGD, lr 0.1"]
    line = figure.axes[1].lines[1]
    means = curves[(curves["measure"] == "eval loss") & (curves["method"] == "gRSGD")].groupby("step")["value"].mean()
    np.testing.assert_allclose(line.get_ydata(), means)


def test_figure_3_draws_a_panel_for_each_form(found):
    assert [panel.get_title(loc="left") for panel in found.plot().axes] == ["forms of SGD", "forms of AdamW"]
    (panel,) = measure(four(0.2)).plot().axes
    assert [line.get_label() for line in panel.lines] == [f"{name}, lr 0.1" for name in FORMS]
    assert [line.get_color() for line in panel.lines] == [METHOD_COLORS[name] for name in FORMS]


@pytest.mark.parametrize("found", [measure_rescaling, measure])
def test_learning_rates_seeds_and_the_meaning_of_shades_stand_on_both_drawings(found):
    result = found(four(0.2))
    figure, twin = result.plot(), result.interactive()
    named = [label for panel in figure.axes for label in panel.get_legend_handles_labels()[1]]
    assert "RSGD, lr 0.1" in named and "gRSGD, lr 0.1" in named
    written = [text.get_text() for text in figure.findobj(Text)]
    assert all(name in written for name in named)
    assert "3 seeds, 40 steps" in figure.get_supxlabel() and "from the lowest seed" in figure.get_supxlabel()
    assert overlaps(figure) == [] and outside(figure) == []
    assert "gRSGD, lr 0.1" in [trace.name for trace in twin.data] and "3 seeds" in twin.layout.title.subtitle.text


def test_a_line_below_one_that_it_equals_is_wider():
    figure = measure(four(0.2)).plot()
    widths = {line.get_label().partition(",")[0]: line.get_linewidth() for line in figure.axes[0].lines}
    assert widths["SGD"] == widths["RSGD"] > widths["gSGD"] == widths["gRSGD"]


def test_the_explorer_has_every_seed_and_shows_one_measure_at_a_time(curves):
    explorer = progress_explorer(curves)
    assert len(explorer.data) == 3 * len(FORMS) * 3
    assert sum(trace.visible for trace in explorer.data) == len(FORMS) * 3
    buttons = explorer.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["train loss", "eval loss", "eval accuracy"]
    assert all(sum(button.args[0]["visible"]) == len(FORMS) * 3 for button in buttons)


def test_both_are_saved(tmp_path):
    paths = measure_rescaling(four(0.2)).save(tmp_path)
    assert {path.suffix for path in paths.values()} == {".png", ".pdf", ".html", ".json"}


def over_rates(rates=(0.1, 0.2, 0.4)) -> list:
    """Eight methods whose loss is least at the middle rate; the last rate of gRSGD diverged at one seed."""
    runs = [
        run(method, seed, 3.0 + abs(np.log2(lr / 0.2)) + 0.1 * seed, 2.0 + abs(np.log2(lr / 0.2)), lr=lr)
        for method in (*FORMS, *ADAM)
        for lr in rates
        for seed in (0, 1, 2)
    ]
    lost = next(one for one in runs if (one.config.name, one.config.lr, one.config.seed) == ("gRSGD", 0.4, 1))
    lost.history.loc[5:, "loss"] = np.nan
    return runs


@pytest.fixture(scope="module")
def found():
    return measure(over_rates())


def test_eight_methods_differ_by_color_or_dash_and_are_named_at_their_lines(found):
    panels = found.plot().axes
    lines = [[line for line in panel.lines if not line.get_label().startswith("_")] for panel in panels]
    assert [[line.get_label() for line in row] for row in lines] == [list(FORMS), list(ADAM)]
    looks = {(line.get_color(), str(line._dash_pattern)) for row in lines for line in row}
    assert len(looks) == 8
    assert [sorted(text.get_text() for text in panel.texts) for panel in panels] == [sorted(FORMS), sorted(ADAM)]


def test_the_outcome_stands_over_the_rate_with_the_best_ringed_and_what_diverged_crossed(found):
    panel = found.plot().axes[0]
    line = next(line for line in panel.lines if line.get_label() == "gRSGD")
    assert line.get_xdata().tolist() == [0.1, 0.2, 0.4] and np.isnan(line.get_ydata()[2])
    rings = [line for line in panel.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "none"]
    assert [ring.get_xdata()[0] for ring in rings] == [0.2] * 4
    crosses = [line.get_xdata().tolist() for line in panel.lines if line.get_marker() == "x"]
    assert crosses == [[0.4]] and panel.get_xscale() == "log"
    below = panel.figure.get_supxlabel()
    assert "3 seeds" in below and "× means that a seed diverged" in below and overlaps(panel.figure) == []


def test_the_rates_explorer_has_two_measures_and_every_run(found):
    explorer = found.interactive()
    assert [button.label for button in explorer.layout.updatemenus[0].buttons] == [
        "mean training loss",
        "held-out loss",
    ]
    shown = [trace for trace in explorer.data if trace.visible]
    assert len(shown) == 16 and {len(trace.x) for trace in shown} == {3, 8, 9}
    assert "gRSGD, best at 0.2" in [trace.name for trace in shown]


def test_one_rate_each_is_drawn_over_training(curves):
    one = measure(four(0.2))
    assert not one.over_rates and one.plot().axes[0].get_xlabel() == "training step"
    assert one.forms == {"SGD": list(FORMS)} and len(one.interactive().data) == 36


@pytest.mark.parametrize("heights", [[1.0, 1.0, 1.0], [0.0, 5.0], [0.1, 0.0, 0.05, 3.0], [2.0]])
def test_names_keep_their_order_and_their_distance(heights):
    moved = spread_out(np.array(heights), 0.5)
    assert (np.diff(np.sort(moved)) >= 0.5 - 1e-9).all()
    assert (np.argsort(moved, kind="stable") == np.argsort(heights, kind="stable")).all()


def test_the_control_is_drawn_into_the_users_own_axes():
    steps = pd.DataFrame({"step": [1, 2], "split": "train", "loss": [2.0, 1.0]})
    losses = pd.concat([steps.assign(method=name) for name in ("RSGD, k = 1", "gRSGD, k = 1")])
    control = OneExpert(losses=losses, gap=0.0, same=True)
    ax = Figure().subplots()
    assert control.plot(ax) is ax and [line.get_label() for line in ax.lines] == ["RSGD, k = 1", "gRSGD, k = 1"]
    assert [trace.line.dash for trace in draw_control.interactive(control).data] == ["solid", "dash"]
    assert [claim.verdict for claim in control.judged] == ["holds"]
