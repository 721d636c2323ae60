"""What the figures of optimisers against each other contain."""

from __future__ import annotations

import numpy as np
import pytest
from moe_analysis.plots.optimizers import forms_figure, progress_explorer, progress_figure

from moe_analysis.analysis.optimizers import curve_bands, progress_curves
from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import METHOD_COLORS

from ..analysis.test_optimizers import FORMS, four


@pytest.fixture(scope="module")
def curves():
    return progress_curves(four(0.2))


def test_figure_2_draws_three_measures_of_both_methods(curves):
    figure = progress_figure(curve_bands(curves))
    labels = [panel.get_ylabel().split(" (")[0] for panel in figure.axes]
    assert labels == ["training loss", "test loss", "test accuracy"]
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["RSGD", "gRSGD"]
    line = figure.axes[1].lines[1]
    means = curves[(curves["measure"] == "eval loss") & (curves["method"] == "gRSGD")].groupby("step")["value"].mean()
    np.testing.assert_allclose(line.get_ydata(), means)


def test_figure_3_draws_a_panel_for_each_form(curves):
    figure = forms_figure(curve_bands(curves), {"SGD": FORMS, "two": FORMS[:2]})
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["SGD", "two"]
    assert [[line.get_label() for line in panel.lines] for panel in figure.axes] == [list(FORMS), list(FORMS[:2])]
    assert [line.get_color() for line in figure.axes[0].lines] == [METHOD_COLORS[name] for name in FORMS]


def test_the_explorer_has_every_seed_and_shows_one_measure_at_a_time(curves):
    explorer = progress_explorer(curves)
    assert len(explorer.data) == 3 * len(FORMS) * 3
    assert sum(trace.visible for trace in explorer.data) == len(FORMS) * 3
    buttons = explorer.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["train loss", "eval loss", "eval accuracy"]
    assert all(sum(button.args[0]["visible"]) == len(FORMS) * 3 for button in buttons)


def test_both_are_saved(curves, tmp_path):
    paths = save("gr_fig2", progress_figure(curve_bands(curves)), progress_explorer(curves), curves, folder=tmp_path)
    assert {path.suffix for path in paths.values()} == {".png", ".html", ".json"}
