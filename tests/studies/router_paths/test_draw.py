"""What the two figures of router paths contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import METHOD_COLORS
from moe_analysis.evidence.intervals import method_summary
from moe_analysis.studies.convergence import loss_bands, loss_curves
from moe_analysis.studies.router_paths.draw import (
    HIGHLIGHTED,
    entropy_figure,
    of_seed,
    plot,
    trajectory_explorer,
    trajectory_figure,
)
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from moe_analysis.studies.router_paths.smoothness import MEASURES, smoothness
from tests.studies.drawn_texts import overlaps
from tests.studies.fake_result import Found
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
        "summary": method_summary(smooth, MEASURES),
        "bands": loss_bands(loss_curves(runs)),
    }


@pytest.fixture(scope="module")
def figure(frames):
    return plot(
        Found(**{name: frames[name] for name in ("paths", "axes", "smooth", "bands")}, smoothness=frames["summary"])
    )


@pytest.fixture(scope="module")
def explorer(frames):
    return trajectory_explorer(frames["paths"], frames["axes"])


def panels(figure):
    return [axes for axes in figure.axes if axes.name == "3d"]


def flat(figure, label):
    return next(axes for axes in figure.axes if f"{axes.get_xlabel()}|{axes.get_ylabel()}".find(label) >= 0)


def planes(figure):
    return [axes for axes in figure.axes if axes.get_xlabel().startswith("PC1") and axes.name != "3d"]


def words(figure):
    return [text.get_text() for part in figure.subfigs for text in part.texts]


def test_each_method_has_a_scene_and_a_plane_in_the_order_of_the_runs(figure):
    assert [text for text in words(figure) if text.startswith("(")] == [
        "(a) LoRA-MoE",
        "(b) mix-and-match",
        "(c) T-REX",
    ]
    assert len(panels(figure)) == len(planes(figure)) == len(METHODS)
    assert [text for text in words(figure) if "experts" in text] == [
        f"{count} experts, {count} paths" for count in METHODS.values()
    ]


def collapsed(frames, method="mix-and-match", copies=3):
    """The paths where every `copies` experts of a method go the way of the first of them."""
    paths = frames["paths"].copy()
    own = paths["method"] == method
    leader = paths.loc[own, "expert"] // copies * copies
    keys = ["method", "seed", "expert", "step"]
    moved = ["pc1", "pc2", "pc3", "distance"]
    paths.loc[own, moved] = paths[own].assign(expert=leader)[keys].merge(paths, on=keys, how="left")[moved].to_numpy()
    return paths


def test_experts_that_share_a_path_are_counted_at_its_end_in_both_drawings(frames):
    paths = collapsed(frames)
    figure = trajectory_figure(**{**frames, "paths": paths})
    (told,) = (text for part in figure.subfigs for text in part.texts if "only" in text.get_text())
    assert told.get_text() == "12 experts, only 4 paths" and told.get_bbox_patch() is not None
    counts = [[text.get_text() for text in plane.texts] for plane in planes(figure)]
    assert counts == [[], ["×3"] * 4, []]
    twin = trajectory_explorer(paths, frames["axes"])
    marked = [trace for trace in twin.data if "text" in trace.mode]
    assert [list(trace.text) for trace in marked] == [["×3"] * 4] * len(SEEDS)
    assert [trace.visible for trace in marked] == [True, False, False]
    assert any(trace.name == "mix-and-match<br>12 experts, only 4 paths" for trace in twin.data)


def test_the_seeds_and_what_bars_mean_stand_below_and_no_texts_meet(figure):
    assert figure.get_supxlabel().startswith("2 seeds, 4 steps. Paths of seed 0 at ")
    assert "95 % intervals over seeds" in figure.get_supxlabel()
    assert overlaps(figure) == []


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


def test_lines_are_colored_by_training_step_on_one_scale(figure):
    lines = [line for panel in panels(figure) for line in panel.collections if isinstance(line, Line3DCollection)]
    assert {(line.norm.vmin, line.norm.vmax) for line in lines} == {(0, STEPS - 1)}
    assert set(lines[0].get_array()) == set(range(1, STEPS))
    assert [axes for axes in figure.axes if axes.get_title() == "step"]


def test_ticks_are_short_numbers_in_the_power_of_ten_that_the_axis_states(frames):
    small = frames["paths"].assign(
        **{
            name: frames["paths"][name] * 1e-4 / frames["paths"][["pc1", "pc2", "pc3"]].abs().to_numpy().max()
            for name in ("pc1", "pc2", "pc3")
        }
    )
    figure = trajectory_figure(**{**frames, "paths": small})
    figure.canvas.draw()
    plane = planes(figure)[0]
    stated = plane.get_xlabel().partition("$10^{")[2].removesuffix("}$")
    assert stated in ("-4", "-5")
    shown = [float(label.get_text().replace("−", "-")) for label in plane.xaxis.get_ticklabels()]
    np.testing.assert_allclose(
        np.array(shown) * float(f"1e{stated}"), plane.xaxis.get_ticklocs(), rtol=1e-2, atol=1e-12
    )


def test_axis_labels_tell_the_variance_explained(figure, frames):
    expected = [f"PC{n} ({100 * share:.0f} %)" for n, share in enumerate(frames["axes"].explained, 1)]
    for panel in panels(figure):
        assert [panel.get_xlabel(), panel.get_ylabel(), panel.get_zlabel()] == ["PC1", "PC2", "PC3"]
    assert planes(figure)[0].get_ylabel().startswith(expected[1])
    assert all(plane.get_xlabel().startswith(expected[0]) for plane in planes(figure))


@pytest.mark.parametrize("label, measure", [("path length", "tortuosity"), ("turning angle", "turning_angle")])
def test_measures_are_a_dot_for_each_seed_with_mean_interval_and_reference(figure, frames, label, measure):
    panel = flat(figure, label)
    assert [tick.get_text() for tick in flat(figure, "path length").get_yticklabels()] == list(METHODS)
    dots = [dot.get_offsets()[:, 0] for dot in panel.collections if dot.get_offsets().shape[0] == len(SEEDS)]
    by_method = frames["smooth"].groupby("method", sort=False)[measure]
    np.testing.assert_allclose(dots, [values.to_numpy() for _, values in by_method])
    means = frames["summary"].query("measure == @measure")["mean"].tolist()
    assert [bar.lines[0].get_xdata()[0] for bar in panel.containers] == pytest.approx(means)
    noise = {"tortuosity": "momentum_tortuosity", "turning_angle": "momentum_angle"}[measure]
    dashes = [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == "--"]
    assert dashes == pytest.approx(frames["smooth"].groupby("method", sort=False)[noise].mean().tolist())


def test_losses_are_a_line_and_a_band_for_each_method_in_its_color(figure):
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


def test_the_paths_of_one_seed_are_taken_and_an_unknown_one_is_refused(frames):
    assert of_seed(frames["paths"], 1)["seed"].unique().tolist() == [1]
    with pytest.raises(ValueError, match="seed = 7 has no path; choose one of 0, 1, 2"):
        of_seed(frames["paths"], 7)


def test_one_seed_alone_is_drawn_without_interval(frames):
    smooth = frames["smooth"].query("seed == 0")
    paths = frames["paths"].query("seed == 0")
    one = {**frames, "paths": paths, "smooth": smooth, "summary": method_summary(smooth, MEASURES)}
    bars = flat(trajectory_figure(**one), "path length").containers
    lengths = [np.ptp(segment[:, 0]) for bar in bars for segment in bar.lines[2][0].get_segments()]
    assert lengths == pytest.approx([0.0] * len(METHODS))


def test_the_twin_shows_the_first_seed_and_names_each_method_once(explorer):
    shown = [trace for trace in explorer.data if trace.visible]
    assert [trace.name for trace in shown if trace.showlegend] == [
        f"{method}<br>{count} experts, {count} paths" for method, count in METHODS.items()
    ]
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
    trace = next(t for t in explorer.data if t.legendgroup == "T-REX" and t.showlegend and "seed 1" in t.hovertemplate)
    for part in ("T-REX, seed 1", "expert", "step", "loss"):
        assert part in trace.hovertemplate
    run = frames["paths"].query("method == 'T-REX' and seed == 1 and rank <= @HIGHLIGHTED")
    kept = ~np.isnan(trace.x)
    np.testing.assert_allclose(trace.customdata[kept], run[["expert", "step", "loss"]].to_numpy(np.float32))
    np.testing.assert_allclose(trace.z[kept], run["pc3"].to_numpy(np.float32))


def test_experts_are_not_joined_to_each_other(explorer):
    trace = explorer.data[0]
    assert np.isnan(trace.x).sum() == HIGHLIGHTED and trace.connectgaps is False


def test_the_twin_is_float32_and_labels_its_axes_with_the_variance_explained(explorer, frames):
    assert {trace.x.dtype for trace in explorer.data} == {np.dtype("float32")}
    scene = explorer.layout.scene
    expected = [f"PC{n} ({100 * share:.0f} %)" for n, share in enumerate(frames["axes"].explained, 1)]
    assert [axis.title.text for axis in (scene.xaxis, scene.yaxis, scene.zaxis)] == expected
    assert explorer.layout.title.subtitle.text.startswith("3 seeds")


def test_both_figures_are_saved_with_their_numbers(tmp_path, figure, explorer, frames):
    files = save("trex_fig2", figure, explorer, {"summary": frames["summary"]}, folder=tmp_path)
    assert {path.name for path in files.values()} == {f"trex_fig2.{kind}" for kind in ("png", "pdf", "html", "json")}
