"""The fuzz itself: it tells the outcomes apart, repeats, and damages what it says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from moe_analysis.tasks.rows import SuiteError

from . import mutate
from .mutate import GOOD, Result, cases, fault_of, fingerprint, judged, results_of, results_of_children


def fails(error: BaseException):
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    "error, outcome",
    [
        (SuiteError("a.jsonl line 1: it is odd; write it anew"), "refused"),
        (SuiteError("a.jsonl line 1: it is odd"), "no remedy"),
        (SuiteError("something is odd; write it anew"), "unnamed"),
        (ValueError("a.jsonl is odd; write it anew"), "foreign error"),
        (MemoryError(), "foreign error"),
        (AssertionError("read, and wrong"), "unsound"),
    ],
)
def test_an_error_is_good_only_when_it_is_ours_and_names_the_file_and_the_remedy(error, outcome: str) -> None:
    assert judged(fails(error), (SuiteError,), {"a.jsonl"})[0] == outcome
    assert (outcome in GOOD) == (outcome == "refused")


def test_an_error_that_cannot_be_printed_or_read_is_a_defect() -> None:
    assert fault_of("a.jsonl \udcff; write it anew", {"a.jsonl"}) == "unprintable"
    assert fault_of("a.jsonl; " + "x" * 10_000, {"a.jsonl"}) == "endless text"


def test_a_reading_that_does_not_end_is_ended_and_one_that_is_slow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "HANG", 1)
    assert judged(lambda: time.sleep(30), (SuiteError,), set())[0] == "hang"
    monkeypatch.setattr(mutate, "SLOW", 0.01)
    assert judged(lambda: time.sleep(0.02), (SuiteError,), set())[0] == "slow"


def test_a_change_of_any_file_shows_in_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    seen = [fingerprint(tmp_path)]
    for change in (
        lambda: (tmp_path / "a").write_text("two"),
        lambda: (tmp_path / "a").chmod(0o600),
        lambda: (tmp_path / "b").mkdir(),
        lambda: (tmp_path / "a").unlink(),
    ):
        change()
        seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == 5


def test_the_same_seed_gives_the_same_damage_and_another_one_other_damage() -> None:
    def told(seed: int) -> list[tuple[str, str, str, str]]:
        return [(one.damage, one.file, one.reading, one.outcome) for one in results_of(cases(6, ["suite"]), seed)]

    assert told(4) == told(4) != told(5)


def test_a_process_that_dies_is_told_and_the_next_case_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for the interpreter, which writes one result and then dies at the case called "suite:1"."""
    script = tmp_path / "python"
    script.write_text("""#!/bin/sh
while read -r case || [ -n "$case" ]; do
  [ "$case" = suite:1 ] && kill -SEGV $$
  echo '{"case": "'$case'", "damage": "", "file": "", "reading": "", "outcome": "loaded"}'
  echo "$case"
done
""")
    script.chmod(0o755)
    monkeypatch.setattr(mutate.sys, "executable", str(script))
    found = list(results_of_children(["suite:0", "suite:1", "suite:2"], 0))
    assert [(one.case, one.outcome) for one in found] == [
        ("suite:0", "loaded"),
        ("suite:1", "crash"),
        ("suite:2", "loaded"),
    ]
    assert isinstance(found[1], Result) and "-11" in found[1].detail
