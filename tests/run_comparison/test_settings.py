"""Which settings a list of runs shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.run_comparison.settings import NOT_SHOWN, cell, cells, differing, shared, told

NAMES = ("lr", "seed", "suite", "adapter.peft_type", "adapter.r", "name", "other")
SETTINGS = st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0, 1, "a", None, [1]])), max_size=5)


@given(SETTINGS)
def test_a_setting_differs_or_is_shared_or_is_missing_somewhere(settings: list[dict]) -> None:
    columns, same = differing(settings), shared(settings)
    assert not set(columns) & set(same)
    for name in columns:
        values = [one[name] for one in settings if name in one]
        assert any(value != values[0] for value in values[1:])
    for name, value in same.items():
        assert all(one[name] == value for one in settings)
    assert not set(columns) & set(NOT_SHOWN)


def test_what_a_person_asks_first_comes_first() -> None:
    settings = [dict.fromkeys(("zeta", "seed", "adapter.r", "lr", "adapter.peft_type"), value) for value in (0, 1)]
    assert differing(settings) == ["adapter.peft_type", "lr", "adapter.r", "seed", "zeta"]


def test_what_only_one_kind_of_adapter_has_follows_from_its_type() -> None:
    settings = [{"adapter.peft_type": "LORA"}, {"adapter.peft_type": "TREX", "adapter.num_up": 4}]
    assert differing(settings) == ["adapter.peft_type"]
    assert differing([*settings, {**settings[1], "adapter.num_up": 8}]) == ["adapter.peft_type", "adapter.num_up"]


def test_long_values_are_cut_and_paths_called_by_their_last_name() -> None:
    assert cell("x" * 40) == "x" * 23 + "…" and cell("/a/b/suite/") == "suite" and cell("/") == "/"
    assert cell({"damping": 1e-6}) == "{'damping': 1e-06}" and cell(True) == "True"
    assert told({"suite": "/a/b"}, 2) == "the same in all 2: suite b"


VALUES = st.one_of(
    st.lists(st.sampled_from(["down_proj", "gate_proj", "up_proj", "q_proj"]), max_size=4), st.floats(0, 1)
)
PATHS = st.builds("/{}/suite".format, st.sampled_from("ab"))


@given(st.lists(st.one_of(VALUES, PATHS, st.none()), max_size=5))
def test_values_that_differ_never_look_the_same(values: list) -> None:
    texts = cells(values)
    for one, text in zip(values, texts):
        assert [other == one for other in values] == [other == text for other in texts]
