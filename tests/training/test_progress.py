"""live.json: what is written is read, and no damage of it is anybody's fault."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from moe_analysis.training.progress import COLUMNS, FILE, Live, Point, read_live, write_live

LIVE = Live(
    step=3,
    loss=0.5,
    routers=2,
    experts=8,
    pace=0.5,
    load=(0.5, 0.25, 0.125, 0.125),
    points=(Point(1, 2.0, 0.75, 0.5, 1.0), Point(3, 0.5)),
)


def changed(**values: object) -> str:
    return json.dumps(LIVE.to_dict() | values)


def test_what_is_written_is_read_with_gaps_where_there_was_no_number(tmp_path: Path) -> None:
    write_live(tmp_path, replace(LIVE, loss=math.inf))
    assert "Infinity" not in (tmp_path / FILE).read_text() and "NaN" not in (tmp_path / FILE).read_text()
    read = read_live(tmp_path)
    assert (read.step, read.routers, read.experts, read.pace, read.load) == (3, 2, 8, 0.5, LIVE.load)
    assert read.points[0] == LIVE.points[0] and read.curve("step") == [1, 3]
    assert math.isnan(read.loss) and math.isnan(read.points[1].gate_entropy)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        "\x00\x01",
        changed(step=-1),
        changed(step=True),
        changed(step="3"),
        changed(loss="low"),
        changed(load=None),
        changed(load=[[0.5]]),
        changed(load=[10**400]),
        changed(columns=["step"]),
        changed(points=[[1, 2.0]] * 2 + [3]),
        changed(points=[[1.5, 2.0, 0.5, 0.5, 1.0]]),
        changed(points=[[1, 2.0, 0.5, 0.5, 1.0, 9.0]]),
        changed(points={"1": 2}),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert read_live(tmp_path) is None


def test_a_file_that_is_none_is_as_none(tmp_path: Path) -> None:
    assert read_live(tmp_path) is None
    os.mkfifo(tmp_path / FILE)
    assert read_live(tmp_path) is None
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert read_live(tmp_path) is None
    write_live(tmp_path, LIVE)  # a disk that refuses stops nobody
    assert (tmp_path / FILE).is_dir() and [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_run_goes_on_from_the_points_of_its_checkpoint() -> None:
    assert LIVE.until(2).curve("step") == [1] and LIVE.until(2).step == 2
    assert LIVE.until(3).points == LIVE.points and COLUMNS[0] == "step"
