"""A layer's number, a part of a name and a whole name lead to the same modules everywhere; nothing else does."""

from __future__ import annotations

import pytest

from moe_analysis.studies.chosen_module import meant

PLACES = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj pool 0", "mlp.up_proj pool 1")
NAMES = [f"layers.{layer}.{place}" for layer in (1, 2, 12) for place in PLACES]


@pytest.mark.parametrize(("asked", "same"), [(1, "layers.1"), (12, "layers.12"), (-1, "layers.12"), (-3, "layers.1")])
def test_a_number_is_that_of_the_layer_and_not_of_its_place_in_a_list(asked: int, same: str) -> None:
    found = meant(NAMES, asked)
    assert found == meant(NAMES, same) and len(found) == len(PLACES)
    assert all(name.startswith(f"{same}.") for name in found)


def test_a_part_of_a_name_ends_at_dots() -> None:
    assert meant(NAMES, "v_proj") == [f"layers.{layer}.self_attn.v_proj" for layer in (1, 2, 12)]
    assert meant(NAMES, "layers.2.mlp.up_proj") == NAMES[6:8]
    assert meant(NAMES, NAMES[3]) == [NAMES[3]]
    assert meant(["down", "up"], "up") == ["up"]


@pytest.mark.parametrize("asked", [0, 3, -4, True, 1.0, None, "", "proj", "v_proj.", ["layers.1"]])
def test_what_fits_nothing_is_refused_with_what_there_is(asked: object) -> None:
    with pytest.raises(ValueError, match=r"layer = .* matches no module; pass a layer's number \(1, 2, 12\) or a name"):
        meant(NAMES, asked, "layer")  # type: ignore[arg-type]
