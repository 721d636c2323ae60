"""Claims as cards: the verdict in words and with a mark, the interval drawn to scale, parts folded under the whole."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.cards.claims import CLAIM_FIELDS, MARKS, interval, shown
from moe_analysis.cards.templates import environment
from moe_analysis.drawing.save import VERDICTS
from moe_analysis.evidence import Claim, Effect, described

AHEAD = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", endpoint="acc", paper_effect=0.02)
THEOREM = Claim("toy_sum", "arithmetic", "1 + 1 = 2", 2, 2, 0.0, True)
OLD = dict(zip(CLAIM_FIELDS, ["T-REX Fig. 2", "a < b", "smooth", 0.25, None, "not reproduced"]))
NUMBER = st.floats(-1e6, 1e6)


def card(claim: Claim | dict) -> str:
    row = shown(described(claim) if isinstance(claim, Claim) else claim)
    return str(environment().get_template("cards.html").module.card(row))


def places(svg: str) -> dict[str, float]:
    """Where the marks of a drawn interval stand, in percent of its width."""
    found = {name: float(x) for name, x in re.findall(r'class="(zero|matters|effect|paper)" c?x1?="([\d.]+)%"', svg)}
    low, high = re.search(r'class="reach" x1="([\d.]+)%" x2="([\d.]+)%"', svg).groups()
    return found | {"low": float(low), "high": float(high)}


def test_every_verdict_has_a_mark_and_the_bad_ones_do_not_look_like_the_good_ones():
    assert set(MARKS) == set(VERDICTS)
    marks = {kind: {mark for name, mark in MARKS.values() if name == kind} for kind in ("yes", "no", "open")}
    assert not marks["yes"] & marks["no"] and not marks["yes"] & marks["open"] and not marks["no"] & marks["open"]


def test_an_interval_is_drawn_to_scale_with_zero_what_matters_and_the_papers_effect():
    row = shown(described(AHEAD.with_effect(Effect([0.03, 0.02, 0.04]))))
    found = places(interval(row))
    unit = (found["paper"] - found["zero"]) / 0.02
    for name, value in (("matters", 0.01), ("effect", 0.03), ("low", row["low"]), ("high", row["high"])):
        assert (found[name] - found["zero"]) / unit == pytest.approx(value, abs=2e-4)
    assert "Effect 0.03, 95 % interval 0.00516 to 0.0548; the smallest effect that matters is 0.01" in interval(row)


@given(NUMBER, NUMBER, NUMBER, st.none() | st.floats(1e-9, 1e6), st.none() | st.floats(1e-9, 1e6))
def test_all_marks_of_an_interval_stand_inside_its_picture(low, effect, high, smallest, paper):
    low, effect, high = sorted((low, effect, high))
    numbers = {"low": low, "effect": effect, "high": high, "smallest": smallest, "paper_effect": paper}
    found = places(interval(shown({**OLD, **numbers})))
    assert all(0 <= place <= 100 for place in found.values())
    assert found["low"] <= found["effect"] <= found["high"]


def test_a_statement_without_an_interval_shows_what_was_measured_and_draws_nothing():
    text = card(THEOREM)
    assert "<svg" not in text and "✓</span> holds" in text and "<dt>Ours</dt><dd>2</dd>" in text


def test_parts_are_folded_under_their_claim_each_with_its_verdict_and_interval():
    parts = [AHEAD.with_effect(Effect(gaps)) for gaps in ([0.03, 0.02, 0.04], [0.03, -0.02, 0.04])]
    text = card(AHEAD.with_parts(parts))
    head, folded = text.split("<details>")
    assert "in part" in head and "1 reproduced, 1 undecided" in head and "<summary>2 parts</summary>" in folded
    assert folded.count("<svg") == 2 and "seeds would see" in folded


def test_the_reason_why_a_claim_is_not_testable_stands_on_its_card():
    assert "everything is within guessing" in card(AHEAD.untestable("everything is within guessing"))


def test_an_older_record_is_shown_with_its_words_and_its_text_stays_text():
    text = card(OLD)
    assert "a &lt; b" in text and "<dd>0.25</dd>" in text and "not reproduced" in text


@pytest.mark.parametrize(
    ("source", "whose"),
    [
        ("T-REX Fig. 2 (our reading)", "paper"),
        ("beyond gR", "own"),
        ("our reading of T-REX Fig. 2", "own"),
        ("an independent reproduction of gR", "reproduction"),
    ],
)
def test_an_older_record_is_of_a_paper_unless_its_source_says_that_none_claims_it(source: str, whose: str):
    assert shown({**OLD, "source": source})["kind"] == shown({**OLD, "source": source})["whose"] == whose
    exact = shown({**OLD, "source": source, "kind": "exact"})
    assert (exact["kind"], exact["whose"]) == ("exact", whose)


def test_a_number_of_a_reproduction_is_not_called_the_papers():
    claim = replace(AHEAD, source="an independent reproduction of a table", kind=None)
    text = unescape(card(claim.with_effect(Effect([0.03, 0.02, 0.04]))))
    assert "reproduction ◇ 0.02" in text and "the reproduction's effect is 0.02" in text and "the paper" not in text
