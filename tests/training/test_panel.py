"""The panel: what it says of runs, in a terminal, in a notebook and in a line."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from moe_analysis.cards.charts import heights, spark_bars, spark_curve
from moe_analysis.training.panel import MOST_ROWS, Panel, binned, blocks
from moe_analysis.training.progress import Live, Point, RunProgress, facts_of, latest, percent

POINTS = tuple(Point(step, 4.0 / step, 1 - step / 20, 0.25 + step / 20, float(step > 5)) for step in range(1, 11))
LIVE = Live(10, 0.4, 2, 8, math.nan, (0.7, 0.2, 0.1, 0.0), POINTS)
RUN = RunProgress("T-REX-embedded-s0-6a35c09d3e", "running", 10, 40, 20.0, live=LIVE)
PLAIN = replace(LIVE, routers=0, experts=0, load=(), points=tuple(Point(one.step, one.loss) for one in POINTS))
DONE = replace(RUN, name="done", state="finished", step=40, loss=0.5, accuracy=0.75)


def printed(*rows: RunProgress, width: int = 100, height: int = 40) -> str:
    """What a terminal of this size shows, without colors."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(Panel(rows))
    return console.file.getvalue()


def test_one_run_is_shown_in_full() -> None:
    lines = [line.split() for line in printed(RUN).splitlines()]
    assert lines[0] == [RUN.name, "running"] and lines[1][1:] == [
        "step",
        "10",
        "of",
        "40,",
        "about",
        "1:00",
        "min",
        "left",
    ]
    facts = {" ".join(line[:2]): " ".join(line[2:]) for line in lines[3:]}
    assert lines[2] == ["loss", "█▄▃▂▂▂▁▁▁▁", "0.400", "nats", "per", "answer", "token"]
    assert facts["gate entropy"] == "█▇▆▆▅▄▃▃▂▁ 0.50 1: equal gates, 0: one expert"
    assert facts["busiest expert"].endswith("75 % 25 % if all were equal")
    assert facts["expert load"] == "█▃▂▁ busiest first, mean of 2 routers"
    assert facts["dead experts"].endswith("1 of 8 in 2 routers")


def test_without_a_router_there_is_the_loss_alone() -> None:
    shown = printed(replace(RUN, live=PLAIN))
    assert "loss" in shown and "0.400" in shown and "entropy" not in shown and "dead" not in shown
    assert [fact.label for fact in facts_of(PLAIN)] == ["loss"]


def test_before_the_first_step_and_behind_the_last_one_it_says_so() -> None:
    assert "step 0 of 40" in printed(replace(RUN, step=0, live=None))
    assert "step 40 of 40, evaluating" in printed(replace(RUN, step=40))
    assert "step 40 of 40 in 20 s, test loss 0.500, accuracy 0.750" in printed(DONE)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 112, 150, 240])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    waits = replace(RUN, name="waits", state="waiting", step=0, live=None)
    for rows in ((RUN,), (RUN, DONE, waits), ()):
        assert max(map(len, printed(*rows, width=width).splitlines()), default=0) <= width


def test_a_table_has_more_columns_where_there_is_room() -> None:
    heads = [printed(RUN, DONE, width=width).splitlines()[1].split() for width in (60, 80, 120)]
    assert heads[0] == ["run", "state", "step", "loss", "accuracy", "time"]
    assert heads[1] == ["run", "state", "step", "training", "loss", "loss", "accuracy", "time"]
    assert heads[2][5:8] == ["entropy", "busiest", "dead"]
    row = next(line for line in printed(RUN, DONE, width=120).splitlines() if "running" in line).split()
    assert row[3:] == ["█▄▃▂▁▁▁▁", "0.400", "0.50", "75", "%", "1", "1:00", "min", "left"]


def test_a_loss_that_is_no_number_is_told() -> None:
    broken = replace(LIVE, loss=math.nan, points=(*POINTS[:5], Point(11, math.nan)))
    shown = printed(replace(RUN, live=broken))
    assert "nan" in shown and "0.75" in shown  # the last entropy that was seen
    assert 'class="value broken">nan<' in Panel([replace(RUN, live=broken)])._repr_html_()
    assert math.isnan(latest([])) and percent(math.nan) == "–"


def test_a_line_for_a_log_has_the_step_the_loss_and_the_time() -> None:
    assert str(Panel([RUN])) == f"{RUN.name}: step 10 of 40, loss 0.400, about 1:00 min left"
    assert str(Panel([RUN, DONE])) == "1 finished, 1 running of 2; about 24 s left"


def test_the_page_of_one_run_has_every_curve_with_words_for_who_cannot_see_it() -> None:
    page = Panel([RUN])._repr_html_()
    assert page.count("<polyline") == 4 and page.count("<rect") == 4 and page.count('role="img"') == 5
    assert 'aria-label="gate entropy 0.50, 1: equal gates, 0: one expert"' in page
    assert 'aria-valuenow="10"' in page and "step 10 of 40, about 1:00 min left" in page
    assert "&amp;" not in page.partition("</style>")[0]


def test_the_page_of_several_has_a_row_for_those_that_began_and_a_summary() -> None:
    waits = [replace(RUN, name=f"waits-{number}", state="waiting", live=None) for number in range(30)]
    page = Panel([RUN, DONE, *waits])._repr_html_()
    assert RUN.name in page and "test loss 0.500" in page and "waits" not in page
    assert "1 finished, 1 running, 30 waiting of 32" in page
    many = [replace(DONE, name=f"run-{number}") for number in range(MOST_ROWS + 3)]
    assert "3 not shown" in Panel(many)._repr_html_()


def test_a_name_is_text_and_no_markup() -> None:
    odd = replace(RUN, name="<b>[red]&")
    assert "<b>" not in Panel([odd])._repr_html_() and "<b>[red]&" in printed(odd)
    assert "<b>[red]&" in printed(odd, DONE, width=150)


def test_curves_are_means_of_neighbors_between_their_least_and_largest() -> None:
    assert binned([1, 2, 3, 4], 2) == [1.5, 3.5] and binned([1, 2], 5) == [1, 2]
    assert heights([1.0, 2.0, math.inf]) == [0.0, 1.0, None] and heights([math.nan]) == [None]
    assert heights([0.99, 1.0]) == [0.5, 0.5] and heights([0.0, 0.0]) == [0.0, 0.0]  # noise is not blown up
    assert heights([1.0, 2.0], from_zero=True) == [0.5, 1.0]
    assert blocks([], 5) == "" and len(blocks(list(range(1000)), 32)) == 32


def test_pictures_have_a_gap_where_there_is_no_number_and_a_dot_for_one_alone() -> None:
    assert spark_curve([1.0, 2.0, math.nan, 3.0], "x").count("<polyline") == 2
    assert spark_curve([1.0], "x").count("0.0,12.0") == 2
    assert spark_curve([], "<&>").count("&lt;&amp;&gt;") == 2
    assert spark_bars([0.5, math.nan, 0.0], "x").count("<rect") == 2
