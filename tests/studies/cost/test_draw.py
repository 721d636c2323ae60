"""What the figures of notebook 06 contain."""

from __future__ import annotations

import pandas as pd
import pytest

from moe_analysis.studies.cost import counting, draw_adapters, draw_routers, draw_tables, draw_tree
from moe_analysis.studies.cost.measure import measure_routers, measure_tables, measure_tree
from tests.studies.fake_result import Found


def texts(panel) -> list[str]:
    return [text.get_text() for text in panel.texts if text.get_text()]


@pytest.fixture(scope="module")
def shares() -> tuple[pd.DataFrame, pd.DataFrame]:
    return (
        counting.router_shares(counting.named_structures()),
        counting.router_shares(counting.protocol_structures(2)),
    )


@pytest.fixture(scope="module")
def tree() -> pd.DataFrame:
    return measure_tree().tree


@pytest.fixture(scope="module")
def costs() -> pd.DataFrame:
    rows = [
        ("LoRA", "experts", 60, 60, 60, 60, 0),
        ("LoRA", "router", 0, 0, 0, 0, 0),
        ("S'MoRE", "experts", 80, 40, 30, 70, 0),
        ("S'MoRE", "router", 20, 20, 25, 15, 5),
    ]
    return pd.DataFrame(rows, columns=["system", "part", *draw_adapters.QUANTITIES, "per_call"])


def test_the_drawing_has_the_trees_experts_and_scores(tree):
    propagation, routing = draw_tree.plot(Found(tree=tree, num_experts=[4, 4])).axes
    drawn, keys = texts(propagation), texts(routing)
    for layer in (0, 1):
        for expert in range(4):
            stands = ((tree["layer"] == layer) & (tree["expert"] == expert)).sum()
            assert drawn.count(f"$R_{layer}^{expert + 1}$") == 1 + stands  # once in its pool, once a node
    for node in tree[tree["parent"] >= 0].itertuples():
        assert f"{node.score:.2f}" in drawn and f"{node.score:.2f}" in keys


def test_a_gate_is_drawn_once_a_parent(tree):
    routing = draw_tree.plot(Found(tree=tree, num_experts=[4, 4])).axes[1]
    assert [sum(text.startswith(f"MLP$_{layer}$") for text in texts(routing)) for layer in (1, 0)] == [1, 2]
    assert [texts(routing).count(f"$k_{layer}^1$") for layer in (1, 0)] == [1, 2]


def test_parents_stand_above_the_middle_of_their_children(tree):
    nodes = draw_tree.layout(tree)
    for node in nodes:
        below = draw_tree.children(nodes, node)
        assert [child.expert for child in below] == sorted(child.expert for child in below)
        if below:
            assert node.x == pytest.approx(sum(child.x for child in below) / len(below)) and node.y > below[0].y
    leaves = sorted(node.x for node in draw_tree.of_layer(nodes, 0))
    assert leaves == [0.0, 1.5, 3.0, 4.5]


def test_pools_that_do_not_fit_the_tree_are_refused(tree):
    with pytest.raises(ValueError, match=r"num_experts = \[4\] has 1 pools but the tree has 2 layers"):
        draw_tree.plot(Found(tree=tree, num_experts=[4]))


def test_hover_tells_score_similarity_and_contribution(tree):
    fig = draw_tree.interactive(Found(tree=tree, num_experts=[4, 4]))
    nodes = next(trace for trace in fig.data if trace.name == "tree")
    row = tree.iloc[3]
    assert f"expert {int(row['expert']) + 1}<br>score {row['score']:.3f}" in nodes.hovertext[3]
    assert f"cosine of query and key {row['similarity']:.3f}" in nodes.hovertext[3]
    pool = next(trace for trace in fig.data if trace.name == "pool 0")
    assert sum(int(text.split("used at ")[1][0]) for text in pool.hovertext) == 4


def test_figure_five_draws_every_structure_and_way_of_counting(shares):
    named, protocol = shares
    first, second, third = draw_routers.plot(Found(named=named, protocol=protocol)).axes
    assert len(first.get_legend().get_texts()) == 6
    bars = [patch.get_height() for patch in second.patches]
    assert len(bars) == 6 * 4 and len(third.patches) == 4 * 4
    assert bars[0] == draw_routers.whole(named, "authors")["share"].iloc[0]
    assert third.get_title(loc="left") == "(c) r = 8, L = 2"
    for panel in (first, second, third):
        assert any(line.get_ydata()[0] == 0.26 for line in panel.lines)


def test_the_explorer_switches_between_projections(shares):
    named, protocol = shares
    fig = draw_routers.interactive(Found(named=named, protocol=protocol))
    buttons = {button.label: button for button in fig.layout.updatemenus[0].buttons}
    assert list(buttons) == ["all", "down", "up", "gate"] and len(fig.data) == 4
    named, protocol = shares
    expected = named.query("projection == 'down' and counts == 'authors'")["share"].iloc[0]
    assert buttons["down"].args[0]["y"][0][0] == pytest.approx(100 * expected)
    structures = set(named["structure"]) | set(protocol["structure"])
    assert all(set(trace.text) == structures for trace in fig.data)


def test_the_tables_show_printed_formula_and_module():
    table = counting.overhead_table()
    figure = draw_tables.plot(Found(table=table))
    for panel, (name, rows) in zip(figure.axes, table.groupby("table", sort=False)):
        assert name in panel.get_title(loc="left")
        assert sorted(texts(panel)) == sorted(str(value) for value in rows["printed"])
        assert len(panel.lines) == 6
    for panel in figure.axes:  # a count above the printed numbers is inside too
        low, high = panel.get_ylim()
        assert all(low < value < high for line in panel.lines for value in line.get_ydata())
    fig = draw_tables.interactive(Found(table=table))
    assert len(fig.data) == 12 and fig.data[0].customdata.shape == (3, 6)


def test_an_adapters_bars_are_stacked_from_experts_and_router(costs):
    held, computed = draw_adapters.plot(Found(costs=costs)).axes
    assert [text.get_text() for text in held.get_yticklabels()] == ["LoRA", "S'MoRE"]
    ends = [patch.get_x() + patch.get_width() for patch in held.patches]
    assert ends == pytest.approx([0.060, 0.080, 0.060, 0.100, 0.060, 0.040, 0.060, 0.060])
    assert [patch.get_width() for patch in computed.patches][:2] == pytest.approx([0.060, 0.070])
    buttons = draw_adapters.interactive(Found(costs=costs)).layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == list(draw_adapters.QUANTITIES.values())
    assert buttons[3].args[0]["x"][0].tolist() == [60, 70]


def test_a_result_draws_both_pictures_and_has_neither_axes_nor_knobs_to_offer():
    for found in (measure_tree(), measure_tables(), measure_routers(protocol=counting.protocol_structures(1))):
        assert found.plot().axes and found.interactive().data
        assert found.origin in ("exact, without training", "one token in one layer with random weights")
        with pytest.raises(ValueError, match=f"{found.item} has no controls"):
            found.widget()
        with pytest.raises(ValueError, match=f"{found.item} has several"):
            found.plot(found.plot().axes[0])
