"""What a notebook shows of a result: cards, folded tables, and a style that stays inside."""

from __future__ import annotations

import re

import pandas as pd

from moe_analysis.cards.templates import style
from moe_analysis.drawing import claim_cards, folded
from moe_analysis.drawing.notebook import ROWS
from moe_analysis.evidence import Claim

THEOREM = Claim("toy_sum", "arithmetic", "1 < 2", 1, 1, 0.0, True)


def test_a_folded_table_shows_its_title_and_is_closed() -> None:
    page = folded("squares & cubes", pd.DataFrame({"n": [2, 3]}))._repr_html_()
    assert re.search(r"<details><summary>squares &amp; cubes</summary>.*<table", page, flags=re.DOTALL)


def test_a_long_table_is_cut_in_its_middle() -> None:
    page = folded("numbers", pd.Series(range(10 * ROWS), name="n"))._repr_html_()
    assert page.count("<tr>") < ROWS + 5 and f"<td>{10 * ROWS - 1}</td>" in page


def test_a_styled_table_keeps_its_style_and_reads_as_text_too() -> None:
    shown = folded("costs", pd.DataFrame({"n": [1234567]}).style.format(thousands=" "))
    assert "1 234 567" in shown._repr_html_() and "1234567" in repr(shown)


def test_a_card_escapes_its_statement_and_a_terminal_shows_the_verdict() -> None:
    shown = claim_cards([THEOREM])
    assert '<p class="statement">1 &lt; 2</p>' in shown._repr_html_() and repr(shown) == "1 < 2: holds"


def test_the_style_is_one_rule_that_sets_the_colors_of_the_cards() -> None:
    page = claim_cards([THEOREM])._repr_html_()
    assert page.index(".moe-analysis {") < page.index("--card: light-dark") and ":root" not in style()
    assert "&amp;" not in page[: page.index("</style>")]
