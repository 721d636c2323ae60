"""What a page draws is told apart: methods by color and dash, texts from their ground, trees by their nodes."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from moe_analysis.drawing.layout import least_width
from moe_analysis.drawing.style import METHOD_COLORS, PALETTE, method_dash, text_on
from moe_analysis.studies.cost import draw_routers
from moe_analysis.studies.cost import draw_tree as draw_example
from moe_analysis.studies.cost.counting import MOST
from moe_analysis.studies.optimizers.draw import progress_explorer
from moe_analysis.studies.routing.draw_experts import experts_used, specialists_figure
from moe_analysis.studies.routing.draw_experts import interactive as experts_page
from moe_analysis.studies.trees import draw_tree

from .made_up import FORMS, contrast, curves, example, shares, token, tree


def test_no_two_methods_share_their_color_and_their_dash():
    lines = {trace.name: (trace.line.color, trace.line.dash) for trace in progress_explorer(curves()).data}
    assert lines.keys() == set(FORMS) and len(set(lines.values())) == len(FORMS)
    assert {(METHOD_COLORS[name], method_dash(name)) for name in FORMS} == set(lines.values())


@given(st.sampled_from(PALETTE) | st.from_regex(r"#[0-9A-F]{6}", fullmatch=True))
def test_a_text_stands_out_from_any_ground(color):
    assert contrast(text_on(color), color) >= 4.5


def test_black_on_white_is_the_strongest_contrast():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21) and text_on("#FFFFFF") == "#000000"


@pytest.mark.parametrize(
    "fig",
    [draw_example.interactive(example()), draw_tree.interactive(token(2, 4, 16))],
    ids=["smore_fig1", "smore_tree"],
)
def test_numbers_at_the_nodes_of_a_tree_stand_out_from_their_color(fig):
    named = [trace for trace in fig.data if "text" in (trace.mode or "")]
    pairs = [pair for trace in named for pair in zip(trace.textfont.color, trace.marker.color, strict=True)]
    assert len({ground for _, ground in pairs}) >= 4
    assert min(contrast(*pair) for pair in pairs) >= 4.5


def test_numbers_in_the_picture_of_a_tree_stand_out_from_their_color():
    panel = draw_tree.draw_tree(Figure().subplots(), tree(2, 4, 16), "one token")
    grounds = {
        (line.get_xdata()[0], line.get_ydata()[0]): line.get_markerfacecolor()
        for line in panel.lines
        if line.get_marker() == "o"
    }
    numbers = [text for text in panel.texts if text.get_position() in grounds]
    assert len(numbers) == len(grounds) == 31
    assert min(contrast(text_on(grounds[one.get_position()]), grounds[one.get_position()]) for one in numbers) >= 4.5
    assert all(one.get_color() == text_on(grounds[one.get_position()]) for one in numbers)


def test_a_pool_with_an_expert_that_is_never_used_says_how_many_it_holds():
    assert experts_used(shares(4, 4)) == "4 experts" and experts_used(shares(4, 3)) == "3 of 4 experts used"
    label = specialists_figure(shares(4, 3)).axes[0].get_xlabel()
    assert " ".join(label.split()) == "3 of 4 experts used"
    both = pd.concat([shares(8, 8).assign(method="LoRA-MoE"), shares(4, 3)])
    fig = experts_page(SimpleNamespace(shown=both))
    titles = [button.args[1]["xaxis.title.text"] for button in fig.layout.updatemenus[0].buttons]
    assert titles == ["8 experts, sorted", "3 of 4 experts used, sorted"] and fig.layout.xaxis.title.text == titles[0]


def test_the_papers_bound_is_named_where_its_line_is():
    rows = pd.DataFrame(
        [
            {
                "structure": "4, 4",
                "projection": projection,
                "counts": counts,
                "total_rank": rank,
                "share": 1 / rank,
                "router": 1.0,
                "experts": float(rank),
            }
            for rank in (2, 64)
            for projection in ("gate", "up", "down", "all")
            for counts in ("authors", "per parent", "per parent, noise", "module")
        ]
    )
    fig = draw_routers.interactive(SimpleNamespace(named=rows, protocol=rows))
    (note,), (line,) = fig.layout.annotations, fig.layout.shapes
    assert 10**note.y == pytest.approx(line.y0) == pytest.approx(100 * MOST), "texts are placed by their exponent"


def test_a_tree_of_many_leaves_scrolls_and_a_small_one_fits_a_phone():
    assert least_width(draw_tree.interactive(token(2, 4, 16))) > 700
    assert least_width(draw_tree.interactive(token(2, 2, 4))) == 0
    assert least_width(draw_example.interactive(example())) == 0
