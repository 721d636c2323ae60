"""What the figure of the experts' anatomy and its interactive twin contain."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import method_color
from moe_analysis.studies.experts.anatomy import anatomy_bands, conditioning, load_balance, similarity
from moe_analysis.studies.experts.draw import MOST_LAYERS, ROWS, interactive, plot, spread
from moe_analysis.studies.records import layer_title
from tests.studies.fake_result import Found

from .test_anatomy import MODULES, STEPS, watched_run

METHODS, SEEDS = ("RSGD", "gRSGD"), (0, 1, 2)
LAYERS = ("layers.0", "layers.1")


@pytest.fixture(scope="module")
def bands():
    start = np.r_[np.nan, np.linspace(40.0, 3.0, STEPS - 1)][:, None, None]  # B = 0 has no condition number
    runs = [watched_run(method, seed, gram_condition_b=start) for method in METHODS for seed in SEEDS]
    frames = conditioning(runs), similarity(runs), load_balance(runs)
    return {by: anatomy_bands(*frames, by=by) for by in ("layer", "module")}


@pytest.fixture(scope="module")
def figure(bands):
    return plot(Found(bands=bands["layer"]))


@pytest.fixture(scope="module")
def explorer(bands):
    return interactive(Found(by_module=bands["module"]))


def pick(bands, **wanted):
    """The rows of one method, measure and layer or module."""
    chosen = np.logical_and.reduce([bands[column] == value for column, value in wanted.items()])
    return bands[chosen]


def grid(figure):
    return np.array(figure.axes).reshape(len(ROWS), -1)


def test_a_column_is_a_layer_and_a_row_a_family_of_measures(figure):
    assert [panel.get_title(loc="left") for panel in grid(figure)[0]] == ["layer 0", "layer 1"]
    assert [panel.get_ylabel() for panel in grid(figure)[:, 0]] == [row.title for row in ROWS]
    assert [panel.get_yscale() for panel in grid(figure)[:, 0]] == ["log", "linear", "linear"]
    assert all(len({panel.get_ylim() for panel in line}) == 1 for line in grid(figure))


def test_every_panel_has_a_line_and_a_band_for_each_method_and_measure(figure, bands):
    for row, line in zip(ROWS, grid(figure)):
        for layer, panel in zip(LAYERS, line):
            assert len(panel.lines) == len(panel.collections) == len(METHODS) * len(row.measures)
            drawn = iter(panel.lines)
            for method in METHODS:
                for measure in row.measures:
                    expected = pick(bands["layer"], layer=layer, method=method, measure=measure)
                    one = next(drawn)
                    np.testing.assert_allclose(one.get_ydata(), expected["mean"])
                    np.testing.assert_array_equal(one.get_xdata(), expected["step"])
                    assert to_hex(one.get_color()) == method_color(method).lower()


def test_measures_of_one_panel_differ_by_their_dashes(figure):
    for row, line in zip(ROWS, grid(figure)):
        dashes = [one._dash_pattern for one in line[0].lines[: len(row.measures)]]
        assert len({str(dash) for dash in dashes}) == len(row.measures)
        assert [text.get_text() for text in line[-1].get_legend().get_texts()] == list(row.measures.values())


def test_the_balance_of_load_stands_beside_the_entropy_of_a_token():
    assert set(ROWS[-1].measures) == {"load_balance", "token_entropy"}


def test_methods_are_named_once_in_their_colors(figure):
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(METHODS)
    assert [handle.get_color() for handle in legend.legend_handles] == [method_color(name) for name in METHODS]


def test_an_infinite_condition_number_is_a_gap(bands):
    frame = bands["layer"].copy()
    frame.loc[(frame["measure"] == "gram_condition_b") & (frame["step"] == 4), ["mean", "high"]] = np.inf
    panel = grid(plot(Found(bands=frame)))[0, 0]
    assert np.isnan(panel.lines[0].get_ydata()).tolist() == [True, False, True, False, False]
    assert panel.get_ylim()[1] < 1e3


def test_deep_models_show_their_first_and_last_layer_and_two_between(bands):
    names = [f"layers.{number}" for number in range(28)]
    assert spread(names) == ["layers.0", "layers.9", "layers.18", "layers.27"] and len(spread(names)) == MOST_LAYERS
    assert spread(names[:2]) == names[:2] and layer_title("lm_head") == "lm_head"


def test_the_twin_shows_one_module_and_its_menu_chooses_another(explorer):
    (menu,) = explorer.layout.updatemenus
    assert [button.label for button in menu.buttons] == list(MODULES)
    lines = len(METHODS) * sum(len(row.measures) for row in ROWS)
    assert len(explorer.data) == len(MODULES) * lines
    assert [trace.visible for trace in explorer.data] == list(menu.buttons[0].args[0]["visible"])
    shown = np.array([button.args[0]["visible"] for button in menu.buttons])
    assert (shown.sum(0) == 1).all() and (shown.sum(1) == lines).all()


def test_the_twins_lines_are_the_bands_of_their_module(explorer, bands):
    shown = explorer.layout.updatemenus[0].buttons[2].args[0]["visible"]
    traces = iter([trace for trace, visible in zip(explorer.data, shown) if visible])
    for row in ROWS:
        for method in METHODS:
            for measure, label in row.measures.items():
                trace = next(traces)
                expected = pick(bands["module"], module=MODULES[2], method=method, measure=measure)
                np.testing.assert_allclose(trace.y, expected["mean"], rtol=1e-6)
                np.testing.assert_allclose(trace.customdata, expected[["low", "high"]], rtol=1e-6)
                assert trace.name == method and f"{method}, {label}<" in trace.hovertemplate


def test_the_twins_legend_names_each_method_once_for_every_module(explorer):
    for button in explorer.layout.updatemenus[0].buttons:
        shown = [trace for trace, visible in zip(explorer.data, button.args[0]["visible"]) if visible]
        assert [trace.name for trace in shown if trace.showlegend] == list(METHODS)
        assert {trace.legendgroup for trace in shown} == set(METHODS)
    assert explorer.layout.yaxis.type == "log" and explorer.layout.yaxis3.type == "linear"
    keys = " ".join(note.text for note in explorer.layout.annotations)
    assert all(label in keys for row in ROWS for label in row.measures.values())


def test_both_are_saved_with_their_numbers(tmp_path, figure, explorer, bands):
    files = save("gr_anatomy", figure, explorer, {"bands": bands["layer"]}, folder=tmp_path)
    assert {path.name for path in files.values()} == {f"gr_anatomy.{kind}" for kind in ("png", "pdf", "html", "json")}
