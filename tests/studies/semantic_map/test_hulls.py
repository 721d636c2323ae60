"""Areas of clusters and places of names: plane geometry with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from moe_analysis.studies.semantic_map.hulls import apart, hulls, name_places


def points_of(places: np.ndarray, cluster: np.ndarray | int = 0) -> pd.DataFrame:
    return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "cluster": cluster})


def test_nine_tenths_of_a_cluster_lie_in_its_area_and_a_stray_does_not_stretch_it() -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(size=(99, 2)), [[50.0, 50.0]]])
    (area,) = hulls(points_of(places)).values()
    inside = Path(area).contains_points(places)
    assert inside.sum() >= 90 and not inside[-1]
    assert Path(hulls(points_of(places), kept=1)[0]).contains_points(places).all()


@pytest.mark.parametrize("places", [[[1.0, 2.0]], [[1.0, 2.0]] * 3, [[0.0, 0.0], [1.0, 1.0]], [[0, 0], [1, 1], [2, 2]]])
def test_few_points_and_points_on_a_line_have_an_area(places) -> None:
    found = np.asarray(places, dtype=float)
    (area,) = hulls(points_of(found), kept=1).values()
    assert len(area) >= 3 and Path(area).contains_points(found).all()


def test_each_cluster_has_its_own_area() -> None:
    places = np.array([[0.0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9]])
    found = hulls(points_of(places, np.array([2, 2, 2, 5, 5, 5])), kept=1)
    assert list(found) == [2, 5] and found[2].max() < 2 and found[5].min() > 7


def test_no_points_and_a_share_that_is_none_are_refused() -> None:
    with pytest.raises(ValueError, match="points is empty"):
        hulls(points_of(np.zeros((0, 2))))
    with pytest.raises(ValueError, match="kept = 0"):
        hulls(points_of(np.zeros((3, 2))), kept=0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30), st.floats(0.5, 4)), min_size=1, max_size=20))
def test_names_that_have_room_do_not_touch(rows) -> None:
    places = np.array([[x, y] for x, y, _ in rows])
    sizes = np.array([[width, 1.0] for _, _, width in rows])
    moved = apart(places, sizes)
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            overlap = (sizes[one] + sizes[other]) / 2 - np.abs(moved[other] - moved[one])
            assert overlap.min() < 0.05


def test_names_that_touch_nothing_stay_where_they_are() -> None:
    places = np.array([[0.0, 0.0], [9.0, 9.0]])
    assert apart(places, np.ones((2, 2))) == pytest.approx(places)


def test_a_name_of_two_lines_takes_the_room_of_two() -> None:
    frame = pd.DataFrame({"x": [0.0, 0.0], "y": [0.0, 0.1]})
    one, two = (np.ptp(name_places(frame, names, 1.0)[:, 1]) for names in (["a name"] * 2, ["a name\nof two"] * 2))
    assert two == pytest.approx(2 * one)
