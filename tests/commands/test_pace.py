"""The time that a notebook still takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.commands.terminal import Memory, NotebookBars, Pace, hours

seconds = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=8)


def at_place(before: list[float], place: int) -> Pace:
    """As it stands when cell number `place` begins, each having taken what it took the last time."""
    return Pace(len(before), before, [sum(before[:index]) for index in range(place + 1)])


@settings(max_examples=50, deadline=None)
@given(seconds, st.data())
def test_a_notebook_that_takes_what_it_took_has_the_rest_left(before: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(before) - 1))
    assert at_place(before, place).left(sum(before[:place])) == pytest.approx(sum(before[place:]), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seconds, st.floats(0.0, 1e5), st.floats(0.0, 1e5))
def test_time_left_never_grows_within_a_cell_and_is_never_negative(before, first: float, more: float) -> None:
    pace = at_place(before, 0)
    assert pace.left(first) >= pace.left(first + more) >= sum(before[1:])


def test_without_a_last_time_the_cells_so_far_are_the_measure() -> None:
    assert Pace(3).left(0.0) is None and Pace(3, [], [0.0]).left(5.0) is None
    assert Pace(3, [], [0.0, 4.0]).left(5.0) == 3.0 + 4.0
    assert Pace(3, [1.0, 1.0], [0.0, 4.0]).left(5.0) == 7.0, "a notebook that has changed is as one never seen"


def test_what_a_notebook_took_is_remembered_for_its_settings_alone(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "new" / "seconds.json", "tiny")
    memory.keep({"a": [1.5, 2.0]})
    memory.keep({"b": [3.0]})
    assert memory.recall("a") == [1.5, 2.0] and memory.recall("b") == [3.0] and memory.recall("c") == []
    assert Memory(memory.path, "full").recall("a") == []


@pytest.mark.parametrize("content", ["", "[1]", '{"tiny": 3}', '{"tiny": {"a": ["x"]}}', "{" * 10, "\udcff"])
def test_a_damaged_memory_is_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seconds.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    memory = Memory(path, "tiny")
    assert memory.recall("a") == []
    memory.keep({"a": [1.0]})
    assert memory.recall("a") == [1.0]


def test_only_notebooks_that_ended_are_remembered_and_each_is_told_on_a_line(tmp_path: Path, capsys) -> None:
    memory = Memory(tmp_path / "seconds.json", "tiny")
    with NotebookBars(memory) as bars:
        for cell in (1, 2):
            bars.on_cell("done", cell, 2)
        bars.on_end("done")
        bars.on_cell("cut", 1, 2)
    assert len(memory.recall("done")) == 2 and memory.recall("cut") == []
    assert capsys.readouterr().err.splitlines() == ["done: 2 cells", "done: done in 0:00:00", "cut: 2 cells"]


def test_hours_are_written_as_on_a_clock() -> None:
    assert (hours(None), hours(185.4), hours(7200)) == ("-:--:--", "0:03:05", "2:00:00")
