"""What the figures of routing and their interactive twins contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import method_color
from moe_analysis.evidence.intervals import mean_interval
from moe_analysis.studies.routing import agreement, draw, draw_experts, load, specialization
from moe_analysis.studies.routing.agreement import AGREEMENT
from moe_analysis.studies.routing.draw_agreement import agreement_explorer, agreement_figure
from tests.studies.fake_routers import MODULES, named_run, soft, tokens_of

METHODS = {"LoRA-MoE": 4, "T-REX": 6}


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    tokens, generator = tokens_of(12), np.random.default_rng(0)

    def recordings() -> list:
        return [
            (
                named_run(seed, method, experts),
                {module: soft(generator, len(tokens), experts) for module in MODULES},
                tokens,
            )
            for method, experts in METHODS.items()
            for seed in range(3)
        ]

    trained, untrained = recordings(), recordings()
    labels = {"dataset": list("aabbcc" * 2), "cluster": list("xy" * 6)}
    return {
        "trained": specialization.specialization(trained, labels, permutations=5),
        "untrained": specialization.specialization(untrained, labels, permutations=5),
        "loads": load.expert_loads(trained),
        "summary": load.load_summary(trained),
        "shares": specialization.expert_shares(trained),
        "seeds": agreement.between_seeds(trained, 3),
        "layers": agreement.between_layers(trained, 3),
        "untrained_seeds": agreement.between_seeds(untrained, 3),
    }


def one_router(shares: pd.DataFrame) -> pd.DataFrame:
    return shares[(shares["seed"] == 1) & (shares["module"] == MODULES[2])]


def test_the_heat_map_shows_every_lift_and_sorts_like_beside_like(frames):
    rows = one_router(frames["shares"])
    rows = rows[rows["method"] == "T-REX"]
    grid = draw_experts.lift_grid(rows)
    for _, cell in rows.iterrows():
        assert grid.loc[cell["label"], cell["expert"]] == cell["log_lift"]
    names, experts = np.random.default_rng(1).permutation(6), np.random.default_rng(2).permutation(6)
    blocks = pd.DataFrame(
        {"method": "m", "seed": 0, "module": "a", "label": np.repeat(names, 6), "expert": np.tile(experts, 6)}
    )
    blocks["log_lift"] = np.where(blocks["label"] % 2 == blocks["expert"] % 2, 1.0, -1.0)
    sorted_grid = draw_experts.lift_grid(blocks)
    assert [name % 2 for name in sorted_grid.index] in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    assert [name % 2 for name in sorted_grid.columns] in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


def test_several_routers_in_one_heat_map_are_refused(frames):
    with pytest.raises(ValueError, match="shares holds 18 routers; pass the rows of one method, seed and module"):
        draw_experts.lift_grid(frames["shares"])


def test_experts_without_load_are_left_out_and_unused_ones_drawn_at_the_end_of_the_scale(frames):
    rows = one_router(frames["shares"])
    rows = rows[rows["method"] == "LoRA-MoE"].copy()
    rows.loc[rows["expert"] == 3, "log_lift"] = np.nan
    rows.loc[(rows["expert"] == 2) & (rows["label"] == "a"), "log_lift"] = -np.inf
    assert sorted(draw_experts.lift_grid(rows).columns) == [0, 1, 2]
    draw_experts.specialists_figure(rows).draw_without_rendering()


def test_a_panel_for_every_method_on_one_scale(frames):
    fig = draw_experts.specialists_figure(one_router(frames["shares"]))
    panels = [panel for panel in fig.axes if panel.images and panel.get_title(loc="right")]
    assert [panel.get_title(loc="right").split("\n")[0] for panel in panels] == list(METHODS)
    for panel, method in zip(panels, METHODS):
        own = one_router(frames["shares"])
        grid = draw_experts.lift_grid(own[own["method"] == method])
        np.testing.assert_allclose(panel.images[0].get_array(), grid)
        assert panel.images[0].get_clim() == (-2, 2) and panel.get_xlabel() == f"{METHODS[method]} experts"
        assert [tick.get_text() for tick in panel.get_yticklabels()] == list(grid.index)
        assert panel.get_title(loc="right").endswith("layer 1, q_proj")


@pytest.fixture(scope="module")
def panels(frames):
    fig = draw.routing_figure(*(frames[name] for name in ("trained", "untrained", "loads", "summary")))
    return dict(zip("abcdef", fig.axes)), fig


@pytest.mark.parametrize(
    "letter, view, label",
    [("a", "gates", "dataset"), ("b", "gates", "cluster"), ("d", "top1", "dataset"), ("e", "top1", "cluster")],
)
def test_information_stands_by_layer_with_intervals_over_seeds(panels, frames, letter, view, label):
    panel = panels[0][letter]
    lines = {bars.get_label(): bars for bars in panel.containers}
    for method in METHODS:
        rows = frames["trained"]
        rows = rows[(rows["method"] == method) & (rows["view"] == view) & (rows["label"] == label)]
        for place, layer in enumerate(("layers.0", "layers.1")):
            seeds = 100 * rows[rows["layer"] == layer].groupby("seed")["normalised"].mean().to_numpy()
            mean, low, high = mean_interval(seeds)
            line, _, (bar,) = lines[method]
            assert line.get_ydata()[place] == pytest.approx(mean)
            assert sorted(bar.get_segments()[place][:, 1]) == pytest.approx([low, high])
    rings = [bars[0] for bars in panel.containers if bars.get_label() not in METHODS]
    assert len(rings) == len(METHODS) and all(ring.get_markerfacecolor() == "none" for ring in rings)
    assert panel.get_title(loc="left") == f"({letter}) {draw.VIEWS[view]}, {draw.SHORT[label]}"


def test_load_curves_fall_and_have_mean_one_and_every_router_has_its_dot(panels, frames):
    curves = [line for line in panels[0]["c"].lines if len(line.get_xdata()) > 2]
    for line, (method, experts) in zip(curves, METHODS.items()):
        assert to_hex(line.get_color()) == method_color(method).lower() and len(line.get_xdata()) == experts
        assert (np.diff(line.get_ydata()) <= 0).all() and np.mean(line.get_ydata()) == pytest.approx(1.0)
    for line, method in zip(panels[0]["f"].lines, METHODS):
        rows = frames["summary"][frames["summary"]["method"] == method]
        np.testing.assert_allclose(line.get_xdata(), rows["token_entropy"])
        np.testing.assert_allclose(line.get_ydata(), rows["top1_balance"])


def test_the_legend_names_every_method_and_the_start(panels):
    texts = [text.get_text() for text in panels[1].legends[0].get_texts()]
    assert texts == [*METHODS, "before training"]


def test_agreement_stands_by_layers_and_by_seeds_and_as_intervals(frames):
    fig = agreement_figure(frames["seeds"], frames["layers"], frames["untrained_seeds"])
    maps = [panel for panel in fig.subfigs[0].axes if panel.images]
    assert [panel.get_title(loc="left") for panel in maps[:2]] == list(METHODS) and len(maps) == 4
    for panel, method in zip(maps[2:], METHODS):
        matrix = np.asarray(panel.images[0].get_array())
        rows = frames["seeds"][frames["seeds"]["method"] == method]
        pair = rows[(rows["seed"] == 0) & (rows["other_seed"] == 2)][AGREEMENT].mean()
        assert matrix[0, 2] == matrix[2, 0] == pytest.approx(pair) and (np.diag(matrix) == 1).all()
    below = fig.subfigs[1].axes[0]
    labels = below.get_legend_handles_labels()[1]
    assert sorted(labels) == ["pairs of layers", "pairs of seeds", "pairs of seeds before training"]
    marks = [bars[0].get_ydata()[0] for bars in below.containers]
    expected = [
        frame[frame["method"] == method].groupby(by)[AGREEMENT].mean().mean()
        for method in METHODS
        for frame, by in ((frames["seeds"], ["seed", "other_seed"]), (frames["layers"], "seed"))
    ]
    np.testing.assert_allclose(marks, expected)


def test_each_choice_of_the_menus_shows_what_it_names(frames):
    fig = draw_experts.specialists_explorer(frames["shares"])
    buttons = fig.layout.updatemenus[0].buttons
    assert len(buttons) == len(fig.data) == 18 and sum(trace.visible is True for trace in fig.data) == 1
    assert all(sum(button.args[0]["visible"]) == 1 for button in buttons)
    fig = draw.routing_explorer(frames["trained"], frames["summary"])
    for button, (label, view) in zip(
        fig.layout.updatemenus[0].buttons,
        [("dataset", "gates"), ("cluster", "gates"), ("dataset", "top1"), ("cluster", "top1")],
    ):
        shown = [trace for trace, visible in zip(fig.data, button.args[0]["visible"]) if visible]
        assert [trace.name for trace in shown] == [*METHODS, *METHODS]
        rows = draw.of(frames["trained"], label, view)
        expected = 100 * rows[rows["method"] == "T-REX"]["normalised"]
        np.testing.assert_allclose(shown[1].y, expected, rtol=1e-5, atol=1e-5)
        assert button.label == f"{draw.LABELS[label]}, {draw.VIEWS[view]}"
    fig = agreement_explorer(frames["seeds"], frames["layers"])
    assert [button.label for button in fig.layout.updatemenus[0].buttons] == list(METHODS)
    assert [trace.name for trace in fig.data] == ["LoRA-MoE"] * 2 + ["T-REX"] * 2
    assert fig.layout.updatemenus[0].buttons[1].args[0]["visible"] == [False, False, True, True]


def test_the_figures_can_be_saved(frames, panels, tmp_path):
    written = save(
        "routing", panels[1], draw.routing_explorer(frames["trained"], frames["summary"]), frames, folder=tmp_path
    )
    assert written["png"].stat().st_size > 10_000
    drawn = agreement_figure(frames["seeds"], frames["layers"], frames["untrained_seeds"])
    written = save("agreement", drawn, agreement_explorer(frames["seeds"], frames["layers"]), {}, folder=tmp_path)
    assert written["png"].stat().st_size > 10_000
