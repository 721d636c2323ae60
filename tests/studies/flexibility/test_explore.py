"""s, f and L: closed forms and live enumeration agree, heavy sizes say that they were not walked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_analysis.studies.flexibility import measure
from moe_analysis.studies.flexibility.draw import exact
from moe_analysis.studies.flexibility.explore import LIVE_TREES, flexibility_note, live_outputs
from moe_analysis.studies.flexibility.measure import SYSTEMS
from moe_analysis.theory.flexibility import child_flexibility, flexibility_table, smore_flexibility
from tests.drawing.test_explorer import picture


@pytest.fixture(scope="module")
def found():
    return measure(4, 2, (1, 2))


def test_the_first_plot_shows_the_marks_that_were_measured(found):
    marked = found.points.assign(outputs=found.points["outputs"].where(found.points["layers"] < 2, 77))
    explorer = replace(found, points=marked).widget()
    assert "S'MoRE, L = 2: Γ = 216; 77 found by computing all routings" in text(explorer)


def text(explorer) -> str:
    return explorer.note.value.replace("&#x27;", "'")


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_any_size_tells_its_closed_forms_and_what_was_walked(s: int, f: int, layers: int):
    assume(f <= s)
    note = flexibility_note(flexibility_table(s, f, [layers], SYSTEMS), live_outputs(s, f, [layers]))
    walked = smore_flexibility([s] * layers, [f] * layers) <= LIVE_TREES
    for system, form in (("S'MoRE", smore_flexibility), ("S'MoRE*", child_flexibility)):
        gamma = exact(form([s] * layers, [f] * layers))
        found = f"; {gamma} found by computing all routings" if walked else ""
        assert f"{system}, L = {layers}: Γ = {gamma}{found}" in note.splitlines()
    assert walked != ("Not computed" in note)


def test_moved_sliders_walk_the_new_size(found):
    explorer = found.widget()
    before = picture(explorer)
    explorer.controls["num_experts"].value = 5
    assert "S'MoRE, L = 2: Γ = 1,000; 1,000 found by computing all routings" in text(explorer)
    assert "5 experts with fanout 2" in explorer.picture.value and (picture(explorer) != before).any()


def test_a_heavy_size_is_drawn_without_marks_and_says_so(found):
    explorer = found.widget()
    before = picture(explorer)
    explorer.controls["layers"].value = 4
    assert "Not computed: L = 3, 4. L = 3 already has 279,936 trees; at most 10,000 are computed" in text(explorer)
    assert "found" not in text(explorer) and (picture(explorer) != before).any()
    assert live_outputs(4, 2, (1, 2, 3, 4))["layers"].max() == 2


def test_a_fanout_above_the_pool_is_refused_with_the_reason(found):
    explorer = found.widget()
    explorer.controls["fanout"].value = 4
    shown = explorer.picture.value
    explorer.controls["num_experts"].value = 3
    assert "lower f or enlarge the pool" in explorer.message.value and explorer.picture.value == shown
    with pytest.raises(ValueError, match="layers = 0 is not a whole number from 1 to 6"):
        found.widget(layers=0)
    with pytest.raises(ValueError, match=r"f\[0\] = 5 is above s\[0\] = 4"):
        found.widget(fanout=5)


def test_a_notebook_may_start_beyond_the_usual_sliders(found):
    assert found.widget(num_experts=11, layers=1).controls["num_experts"].max == 11


def test_the_widget_of_a_result_starts_at_what_was_measured():
    controls = measure(3, 2, (1, 2)).widget().controls
    assert {name: control.value for name, control in controls.items()} == {"num_experts": 3, "fanout": 2, "layers": 2}
