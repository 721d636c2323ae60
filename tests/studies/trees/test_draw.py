"""What the figure of used structures and its interactive twin contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.drawing.save import save
from moe_analysis.studies.trees import structures
from moe_analysis.studies.trees.draw import LABELS, interactive, layer_colors, plot
from tests.studies.fake_result import Found
from tests.studies.fake_structures import MODULES, recorded, structured_run

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def frames():
    pairs = [recorded(seed, tells=True) for seed in SEEDS]
    training = structures.over_training([run for run, _, _ in pairs])
    return {
        "bands": structures.training_bands(training),
        "module_bands": structures.training_bands(training, "module"),
        "usage": structures.usage_by_layer(structures.usage_ranks(pairs)),
        "datasets": structures.by_dataset(pairs),
        "trained": structures.dataset_information(pairs, 20),
        "untrained": structures.dataset_information([recorded(seed) for seed in SEEDS], 20),
    }


@pytest.fixture(scope="module")
def control():
    runs = [structured_run(seed, "control", entropy=(3.0, 1.0)) for seed in SEEDS]
    return structures.training_bands(structures.over_training(runs))


def used(frames: dict[str, pd.DataFrame], control: pd.DataFrame | None = None) -> Found:
    return Found(**frames, random_siblings=5 / 6, control_bands=pd.DataFrame() if control is None else control)


@pytest.fixture(scope="module")
def panels(frames, control):
    fig = plot(used(frames, control))
    return dict(zip("abecd", fig.axes)), fig


def test_a_line_and_a_band_for_every_layer_over_training(panels, frames, control):
    for letter, measure in (("a", "normalized_entropy"), ("b", "differing_siblings")):
        panel = panels[0][letter]
        assert panel.get_ylabel() == LABELS[measure] and len(panel.collections) == 2
        lines = {line.get_label(): line for line in panel.lines}
        for number in (0, 1):
            band = frames["bands"]
            band = band[(band["layer"] == f"layers.{number}") & (band["measure"] == measure)]
            np.testing.assert_allclose(lines[f"layer {number}"].get_ydata(), band["mean"])
            assert lines[f"layer {number}"].get_color() == layer_colors(frames["bands"]["layer"])[f"layers.{number}"]
        mean = control[control["measure"] == measure].groupby("step")["mean"].mean()
        np.testing.assert_allclose(lines["control, mean of layers"].get_ydata(), mean)
    assert panels[0]["b"].lines[-1].get_label() == "random trees" and panels[0]["b"].lines[-1].get_ydata()[0] == 5 / 6


def test_shares_of_a_layers_trees_add_up(panels, frames):
    for line in panels[0]["c"].lines[:2]:
        assert sum(line.get_ydata()) == pytest.approx(1.0)
    random = panels[0]["c"].lines[-1]
    assert list(random.get_ydata()) == [1 / 216] * 2 and list(random.get_xdata()) == [1, 216]


def test_information_stands_before_and_after_training_over_its_own_chance(panels, frames):
    heights = [patch.get_height() for patch in panels[0]["d"].patches]
    expected = [
        frames[stage].groupby("seed")[column].mean().mean()
        for stage in ("untrained", "trained")
        for column in ("information", "by_chance")
    ]
    np.testing.assert_allclose(heights, expected)
    assert [len(line.get_ydata()) for line in panels[0]["d"].lines] == [3, 3]


def test_every_data_set_has_its_row_and_all_of_them_stand_on_top(panels, frames):
    panel, datasets = panels[0]["e"], frames["datasets"]
    names = [tick.get_text() for tick in panel.get_yticklabels()]
    assert set(names) == {"a", "b", "c", "all"} and names[-1] == "all"
    means = datasets.groupby(["dataset", "seed"])["rarefied"].mean().groupby("dataset").mean()
    dots = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, means[names])
    assert panel.get_xlabel() == "trees among 80 tokens"


def test_the_menu_shows_one_measure_of_every_module_and_keeps_the_map(frames):
    fig = interactive(used(frames))
    lines = [trace for trace in fig.data if trace.type == "scatter"]
    buttons = fig.layout.updatemenus[0].buttons
    assert len(lines) == len(LABELS) * len(MODULES) and len(buttons) == len(LABELS)
    for button, label in zip(buttons, LABELS.values()):
        shown = [trace for trace, visible in zip(fig.data, button.args[0]["visible"]) if visible]
        assert [trace.name for trace in shown[:-1]] == list(MODULES) and shown[-1].type == "heatmap"
        assert all(label in trace.hovertemplate for trace in shown[:-1]) and button.label == label
    grid = pd.DataFrame(fig.data[-1].z, index=fig.data[-1].y, columns=fig.data[-1].x)
    chosen = frames["datasets"].query("dataset == 'b' and module == @MODULES[1]")["normalized_entropy"].mean()
    assert grid.loc["b", MODULES[1]] == pytest.approx(chosen, rel=1e-6)


def test_the_figure_without_a_control_can_be_saved(frames, tmp_path):
    fig = plot(used(frames))
    written = save(
        "smore_structures",
        fig,
        interactive(used(frames)),
        frames,
        folder=tmp_path,
    )
    assert written["png"].stat().st_size > 10_000
