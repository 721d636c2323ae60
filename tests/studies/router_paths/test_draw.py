"""What the two figures of router paths contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import METHOD_COLORS
from moe_analysis.studies.convergence import loss_bands, loss_curves
from moe_analysis.studies.router_paths.draw import HIGHLIGHTED, entropy_figure, trajectory_explorer, trajectory_figure
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from moe_analysis.studies.router_paths.smoothness import smoothness, smoothness_summary
from tests.studies.fake_runs import MODULES, fake_run, walk

METHODS = {"LoRA-MoE": 8, "mix-and-match": 12, "T-REX": 12}
SEEDS = (0, 1, 2)
STEPS = 9


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    runs = [
        fake_run(walk(rng, STEPS - 1, experts, 16, drift=1.0), method, seed)
        for method, experts in METHODS.items()
        for seed in SEEDS
    ]
    axes, smooth = path_axes(runs, MODULES[0]), smoothness(runs)
    return {
        "paths": router_paths(runs, MODULES[0], axes),
        "axes": axes,
        "smooth": smooth,
        "summary": smoothness_summary(smooth),
        "bands": loss_bands(loss_curves(runs)),
    }


@pytest.fixture(scope="module")
def figure(frames):
    return trajectory_figure(**frames)


@pytest.fixture(scope="module")
def explorer(frames):
    return trajectory_explorer(frames["paths"], frames["axes"])


def panels(figure):
    return [axes for axes in figure.axes if axes.name == "3d"]


def flat(figure, label):
    return next(axes for axes in figure.axes if axes.get_ylabel().startswith(label))


def test_each_method_has_a_panel_in_the_order_of_the_runs(figure):
    assert [panel.get_title() for panel in panels(figure)] == ["(a) LoRA-MoE", "(b) mix-and-match", "(c) T-REX"]


def test_all_panels_have_one_scale_and_one_view(figure):
    views = {(p.get_xlim(), p.get_ylim(), p.get_zlim(), p.elev, p.azim) for p in panels(figure)}
    assert len(views) == 1


def test_limits_hold_every_point_of_the_seed_that_is_drawn(figure, frames):
    shown = frames["paths"].query("seed == 0")
    for column, limits in zip(
        ("pc1", "pc2", "pc3"),
        (panels(figure)[0].get_xlim(), panels(figure)[0].get_ylim(), panels(figure)[0].get_zlim()),
    ):
        assert limits[0] < shown[column].min() and shown[column].max() < limits[1]


def test_a_panel_draws_each_expert_of_one_seed_and_three_of_them_thick(figure):
    for panel, experts in zip(panels(figure), METHODS.values()):
        thin, thick = (line for line in panel.collections if isinstance(line, Line3DCollection))
        assert len(thin.get_array()) == (experts - HIGHLIGHTED) * (STEPS - 1)
        assert len(thick.get_array()) == HIGHLIGHTED * (STEPS - 1)
        assert thick.get_linewidth()[0] > 2 * thin.get_linewidth()[0]


def test_lines_are_coloured_by_training_step_on_one_scale(figure):
    lines = [line for panel in panels(figure) for line in panel.collections if isinstance(line, Line3DCollection)]
    assert {(line.norm.vmin, line.norm.vmax) for line in lines} == {(0, STEPS - 1)}
    assert set(lines[0].get_array()) == set(range(1, STEPS))
    assert [axes for axes in figure.axes if axes.get_title() == "step"]


def test_ticks_are_short_numbers_in_the_power_of_ten_that_the_figure_states(frames):
    small = frames["paths"].assign(
        **{
            name: frames["paths"][name] * 1e-4 / frames["paths"][["pc1", "pc2", "pc3"]].abs().to_numpy().max()
            for name in ("pc1", "pc2", "pc3")
        }
    )
    figure = trajectory_figure(**{**frames, "paths": small})
    stated = [text.get_text() for part in figure.subfigs for text in part.texts]
    assert stated in (["axes in $10^{-4}$"], ["axes in $10^{-5}$"])
    figure.canvas.draw()
    axis = panels(figure)[0].xaxis
    shown = [float(text.replace("−", "-")) for text in (label.get_text() for label in axis.get_ticklabels()) if text]
    power = float(f"1e{stated[0][len('axes in $10^{') : -2]}")
    np.testing.assert_allclose(np.array(shown) * power, axis.get_ticklocs(), rtol=1e-2, atol=1e-12)


def test_axis_labels_tell_the_variance_explained(figure, frames):
    expected = [f"PC{n} ({share:.0%})" for n, share in enumerate(frames["axes"].explained, 1)]
    for panel in panels(figure):
        assert [panel.get_xlabel(), panel.get_ylabel(), panel.get_zlabel()] == expected


@pytest.mark.parametrize("label, measure", [("path length", "tortuosity"), ("turning angle", "turning_angle")])
def test_measures_are_a_dot_for_each_seed_with_mean_interval_and_reference(figure, frames, label, measure):
    panel = flat(figure, label)
    assert [tick.get_text().replace("\n", "") for tick in panel.get_xticklabels()] == list(METHODS)
    dots = [dot.get_offsets()[:, 1] for dot in panel.collections if dot.get_offsets().shape[0] == len(SEEDS)]
    by_method = frames["smooth"].groupby("method", sort=False)[measure]
    np.testing.assert_allclose(dots, [values.to_numpy() for _, values in by_method])
    means = frames["summary"].query("measure == @measure")["mean"].tolist()
    assert [bar.lines[0].get_ydata()[0] for bar in panel.containers] == pytest.approx(means)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["noise with momentum"]


def test_losses_are_a_line_and_a_band_for_each_method_in_its_colour(figure):
    panel = flat(figure, "training loss")
    expected = {name: METHOD_COLORS[name] for name in METHODS}
    assert {line.get_label(): line.get_color() for line in panel.lines} == expected
    assert len(panel.collections) == len(METHODS)


def test_gate_entropy_is_a_thick_line_for_each_method_and_a_thin_one_for_each_seed():
    steps, seeds = [0, 10, 20], (0, 1)
    entropy = pd.DataFrame(
        [(method, seed, step, 0.5 + 0.1 * seed) for method in METHODS for seed in seeds for step in steps],
        columns=["method", "seed", "step", "entropy"],
    )
    (panel,) = entropy_figure(entropy).axes
    means = {line.get_label(): line.get_ydata().tolist() for line in panel.lines if line.get_label() in METHODS}
    assert means == {method: pytest.approx([0.55] * 3) for method in METHODS}
    assert len(panel.lines) == len(METHODS) * (1 + len(seeds))


def test_another_seed_can_be_drawn_and_an_unknown_one_is_refused(frames, figure):
    second = trajectory_figure(**frames, seed=1)
    first_lines, second_lines = (panels(f)[0].collections[0]._segments3d for f in (figure, second))
    assert not np.allclose(first_lines, second_lines)
    with pytest.raises(ValueError, match="seed = 7 has no path; choose one of 0, 1, 2"):
        trajectory_figure(**frames, seed=7)


def test_one_seed_alone_is_drawn_without_interval(frames):
    smooth = frames["smooth"].query("seed == 0")
    paths = frames["paths"].query("seed == 0")
    one = {**frames, "paths": paths, "smooth": smooth, "summary": smoothness_summary(smooth)}
    bars = flat(trajectory_figure(**one), "path length").containers
    lengths = [np.ptp(segment[:, 1]) for bar in bars for segment in bar.lines[2][0].get_segments()]
    assert lengths == pytest.approx([0.0] * len(METHODS))


def test_the_twin_shows_the_first_seed_and_names_each_method_once(explorer):
    shown = [trace for trace in explorer.data if trace.visible]
    assert [trace.name for trace in shown if trace.showlegend] == list(METHODS)
    assert {trace.legendgroup for trace in shown} == set(METHODS)
    assert all("seed 0" in trace.hovertemplate for trace in shown)


def test_buttons_choose_the_seed(explorer):
    buttons = {button.label: button.args[0]["visible"] for button in explorer.layout.updatemenus[0].buttons}
    assert list(buttons) == ["seed 0", "seed 1", "seed 2", "all seeds"]
    assert all(buttons["all seeds"])
    for seed in SEEDS:
        chosen = [trace for trace, visible in zip(explorer.data, buttons[f"seed {seed}"], strict=True) if visible]
        assert len(chosen) == 2 * len(METHODS)
        assert all(f"seed {seed}<" in trace.hovertemplate for trace in chosen)


def test_hover_tells_method_seed_expert_step_and_loss(explorer, frames):
    trace = next(t for t in explorer.data if t.name == "T-REX" and t.showlegend and "seed 1" in t.hovertemplate)
    for part in ("T-REX, seed 1", "expert", "step", "loss"):
        assert part in trace.hovertemplate
    run = frames["paths"].query("method == 'T-REX' and seed == 1 and rank <= @HIGHLIGHTED")
    kept = ~np.isnan(trace.x)
    np.testing.assert_allclose(trace.customdata[kept], run[["expert", "step", "loss"]].to_numpy(np.float32))
    np.testing.assert_allclose(trace.z[kept], run["pc3"].to_numpy(np.float32))


def test_experts_are_not_joined_to_each_other(explorer):
    trace = explorer.data[0]
    assert np.isnan(trace.x).sum() == HIGHLIGHTED and trace.connectgaps is False


def test_the_twin_is_float32_and_labels_its_axes_like_the_paper_figure(explorer, figure):
    assert {trace.x.dtype for trace in explorer.data} == {np.dtype("float32")}
    scene = explorer.layout.scene
    assert [axis.title.text for axis in (scene.xaxis, scene.yaxis, scene.zaxis)] == [
        panels(figure)[0].get_xlabel(),
        panels(figure)[0].get_ylabel(),
        panels(figure)[0].get_zlabel(),
    ]


def test_both_figures_are_saved_with_their_numbers(tmp_path, figure, explorer, frames):
    files = save("trex_fig2", figure, explorer, {"summary": frames["summary"]}, folder=tmp_path)
    assert {path.name for path in files.values()} == {f"trex_fig2.{kind}" for kind in ("png", "pdf", "html", "json")}
