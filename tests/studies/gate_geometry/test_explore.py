"""The exponent p of one step: measured on the layer for any p, as the rules of the paper are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.studies.gate_geometry import geometry
from moe_analysis.studies.gate_geometry.explore import (
    REACH,
    changes_at,
    exponent_figure,
    relative_change,
    widget,
)
from tests.drawing.test_explorer import picture

from .test_geometry import GATES, layer_and_batch


def made(seed: int = 0):
    """({module: layer}, the table of its changes); a LayerBatch is read for these three and nothing else."""
    layers = {
        name: SimpleNamespace(**dict(zip(("adapter", "inputs", "gradient"), layer_and_batch(number))))
        for number, name in enumerate(("layers.0.q_proj", "layers.1.q_proj"))
    }
    return layers, geometry.over_layers(geometry.first_order_change, layers, gates=GATES)


@pytest.fixture(scope="module")
def layers_and_changes():
    return made()


def found(made):
    return SimpleNamespace(layers=made[0], changes=made[1])


def of(changes, module: str):
    return changes[changes["module"] == module]


def test_a_step_measured_at_the_papers_exponent_is_the_papers_rule(layers_and_changes):
    layers, changes = layers_and_changes
    table = of(changes, "layers.0.q_proj")
    known = changes_at(layers["layers.0.q_proj"], table, 0.5)
    assert set(known["rule"]) == {"rescaled"}
    hidden = table.assign(rule=table["rule"].replace("rescaled", "nameless"))
    near = changes_at(layers["layers.0.q_proj"], hidden, 0.5 + 1e-9)  # no rule has it, so it is measured
    assert set(near["rule"]) != {"rescaled"}
    order = ["g", "expert"]
    assert near.sort_values(order)["change"].to_numpy() == pytest.approx(
        known.sort_values(order)["change"].to_numpy(), rel=1e-6
    )


@settings(deadline=None, max_examples=6)
@given(st.integers(1, 19).map(lambda twentieths: twentieths / 20))
def test_for_every_exponent_the_measured_step_goes_as_g_to_one_plus_p(power: float):
    layers, changes = made()
    own = changes_at(layers["layers.1.q_proj"], of(changes, "layers.1.q_proj"), power)
    assert own["slope"].to_numpy() == pytest.approx(1 + power, abs=1e-3)
    assert own["change"].to_numpy() == pytest.approx(own["predicted"].to_numpy(), rel=1e-2)


def test_moving_p_and_g_tells_the_measured_and_the_predicted_step(layers_and_changes):
    layers, changes = layers_and_changes
    explorer = widget(found(layers_and_changes))
    module, gate = "layers.1.q_proj", explorer.controls["gate"].value
    assert explorer.values == (0.5, 0.05, module)  # the gate nearest 0.1
    before = picture(explorer)
    explorer.controls["power"].value = 0.25
    change = relative_change(changes_at(layers[module], of(changes, module), 0.25))
    assert f"{change[gate] / change[0.6]:.3g} times as far as at g = 0.6" in explorer.note.value
    assert f"predicted {(gate / 0.6) ** 1.25:.3g}" in explorer.note.value
    assert f"{REACH * gate**0.25:.3g} of these radii" in explorer.note.value
    after = picture(explorer)
    assert (after != before).any()
    explorer.controls["gate"].value = GATES[1]
    assert "p = 0.25, g = 0.2" in explorer.note.value and (picture(explorer) != after).any()


def test_the_drawn_step_grows_as_p_falls_and_the_chosen_rule_is_marked(layers_and_changes):
    layers, changes = layers_and_changes
    layer, table = layers["layers.0.q_proj"], of(changes, "layers.0.q_proj")
    tips = []
    for power in (1.0, 0.5, 0.0):
        own = changes_at(layer, table, power)
        step = geometry.local_picture(layer.adapter, layer.inputs, layer.gradient, 0, [0.2], 21, REACH * 0.2**power)
        left, right = exponent_figure(step, table, own, power, 0.2).axes
        tips.append(left.texts[1].xy[0])  # the projected step along the tangent
        marked = next(line for line in right.lines if str(line.get_label()).startswith("your p"))
        assert marked.get_ydata() == pytest.approx(relative_change(own).to_numpy())
        assert f"^{{{1 + power:.2f}}}" in marked.get_label()
    assert tips[1] / tips[0] == pytest.approx(0.2**-0.5) and tips[2] / tips[0] == pytest.approx(0.2**-1)


def test_another_layer_has_its_own_steps(layers_and_changes):
    explorer = widget(found(layers_and_changes))
    before = picture(explorer)
    explorer.controls["module"].value = "layers.0.q_proj"
    assert "layers.0.q_proj" in explorer.picture.value and (picture(explorer) != before).any()


def test_starts_without_meaning_are_refused(layers_and_changes):
    layers, changes = layers_and_changes
    with pytest.raises(ValueError, match="power = 2 is not a number from 0 to 1"):
        widget(found(layers_and_changes), power=2)
    with pytest.raises(ValueError, match="gate = 0.3 is not a stop; choose one of 0.05, 0.2, 0.6"):
        widget(found(layers_and_changes), gate=0.3)
    with pytest.raises(ValueError, match="changes has no rows of layers.1.q_proj; pass over_layers"):
        widget(SimpleNamespace(layers=layers, changes=of(changes, "layers.0.q_proj")))
