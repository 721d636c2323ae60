"""A configuration refuses values of another type in every field, and an adapter refuses what it is not built from."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import moe_analysis as ma
from moe_analysis.adapters import REGISTRY, AdapterConfig
from moe_analysis.adapters.field_types import annotations_of, said

from .cases import IN, OUT, ours

SYSTEMS = [name for name in REGISTRY if ours(name)]
WRONG: dict[str, list[Any]] = {
    "whole": ["4", 4.0, True, math.nan, b"4", [4.0], ["4"], (4, 4), {}],
    "finite": ["4", True, math.nan, math.inf, b"4", ["4"], [math.nan], (4.0, 4.0), {}],
    "True": ["no", 1, 0.0, [True]],
    "text": [4, True, [4], b"switch"],
}
FIELDS = [
    (name, field.name, said(annotations_of(REGISTRY[name].config_class, AdapterConfig)[field.name]))
    for name in SYSTEMS
    for field in dataclasses.fields(REGISTRY[name].config_class)
    if field.name != "target_modules"
]


@pytest.mark.parametrize(("name", "field", "words"), FIELDS)
def test_a_value_of_another_type_is_named_with_what_it_must_be(name, field, words):
    (wrong,) = [values for kind, values in WRONG.items() if kind in words]
    for value in wrong:
        config = REGISTRY[name].config_class(**{field: value})
        with pytest.raises(ValueError, match=rf"^{field} = .* must be {words}"):
            REGISTRY[name](IN, OUT, config)


def test_peft_configurations_refuse_it_when_they_are_made():
    with pytest.raises(ValueError, match="num_experts = '4' must be a whole number$"):
        ma.MoeLoraConfig(num_experts="4")
    with pytest.raises(ValueError, match="fanout = 2 must be a list of whole numbers$"):
        ma.SmoreConfig(fanout=2)


def test_numbers_of_numpy_and_whole_numbers_for_reals_are_taken():
    config = ma.MoeLoraConfig(num_experts=np.int64(4), top_k=np.int32(2), alpha=np.float32(8), dropout=0)
    config.check()
    ma.MomorConfig(top_k=2, r=[np.int64(2), 3], alpha=[None, 4]).check()


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_adapter_refuses_a_configuration_of_another_system(name):
    for other in SYSTEMS:
        config = REGISTRY[other].config_class()
        if not isinstance(config, REGISTRY[name].config_class):
            with pytest.raises(ValueError, match=f"is a {type(config).__name__}; pass a .*{REGISTRY[name].__name__}"):
                REGISTRY[name](IN, OUT, config)
    with pytest.raises(ValueError, match="config = None is a NoneType"):
        REGISTRY[name](IN, OUT, None)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("value", [0, -1, 8.0, "8", None, True])
def test_an_adapter_refuses_a_width_that_is_none(name, value):
    config = REGISTRY[name].config_class()
    for field, widths in (("in_features", (value, OUT)), ("out_features", (IN, value))):
        with pytest.raises(ValueError, match=f"{field} = {value!r} must be a whole number of at least 1"):
            REGISTRY[name](*widths, config)


@dataclasses.dataclass
class Own(AdapterConfig):
    """Fields of somebody's own: of types that are checked, and of others that are not."""

    size: int = 3
    table: dict[str, int] | None = None


def test_fields_of_somebodys_own_are_checked_too():
    Own(table={"a": 1}).check()
    Own(table=5).check()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size = '3' must be a whole number"):
        Own(size="3").check()  # type: ignore[arg-type]
