"""What Figs. 2 and 3 of S'MoRE and the drawing of one token's tree contain."""

from __future__ import annotations

import json
from math import log10

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from moe_analysis.adapters import Smore, SmoreConfig
from moe_analysis.drawing.save import save
from moe_analysis.studies.flexibility import ThreeTrees, draw, draw_trees, measure, measure_trees
from moe_analysis.studies.flexibility.claims import counting_claims, trees_claim
from moe_analysis.studies.flexibility.measure import (
    FIGURE3_OUTPUTS,
    SYSTEMS,
    enumerated_outputs,
)
from moe_analysis.studies.trees import draw_tree as draw_token
from moe_analysis.studies.trees.draw_tree import (
    ROOT,
    draw_tree,
    expert_color,
    hover,
    node_radius,
    tree_layout,
)
from moe_analysis.studies.trees.residual_tree import residual_tree
from moe_analysis.theory.flexibility import flexibility_table
from tests.studies.fake_result import Found


@pytest.fixture(scope="module")
def numbers():
    return flexibility_table(4, 2, range(1, 6), SYSTEMS), enumerated_outputs(4, 2, (1, 2))


@pytest.fixture(scope="module")
def tree():
    torch.manual_seed(0)
    layer = Smore(8, 6, SmoreConfig(num_experts=[4, 3, 4], fanout=[2, 1, 3], r=2, key_dim=4, down_dim=5))
    for parameter in layer.parameters():
        parameter.data.normal_(0.0, 0.4)
    return residual_tree(layer, torch.randn(8))


def counted(table: pd.DataFrame, points: pd.DataFrame) -> Found:
    return Found(table=table, points=points, sizes="s = 4, f = 2")


def one_token(tree: pd.DataFrame) -> Found:
    shown = tree.assign(token=0, word="mouse", seed=0)
    return Found(shown=shown, trees=shown, place="a prompt")


def test_every_system_has_its_curve_and_its_enumerated_points_on_it(numbers):
    table, points = numbers
    panel = draw.plot(counted(table, points)).axes[0]
    lines = {line.get_label(): line for line in panel.lines}
    assert len(lines) == 2 * len(SYSTEMS)
    for system in SYSTEMS:
        curve = lines[f"{system}, {'bound' if system == 'MoMOR' else 'closed form'}"]
        dots = lines[f"{system}, enumerated"]
        expected = table[table["system"] == system]
        np.testing.assert_allclose(curve.get_ydata(), [log10(value) for value in expected["flexibility"]])
        assert curve.get_xdata().tolist() == [1, 2, 3, 4, 5] and dots.get_xdata().tolist() == [1, 2]
        np.testing.assert_allclose(dots.get_ydata(), curve.get_ydata()[:2])
        assert to_hex(curve.get_color()) == to_hex(dots.get_color()) == draw.COLORS[system].lower()
    assert draw.plot(counted(table, points)).axes[0].yaxis.get_major_formatter()(5, 0) == "$10^{5}$"


def test_the_interactive_fig2_gives_exact_numbers(numbers):
    fig = draw.interactive(counted(*numbers))
    given = {trace.name: list(trace.customdata) for trace in fig.data}
    assert given["S'MoRE"][:4] == ["6", "216", "279,936", "470,184,984,576"]
    assert given["S'MoRE*, enumerated"] == ["6", "126"]


def test_long_integers_are_shortened_and_short_ones_are_not():
    assert draw.exact(10**14) == "100,000,000,000,000"
    assert draw.exact(6**31) == f"1.326… × 10^{len(str(6**31)) - 1}"


def test_an_unknown_system_is_refused(numbers):
    table, points = numbers
    with pytest.raises(ValueError, match="table has the unknown systems LoRA; known are MoMOR"):
        draw.plot(counted(table.assign(system="LoRA"), points))


def test_equal_outputs_share_a_letter_and_a_color():
    found = measure_trees()
    outputs, fig = found.outputs, draw_trees.plot(found)
    panels = np.array(fig.axes).reshape(2, 3)
    letters = [
        [text.get_text() for text in panel.texts if text.get_text().startswith("output ")] for panel in panels[1]
    ]
    bars = [[to_hex(patch.get_facecolor()) for patch in panel.patches] for panel in panels[1]]
    for row, (system, count) in enumerate(FIGURE3_OUTPUTS.items()):
        assert list(outputs)[row] == system
        assert len({tree[row] for tree in letters}) == len({tree[row] for tree in bars}) == count
    said = [text.get_text() for text in panels[1, -1].texts][-3:]
    assert said == ["1 output", "2 outputs", "3 outputs"]


def test_the_three_trees_are_drawn_with_the_papers_names():
    found = measure_trees()
    for panel, (label, tree) in zip(draw_trees.plot(found).axes[:3], found.trees.items()):
        leaves = [f"0,{leaf}" for _, below in tree for leaf, _ in below]
        names = {text.get_text(): text.get_position() for text in panel.texts}
        assert panel.get_title(loc="center") == f"({label})" and set(names) == {"$x'$", "1,1", "1,2", *leaves}
        assert sorted(leaves, key=lambda name: names[name][0]) == leaves
        assert len(panel.lines) == 6 + 7  # edges and nodes


def test_the_interactive_fig3_says_every_systems_output_at_the_root():
    fig = draw_trees.interactive(measure_trees())
    roots = [trace.hovertext[0] for trace in fig.data if trace.mode == "markers+text"]
    assert roots == [
        f"MoMOR: output A<br>S'MoRE*: output {second}<br>S'MoRE: output {third}" for second, third in ("AA", "BB", "BC")
    ]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25))
def test_nodes_of_a_layer_never_meet_and_parents_stand_above_the_middle(parents: list[int]):
    """Random trees whose leaves may lie at any depth."""
    rows = [(0, -1, 0)]
    for node, choice in enumerate(parents, start=1):
        parent = choice % node
        rows.append((node, parent, rows[parent][2] + 1))
    frame = pd.DataFrame(rows, columns=["node", "parent", "depth"])
    placed = tree_layout(frame.assign(layer=frame["depth"].max() - frame["depth"]))
    assert placed["x"].between(0, 1, inclusive="neither").all()
    for _, layer in placed.groupby("layer"):
        assert layer["x"].round(9).is_unique
    for parent, children in placed[placed["parent"] >= 0].groupby("parent"):
        assert placed["x"][parent] == pytest.approx(children["x"].mean())


def test_every_node_of_the_tree_is_drawn_with_its_expert_and_its_score(tree):
    panel = draw_tree(Figure().subplots(), tree, "a token")
    assert panel.get_title(loc="center") == "a token"
    dots = [line for line in panel.lines if line.get_marker() == "o"]
    assert len(dots) == len(tree) == 1 + 3 + 3 + 6 and len(panel.lines) == 2 * len(tree) - 1
    colors = [to_hex(dot.get_color()) for dot in dots]
    assert colors == [to_hex(expert_color(expert)) for expert in tree["expert"]] and colors[0] == ROOT.lower()
    np.testing.assert_allclose([dot.get_markersize() for dot in dots], node_radius(tree["share"]))
    texts = [text.get_text() for text in panel.texts]
    assert all(f"{score:.2f}" in texts for score in tree["score"][1:])
    edges = [line.get_linewidth() for line in panel.lines if line.get_marker() != "o"]
    np.testing.assert_allclose(edges, 0.5 + 3.0 * tree["score"][1:])


def test_areas_follow_contributions_and_nothing_still_shows():
    sizes = node_radius(pd.Series([1.0, 0.25, 0.0]))
    assert sizes[2] > 0 and (sizes[0] - sizes[2]) == pytest.approx(2 * (sizes[1] - sizes[2]))
    assert (node_radius(pd.Series([0.0, 0.0])) == sizes[2]).all()  # at the start W_proj = 0
    assert (node_radius(pd.Series([np.nan, np.nan])) == sizes[2]).all()


def test_a_node_tells_expert_score_similarity_and_contribution(tree):
    fig = draw_token.interactive(one_token(tree))
    said = fig.data[-1].hovertext
    assert len(said) == len(tree) and said[0].startswith("the layer's output<br>norm")
    for text, (_, node) in zip(said[1:], tree[1:].iterrows()):
        assert f"expert {int(node['expert'])} of pool {int(node['layer'])}<br>" in text
        assert f"score {node['score']:.3f}" in text
        assert f"key similarity {node['similarity']:.3f}" in text and f"{node['contribution']:.4g}" in text
    assert "this gate does not compare vectors" in hover(tree.assign(similarity=np.nan).iloc[1])


def test_the_pictures_can_be_saved(tree, numbers, tmp_path):
    written = save(
        "smore_tree", draw_token.plot(one_token(tree)), draw_token.interactive(one_token(tree)), tree, folder=tmp_path
    )
    record = json.loads(written["json"].read_text())
    assert record["numbers"][0]["similarity"] is None and len(record["numbers"]) == len(tree)
    save(
        "smore_fig2",
        draw.plot(counted(*numbers)),
        draw.interactive(counted(*numbers)),
        {"table": numbers[0], "points": numbers[1]},
        folder=tmp_path,
    )
    assert str(6**31) in (tmp_path / "smore_fig2.json").read_text()


def test_enumeration_reaches_the_papers_numbers_and_the_claims_say_so():
    points = enumerated_outputs(4, 2, layers=(1, 2))
    assert dict(points.set_index(["system", "layers"])["outputs"]) == {
        ("S'MoRE*", 1): 6,
        ("S'MoRE", 1): 6,
        ("MoMOR", 1): 6,
        ("S'MoRE*", 2): 126,
        ("S'MoRE", 2): 216,
        ("MoMOR", 2): 66,
    }
    table = flexibility_table(4, 2, (1, 2, 3))
    assert {claim.verdict for claim in counting_claims(table, points)} == {"holds"}
    wrong = counting_claims(table, points.assign(outputs=points["outputs"] + 1))
    assert {claim.verdict for claim in wrong} == {"fails"} and wrong[0].residual == 1.0
    fewer = counting_claims(table, points.assign(outputs=points["outputs"] - 1))
    verdicts = {claim.source: claim.verdict for claim in fewer}
    assert verdicts["S'MoRE Theorem 3.3"] == "holds" and verdicts["S'MoRE Theorem 3.4"] == "fails"


def test_the_three_trees_have_the_same_experts_and_one_two_or_three_outputs():
    three = measure_trees()
    trees, outputs = three.trees, three.outputs
    uses = [
        (sorted(parent for parent, _ in tree), sorted(leaf for _, below in tree for leaf, _ in below))
        for tree in trees.values()
    ]
    assert uses == [([1, 2], [1, 2, 3, 4])] * 3
    found = {system: len(set(values)) for system, values in outputs.items()}
    assert found == FIGURE3_OUTPUTS
    assert outputs["S'MoRE*"][1] == outputs["S'MoRE*"][2] != outputs["S'MoRE*"][0]
    assert trees_claim(three).verdict == "holds"
    wrong = ThreeTrees(trees=trees, outputs={**outputs, "MoMOR": outputs["S'MoRE"]})
    assert trees_claim(wrong).verdict == "fails"


def test_a_result_of_one_panel_draws_into_axes_and_one_of_several_refuses_them():
    found = measure(3, 2, (1, 2))
    panel = Figure().subplots()
    assert found.plot(panel) is panel and panel.get_title(loc="center") == "structural flexibility, s = 3, f = 2"
    with pytest.raises(ValueError, match="smore_fig3 has several"):
        measure_trees().plot(panel)
    with pytest.raises(ValueError, match="smore_fig3 has no controls"):
        measure_trees().widget()
