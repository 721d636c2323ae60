"""What the figures of routing and their interactive twins contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.drawing.save import save
from moe_analysis.evidence.intervals import mean_interval
from moe_analysis.studies.routing import agreement, draw, draw_agreement, draw_experts, load, specialization
from moe_analysis.studies.routing.agreement import AGREEMENT
from tests.studies.drawn_texts import outside, overlaps
from tests.studies.fake_result import Found
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


def agreed(frames) -> Found:
    return Found(seeds=frames["seeds"], layers=frames["layers"], untrained=frames["untrained_seeds"])


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
    with pytest.raises(ValueError, match="shares has 18 routers; pass the rows of one method, seed and module"):
        draw_experts.lift_grid(frames["shares"])


def test_experts_without_load_are_left_out_and_unused_ones_drawn_at_the_end_of_the_scale(frames):
    rows = one_router(frames["shares"])
    rows = rows[rows["method"] == "LoRA-MoE"].copy()
    rows.loc[rows["expert"] == 3, "log_lift"] = np.nan
    rows.loc[(rows["expert"] == 2) & (rows["label"] == "a"), "log_lift"] = -np.inf
    assert sorted(draw_experts.lift_grid(rows).columns) == [0, 1, 2]
    draw_experts.specialists_figure(rows).draw_without_rendering()


def test_a_panel_for_every_method_on_one_scale_and_in_one_order_of_rows(frames):
    own = one_router(frames["shares"])
    fig, order = draw_experts.plot(Found(shown=own)), draw_experts.common_order(own)
    panels = [panel for panel in fig.axes if panel.images and panel.get_title()]
    assert [panel.get_title() for panel in panels] == list(METHODS)
    assert sorted(order) == sorted(set(own["label"]))
    for panel, method in zip(panels, METHODS):
        rows = own[own["method"] == method]
        grid = draw_experts.lift_grid(rows, order)
        assert list(grid.index) == order and sorted(grid.columns) == list(range(METHODS[method]))
        np.testing.assert_allclose(panel.images[0].get_array(), grid)
        assert panel.images[0].get_clim() == (-2, 2) and panel.get_xlabel() == f"{METHODS[method]} experts"
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == order
    assert fig.get_supxlabel() == "2 seeds, 4 steps. One router of each system, seed 1: layer 1, q_proj."
    assert overlaps(fig) == [] and outside(fig) == []
    twin = draw_experts.interactive(Found(shown=own))
    assert [list(trace.y) for trace in twin.data] == [order] * len(METHODS)


def test_routers_of_other_places_are_named_below(frames):
    own = one_router(frames["shares"])
    module = own["module"].where(own["method"] != "T-REX", "layers.0.up_proj pool 1")
    words = draw_experts.routers_shown(own.assign(module=module))
    assert words == "One router of each system, seed 1: layer 1, q_proj; T-REX: layer 0, up_proj pool 1."


def test_the_common_order_weighs_every_router_the_same():
    def router(name: str, labels: list[str], strength: float) -> pd.DataFrame:
        half = len(labels) // 2
        lifts = strength * np.where(np.arange(len(labels)) < half, 1.0, -1.0)
        return pd.DataFrame(
            {
                "method": name,
                "seed": 0,
                "module": "a",
                "label": np.repeat(labels, 2),
                "expert": np.tile([0, 1], len(labels)),
                "log_lift": np.stack([lifts, -lifts], axis=1).ravel(),
            }
        )

    loud, others = router("loud", list("abcd"), 2.0), [router(name, list("acbd"), 0.1) for name in ("one", "other")]
    order = draw_experts.common_order(pd.concat([loud, *others]))
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}


@pytest.fixture(scope="module")
def panels(frames):
    fig = draw.plot(Found(trained=frames["trained"], untrained=frames["untrained"], loads=frames["summary"]))
    return dict(zip("abcd", fig.axes)), fig


@pytest.mark.parametrize("letter, view", [("a", "gates"), ("b", "top1")])
def test_information_is_a_row_for_each_system_on_a_log_axis_with_intervals_over_seeds(panels, frames, letter, view):
    panel = panels[0][letter]
    assert panel.get_xscale() == "log" and panel.get_title(loc="left") == f"({letter}) {draw.VIEWS[view]}"
    bars = {one.get_label(): one for one in panel.containers}
    assert list(bars) == ["data set", "cluster"]
    for label, name in (("dataset", "data set"), ("cluster", "cluster")):
        rows = draw.of(frames["trained"], label, view)
        line, _, (whiskers,) = bars[name]
        for place, method in enumerate(METHODS):
            seeds = 100 * rows[rows["method"] == method].groupby("seed")["normalized"].mean().to_numpy()
            mean, low, high = mean_interval(seeds)
            assert line.get_xydata()[place, 0] == pytest.approx(max(mean, draw.FLOOR))
            ends = whiskers.get_segments()[place][:, 0]
            assert ends == pytest.approx([max(low, draw.FLOOR), max(high, draw.FLOOR)])
    starts = [line for line in panel.lines if line.get_label() == "before training"]
    assert len(starts) == 1 and starts[0].get_markerfacecolor() == "none"


def test_what_is_not_above_shuffled_texts_stands_at_the_left_edge(frames):
    nothing = frames["trained"].assign(normalized=-0.01)
    panel = draw.plot(Found(trained=nothing, untrained=nothing, loads=frames["summary"])).axes[0]
    edges = [line for line in panel.lines if line.get_marker() == "<"]
    assert edges and all(set(line.get_xdata()) == {draw.FLOOR} for line in edges)
    means = draw.information_means(nothing, frames["untrained"])
    assert (means.loc[means["stage"] == "trained", "mean"] == -1).all()  # the tables keep what was measured


def test_evenness_and_load_have_a_mark_and_the_extremes_of_routers_for_each_system(panels, frames):
    for letter, column in (("c", "token_entropy"), ("d", "top1_balance")):
        (bars,) = panels[0][letter].containers
        own = frames["summary"].groupby("method", sort=False)[column]
        np.testing.assert_allclose(bars.lines[0].get_xydata()[:, 0], own.mean())
        ends = np.array(bars.lines[2][0].get_segments())[:, :, 0]
        np.testing.assert_allclose(ends, np.stack([own.min(), own.max()], axis=1))


def test_the_legend_names_what_is_told_and_the_start(panels):
    texts = [text.get_text() for text in panels[1].legends[0].get_texts()]
    assert texts == ["data set", "cluster", "before training"]


def test_agreement_has_a_row_for_every_system_with_its_means_and_matrices(frames):
    fig = draw_agreement.plot(agreed(frames))
    dots, *maps = fig.axes
    maps = [panel for panel in maps if panel.images]
    assert [tick.get_text() for tick in dots.get_yticklabels()] == list(METHODS) and len(maps) == 4
    for panel, method in zip(maps[1::2], METHODS):
        matrix = np.asarray(panel.images[0].get_array())
        rows = frames["seeds"][frames["seeds"]["method"] == method]
        pair = rows[(rows["seed"] == 0) & (rows["other_seed"] == 2)][AGREEMENT].mean()
        assert matrix[0, 2] == matrix[2, 0] == pytest.approx(pair) and (np.diag(matrix) == 1).all()
    marks = {bars.get_label(): bars[0].get_xydata()[:, 0] for bars in dots.containers}
    assert list(marks) == ["pairs of seeds before training", "pairs of seeds", "pairs of layers"]
    for what, name, by in (
        ("pairs of seeds before training", "untrained_seeds", ["seed", "other_seed"]),
        ("pairs of seeds", "seeds", ["seed", "other_seed"]),
        ("pairs of layers", "layers", "seed"),
    ):
        own = [frames[name][frames[name]["method"] == method] for method in METHODS]
        np.testing.assert_allclose(marks[what], [rows.groupby(by)[AGREEMENT].mean().mean() for rows in own])
    assert [float(text.get_text()) for text in dots.texts] == pytest.approx(marks["pairs of seeds"], abs=0.006)


def test_runs_and_the_meaning_of_bars_stand_below_and_no_texts_meet(frames, panels):
    for figure in (draw_agreement.plot(agreed(frames)), panels[1]):
        assert overlaps(figure) == [] and outside(figure) == []
        assert figure.get_supxlabel().startswith("2 seeds, 4 steps. Bars: 95 % intervals")


def test_each_choice_of_the_menus_shows_what_it_names(frames):
    fig = draw_experts.interactive(Found(shown=frames["shares"]))
    buttons = fig.layout.updatemenus[0].buttons
    assert len(buttons) == len(fig.data) == 18 and sum(trace.visible is True for trace in fig.data) == 1
    assert all(sum(button.args[0]["visible"]) == 1 for button in buttons)
    fig = draw.interactive(Found(trained=frames["trained"], loads=frames["summary"]))
    assert fig.layout.xaxis.type == "log" and fig.layout.title.subtitle.text.startswith("3 seeds: one dot")
    assert list(fig.layout.yaxis.ticktext) == list(METHODS)
    buttons = fig.layout.updatemenus[0].buttons
    for button, view in zip(buttons, draw.VIEWS, strict=True):
        shown = [trace for trace, visible in zip(fig.data, button.args[0]["visible"], strict=True) if visible]
        assert [trace.name for trace in shown] == ["data set", "semantic cluster", *draw.EVENNESS.values()]
        assert button.label == draw.VIEWS[view]
        for trace, label in zip(shown, ("dataset", "cluster")):
            rows, at_trex = draw.of(frames["trained"], label, view), np.round(trace.y) == 1
            expected = (100 * rows[rows["method"] == "T-REX"]["normalized"]).clip(lower=draw.FLOOR)
            np.testing.assert_allclose(trace.x[at_trex], expected, rtol=1e-5, atol=1e-5)
            assert {text.split(", ")[0] for text in np.asarray(trace.text)[at_trex]} == {"T-REX"}
    fig = draw_agreement.interactive(agreed(frames))
    assert [button.label for button in fig.layout.updatemenus[0].buttons] == list(METHODS)
    assert [trace.name for trace in fig.data[3:]] == ["LoRA-MoE"] * 2 + ["T-REX"] * 2
    assert fig.layout.updatemenus[0].buttons[1].args[0]["visible"] == [True] * 3 + [False, False, True, True]
    assert fig.layout.title.subtitle.text.startswith("3 seeds; bars: 95 % intervals")


def test_the_figures_can_be_saved(frames, panels, tmp_path):
    written = save(
        "routing",
        panels[1],
        draw.interactive(Found(trained=frames["trained"], loads=frames["summary"])),
        frames,
        folder=tmp_path,
    )
    assert written["png"].stat().st_size > 10_000
    drawn = draw_agreement.plot(agreed(frames))
    twin = draw_agreement.interactive(agreed(frames))
    written = save("agreement", drawn, twin, {}, folder=tmp_path)
    assert written["png"].stat().st_size > 10_000
