"""The page of results: every row says whose claim it is, and from what it was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moe_analysis.evidence import Claim, Effect, described, whole_of
from tools.results import COLUMNS, PAGE, README, counted, made_with, page, readme, rows_of

RECORD = {"seeds": [0, 1, 2], "preset": {"preset": "long"}, "caption": {"origin": "9 runs of 3 seeds, 300 steps each"}}
AHEAD = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", endpoint="acc", paper_effect=0.02)
FOUND = AHEAD.with_effect(Effect([0.03, 0.02, 0.04]))
THEOREM = Claim("toy_sum", "gR Fig. 1", "our reading: 1 + 1 = 2", 2, 2, 0.0, True)


def cells(row: str) -> dict[str, str]:
    found = row.split(" | ")
    assert len(found) == len(COLUMNS)
    return dict(zip(COLUMNS, (cell.strip("| ") for cell in found)))


def test_a_row_has_source_interval_seeds_steps_and_preset() -> None:
    found = cells(rows_of(described(FOUND), made_with(RECORD))[0])
    assert (found["source"], found["seeds"], found["steps"], found["preset"]) == ("a table", "3", "300", "long")
    assert found["kind"] == "t, over 3 seeds" and found["interval"].startswith("95 % [+0.00")


def test_a_figure_from_a_stored_table_has_no_preset() -> None:
    stored = RECORD | {
        "caption": {"origin": "6 final runs of 3 seeds, 500 steps; drawn from the stored results rescaling"}
    }
    assert made_with(stored) == ("3", "500", "stored")


def test_a_claim_with_parts_refers_to_them_and_says_nothing_of_its_own() -> None:
    whole = Claim("toy", "arithmetic", "all hold", parts=[THEOREM]).with_parts([THEOREM])
    head, part = (cells(row) for row in rows_of(described(whole), made_with(RECORD)))
    assert (head["compared"], head["kind"]) == ("its parts", "its parts")
    assert part["compared"] == "expected 2" and part["claim"].startswith("↳ ")


def test_seeds_are_those_of_the_interval_and_of_the_parts() -> None:
    tuned = {
        "seeds": [],
        "preset": {},
        "caption": {"origin": "48 tuning runs of 1 seed; 24 final runs of 1 to 3 seeds"},
    }
    lost = replace(AHEAD, name="toy_lost").untestable("one seed has no spread")
    whole = whole_of("toy", "a table", "A is ahead", [FOUND, lost])
    found = [cells(row)["seeds"] for row in rows_of(described(whole), made_with(tuned))]
    assert found == ["3", "3", "–"] and made_with(tuned)[0] == "1 to 3"


@pytest.mark.parametrize(
    "origin, steps", [("exact, without training", "–"), ("5 seeds of synthetic tasks, 100 training steps", "100")]
)
def test_what_a_record_has_not_is_a_dash(origin: str, steps: str) -> None:
    record = {"seeds": [], "preset": {}, "caption": {"origin": origin}}
    assert made_with(record) == ("5" if steps == "100" else "–", steps, "–")


def test_claims_of_papers_and_readings_of_ours_are_counted_apart() -> None:
    told = counted([described(FOUND), described(THEOREM)])
    assert told == "- Claims of the papers: 1 reproduced\n- Our own hypotheses and readings: 1 holds"


def test_every_row_of_the_page_has_all_columns() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| ")]
    assert len(rows) > 100 and {row.replace("\\|", "").count(" | ") for row in rows} == {len(COLUMNS) - 1}


@pytest.mark.parametrize(("path", "text"), [(PAGE, page), (README, readme)], ids=["page", "README"])
def test_what_is_committed_is_what_the_records_say(path: Path, text: Callable[[], str]) -> None:
    assert path.read_text(encoding="utf-8") == text(), f"run python tools/results.py, which writes {path.name}"
