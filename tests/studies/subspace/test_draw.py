"""What the figures of notebook 03 contain: every size, system, layer and count, with its number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.subspace import draw_approximation, draw_intuition, draw_systems, draw_used, span, used
from moe_analysis.studies.subspace import draw_span as draw
from moe_analysis.studies.subspace import parameters as counts
from moe_analysis.studies.subspace import theorems as frames
from tests.studies.fake_result import Found


def texts(panel) -> list[str]:
    return [text.get_text() for text in panel.texts if text.get_text()]


def legend(panel) -> list[str]:
    return [text.get_text() for text in panel.get_legend().get_texts()]


@pytest.fixture(scope="module")
def ranks() -> pd.DataFrame:
    return span.rank_plot_frame(3)


@pytest.fixture(scope="module")
def budgets() -> pd.DataFrame:
    return span.span_by_budget([4096, 8192], 128, 128, num_experts=8)


@pytest.fixture(scope="module")
def trained() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    rows, energies = [], []
    for method, experts in (("LoRA-MoE", 4), ("T-REX", 6)):
        for seed in (0, 1):
            for layer in (0, 1):
                gates, module = rng.random((30, experts)), f"layers.{layer}.self_attn.v_proj"
                rows.append(
                    {
                        "method": method,
                        "seed": seed,
                        "module": module,
                        "layer": layer,
                        "target": "v_proj",
                        **used.used_dimension(gates),
                    }
                )
                energy = used.routing_spectrum(gates) ** 2
                beyond = np.append(energy[::-1].cumsum()[::-1], 0) / energy.sum()
                energies.append(
                    pd.DataFrame(
                        {
                            "method": method,
                            "seed": seed,
                            "module": module,
                            "direction": np.arange(experts + 1),
                            "beyond": beyond,
                        }
                    )
                )
    return pd.DataFrame(rows), used.energy_bands(pd.concat(energies))


def layer_of(in_features: int, out_features: int) -> Found:
    table = counts.figure1_parameters(in_features, out_features)
    return Found(in_features=in_features, out_features=out_features, parameters=table)


def test_figure_one_draws_as_many_experts_and_vectors_as_were_counted():
    lora, mixture, trex = draw_systems.plot(layer_of(20, 10)).axes
    titles = [panel.get_title(loc="center") for panel in (lora, mixture, trex)]
    assert titles == ["(a) LoRA", "(b) LoRA-MoE", "(c) T-REX"]
    assert [f"$A_{number}$" in texts(mixture) for number in (1, 6, 7)] == [True, True, False]
    assert sum(text.startswith("$g_") for text in texts(mixture)) == 6
    assert sum(text.startswith("$a_") for text in texts(trex)) == 2
    assert sum(text.startswith("$b_") for text in texts(trex)) == 3
    experts = [text for text in texts(trex) if text.startswith("$G_")]
    assert sorted(experts) == [f"$G_{{{i}{j}}}$" for i in (1, 2) for j in (1, 2, 3)]


def test_figure_one_says_what_each_system_costs():
    figure = draw_systems.plot(layer_of(20, 10))
    panels = figure.axes
    assert "1 update from 6 down + 6 up vectors\n180 factors = 180" in texts(panels[0])
    assert "180 factors + 120 routing = 300" in texts(panels[1])[-1]
    assert "6 experts from 2 down + 3 up vectors\n70 factors + 122 routing = 192" in texts(panels[2])
    assert figure.get_supxlabel().startswith("Trainable parameters of a layer from 20 to 10 features")


def test_the_explorer_has_a_point_a_size_and_buttons_for_what_is_counted(ranks):
    independent = ranks.loc[ranks["kind"] == "independent", ["I", "J", "measured"]]
    sizes = counts.parameters_of_sizes(list(independent.itertuples(index=False, name=None)), 20, 10)
    fig = draw_systems.interactive(Found(sizes=sizes))
    assert {trace.name: len(trace.x) for trace in fig.data} == {"T-REX": 9, "LoRA-MoE": 3, "LoRA": 3}
    assert all(text in fig.data[0].hovertemplate for text in ("I = ", "J = ", "measured span", "factor parameters"))
    assert fig.data[0].customdata[5].tolist() == [2, 3, 6, 6, 70, 192]
    factors, everything = fig.layout.updatemenus[0].buttons
    assert factors.args[0]["x"][0][5] == fig.data[0].x[5] == 70 and everything.args[0]["x"][0][5] == 192


def test_the_heat_map_names_the_measured_span_of_every_size(ranks, budgets):
    heat, kinds, *_ = draw.plot(Found(ranks=ranks, budgets=budgets)).axes
    assert [int(text) for text in texts(heat)] == [1, 2, 3, 2, 4, 6, 3, 6, 9]
    assert (heat.get_xlabel(), heat.get_ylabel()) == ("down vectors I", "up vectors J")
    assert kinds.get_title(loc="left") == "(b) equals rank(A)·rank(B) in 45 of 45"
    assert legend(kinds) == ["independent", "dependent", "repeated", "zero", "narrow"]


def test_a_wrong_span_shows_in_the_title(ranks, budgets):
    wrong = ranks.assign(measured=[7, *ranks["measured"][1:]])
    assert "44 of 45" in draw.plot(Found(ranks=wrong, budgets=budgets)).axes[1].get_title(loc="left")


def test_each_way_of_counting_has_a_panel_with_a_line_a_system(ranks, budgets):
    panels = draw.plot(Found(ranks=ranks, budgets=budgets)).axes[2:]
    assert [panel.get_title(loc="left") for panel in panels] == [
        "(c) budget for factors only",
        "(d) budget for factors and router",
    ]
    assert legend(panels[-1]) == list(frames.LABELS.values())
    lines = {line.get_label(): line.get_ydata().tolist() for line in panels[0].lines}
    assert lines["mix-and-match"] == [256, 1024] and lines["rank-1 diagonal"] == [16, 32]
    assert len({line.get_color() for line in panels[0].lines}) == 4
    assert all(panel.get_yscale() == panel.get_xscale() == "log" for panel in panels)


def test_the_interactive_span_tells_both_ranks(ranks, budgets):
    fig = draw.interactive(Found(ranks=ranks, budgets=budgets))
    assert len(fig.data) == 5 + 2 * 4
    assert (
        fig.data[1].customdata.tolist()
        == ranks.loc[ranks["kind"] == "dependent", ["I", "J", "rank_a", "rank_b", "predicted", "measured"]]
        .to_numpy()
        .tolist()
    )
    assert "rank(A)" in fig.data[0].hovertemplate and fig.data[0].x.dtype == np.float32
    assert [trace.name for trace in fig.data if trace.showlegend] == list(frames.LABELS.values())


def test_trained_runs_show_energy_and_a_dot_a_layer_and_seed(trained):
    table, bands = trained
    energy, rank, effective = draw_used.plot(Found(used=table, energy=bands)).axes
    assert legend(energy) == ["LoRA-MoE", "T-REX"] and texts(energy) == ["4 experts", "6 experts"]
    curve = energy.lines[0].get_xydata()
    assert curve[0].tolist() == [0, 1] and len(curve) == 4  # nothing is left after the fourth direction
    assert energy.get_yscale() == "log"
    for panel, measure in ((rank, "rank_0.01"), (effective, "effective_rank")):
        dots = np.concatenate([artist.get_offsets()[:, 1] for artist in panel.collections[::2]])
        assert sorted(dots) == pytest.approx(sorted(table[measure].astype(float)))
        assert [label.get_text() for label in panel.get_xticklabels()] == ["0 v", "1 v"]
        assert used.USED_MEASURES[measure] in panel.get_title(loc="left")


def test_the_interactive_ranks_switch_between_measures(trained):
    table, bands = trained
    fig = draw_used.interactive(Found(used=table, energy=bands))
    assert [trace.name for trace in fig.data] == ["LoRA-MoE", "T-REX"] * 2
    first, second = fig.layout.updatemenus[0].buttons
    assert list(first.args[1]) == list(second.args[1]) == [2, 3]
    mixture = table[table["method"] == "LoRA-MoE"]
    assert second.args[0]["y"][0] == pytest.approx(mixture["effective_rank"])
    assert fig.data[2].customdata[:, 1].tolist() == [4] * 4


@pytest.fixture(scope="module")
def errors() -> pd.DataFrame:
    rows = [
        (family, count, method, "3", error, 0.9 * error, 1.1 * error, method == "mix-and-match")
        for family in ("shared", "clustered")
        for count in ("factors", "factors+router")
        for method, error in (("LoRA", 0.9), ("rank-1 diagonal", 0.4), ("mix-and-match", 0.01))
    ]
    return pd.DataFrame(rows, columns=["family", "count", "method", "size", "mean", "low", "high", "best"])


def test_errors_have_a_dot_a_system_and_count_and_a_ring_at_the_best(errors):
    fig = draw_approximation.plot(Found(summary=errors))
    assert [panel.get_title(loc="left") for panel in fig.axes] == ["(a) shared targets", "(b) clustered targets"]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["LoRA", "rank-1 diagonal", "mix-and-match"]
    rings = [dot for dot in fig.axes[0].collections if len(dot.get_facecolor()) == 0]
    assert len(rings) == 2 and [ring.get_offsets()[0, 0] for ring in rings] == [0.01, 0.01]
    assert len(fig.axes[0].collections) == 6 + 2 and fig.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "budget for factors only",
        "budget for factors and router",
        "best with this budget",
    ]


def test_interactive_errors_carry_sizes_and_ranges(errors):
    fig = draw_approximation.interactive(Found(summary=errors))
    assert len(fig.data) == 4 and [trace.showlegend for trace in fig.data] == [True, True, False, False]
    assert fig.data[0].text.tolist() == ["3"] * 3
    assert fig.data[0].customdata[2] == pytest.approx([0.009, 0.011])
    assert fig.data[0].error_x.array == pytest.approx(np.float32([0.09, 0.04, 0.001]), rel=1e-4)


@pytest.fixture(scope="module")
def noise() -> pd.DataFrame:
    rows = [
        (prior, seed, step, 10.0 * (1 + step) * (1 + seed) * factor, 0.5, 1.0)
        for prior, factor in (("none", 1.0), ("aligned", 0.5), ("mismatched", 1.2))
        for seed in (0, 1, 2)
        for step in (0, 10)
    ]
    return pd.DataFrame(rows, columns=["prior", "seed", "step", "noise_to_signal", "omega", "loss"])


def test_line_searches_are_drawn_with_their_closed_form_and_noise_with_its_control(noise):
    searches = frames.line_search_frame(points=11)
    ratios = frames.noise_against_none(noise)
    fig = draw_intuition.plot(Found(searches=searches, noise=noise, ratios=ratios))
    search, raw, ratio = fig.axes
    dots = [tuple(line.get_xydata()[0]) for line in search.lines if line.get_marker() == "o"]
    closed = searches.drop_duplicates("case")[["best_omega", "best_loss"]]
    assert dots == [pytest.approx(row) for row in closed.itertuples(index=False, name=None)]
    assert [text.get_text().split(" (")[0] for text in fig.legends[0].get_texts()] == list(frames.CASES)
    assert legend(raw) == ["no prior", "aligned prior", "mismatched prior"] and raw.get_yscale() == "log"
    assert raw.lines[1].get_ydata().tolist() == [10, 110]
    assert legend(ratio) == ["aligned prior", "mismatched prior"]
    assert ratio.get_ylabel() == "noise / noise without prior"


def test_the_interactive_noise_has_a_line_a_prior_and_seed(noise):
    fig = draw_intuition.interactive(Found(searches=frames.line_search_frame(points=11), noise=noise))
    lines = [trace for trace in fig.data if "noise to signal" in trace.hovertemplate]
    assert len(lines) == 9 and [line.name for line in lines if line.showlegend] == list(
        draw_intuition.PRIOR_LABELS.values()
    )
    assert sum("closed form" in trace.hovertemplate for trace in fig.data) == 4
