"""Small drawings of cards: inside their pictures, and told in words."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.cards.charts import HIGH, MOST_POINTS, TALL, WIDE, Curve, bars, beside, curves, thinned

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=30)


@given(VALUES, VALUES)
def test_every_point_of_a_curve_lies_inside_the_picture(train: list[float], test: list[float]) -> None:
    drawn = [Curve("train", range(len(train)), train), Curve("test", range(len(test)), test, "points")]
    svg = str(curves(drawn, "loss"))
    if not [value for value in train + test if math.isfinite(value)]:
        assert svg == ""
        return
    lines = [pair.split(",") for way in re.findall(r'points="([^"]+)"', svg) for pair in way.split()]
    spots = re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', svg)
    assert all(0 <= float(x) <= WIDE and 0 <= float(y) <= HIGH for x, y in [*lines, *spots])
    assert "nan" not in svg.partition("<line")[2]


def test_a_long_curve_is_thinned_to_means_and_ends_where_it_ends() -> None:
    points = thinned(Curve("train", range(1, 1001), [2.0, 4.0] * 500))
    assert len(points) <= MOST_POINTS and points[-1][0] == 1000
    assert [value for _, value in points] == pytest.approx([3.0] * len(points), abs=0.25)


def test_a_curve_of_one_value_and_of_equal_values_is_drawn() -> None:
    assert 'class="spot c0"' in curves([Curve("train", [3], [1.0])], "loss")
    assert "polyline" in curves([Curve("train", [1, 2], [1.0, 1.0])], "loss")


def test_bars_are_to_scale_and_the_line_stands_at_equal_shares() -> None:
    svg = str(bars([0.5, 0.25, math.nan], 0.25, "load"))
    heights = [float(tall) for tall in re.findall(r'height="([\d.]+)"><title>', svg)]
    assert heights == [TALL, TALL / 2] and f'y1="{TALL / 2}"' in svg
    assert "equal shares are 0.25" in svg
    assert 'height="0.0"' in bars([0.0, 0.0], 0.0, "load")


def test_a_value_beside_what_it_has_to_beat_stays_inside() -> None:
    assert 'width="70.0%"' in beside(0.7, 0.25) and 'x1="25.0%"' in beside(0.7, 0.25)
    assert "guess" not in beside(0.7, math.nan) and 'width="100.0%"' in beside(1.4, 0.5)


def test_names_are_escaped() -> None:
    assert "<script" not in curves([Curve("<script>", [1, 2], [1.0, 2.0])], "a <script>")
    assert "<script" not in bars([1.0], 1.0, "<script>")
