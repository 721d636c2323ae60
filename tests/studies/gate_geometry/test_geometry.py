"""Fig. 1 of gR on a layer: frames of changes and bending, and the plane of one step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from moe_analysis.adapters import MoeLora, MoeLoraConfig
from moe_analysis.studies.gate_geometry import geometry

GATES = (0.05, 0.2, 0.6)


def layer_and_batch(seed: int = 0) -> tuple[MoeLora, torch.Tensor, torch.Tensor]:
    """(a float32 layer of three experts with their own routing, inputs (20, 10), gradient (20, 8))."""
    generator = torch.Generator().manual_seed(seed)
    layer = MoeLora(10, 8, MoeLoraConfig(r=2, num_experts=3, top_k=2, dropout=0.5))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer, torch.randn(20, 10, generator=generator), 0.01 * torch.randn(20, 8, generator=generator)


@pytest.fixture(scope="module")
def batch():
    return layer_and_batch()


@pytest.fixture(scope="module")
def changes(batch) -> pd.DataFrame:
    return geometry.first_order_change(*batch, gates=GATES)


@pytest.fixture(scope="module")
def bends(batch) -> pd.DataFrame:
    return geometry.curvature(*batch, gates=GATES, directions=2)


def test_changes_have_a_row_an_expert_rule_and_gate_and_the_exponents_of_the_rules(changes):
    assert len(changes) == 3 * 4 * 3 and not changes.duplicated(["expert", "rule", "g"]).any()
    slopes = changes.groupby("rule", sort=False)["slope"].first()
    assert slopes.to_dict() == pytest.approx({"plain": 2, "rescaled": 1.5, "p = 0": 1, "exact remedy": 1}, abs=1e-5)
    np.testing.assert_allclose(changes["change"], changes["predicted"], rtol=1e-4)


def test_the_change_at_gate_one_is_the_same_under_every_rule(batch):
    sizes = geometry.first_order_change(*batch, gates=(1.0,)).groupby("expert")["change"]
    assert (sizes.max() / sizes.min() - 1).max() < 1e-5


def test_bending_agrees_with_its_closed_form_and_never_exceeds_the_largest(bends):
    assert list(bends["direction"].unique()) == ["descent", "random 1", "random 2"]
    np.testing.assert_allclose(bends["measured"], bends["closed_form"], rtol=1e-3)
    np.testing.assert_allclose(bends["slope"], -1, atol=1e-3)
    assert (bends["closed_form"] <= bends["largest"] * (1 + 1e-9)).all()


def test_the_largest_curvature_is_the_inverse_of_the_least_singular_value(batch, bends):
    layer = batch[0]
    sigma = torch.linalg.svdvals(layer.scaling * layer.B[1].detach() @ layer.A[1].detach())[1]
    row = bends[(bends["expert"] == 1) & (bends["g"] == 0.2)].iloc[0]
    assert row["largest"] == pytest.approx(1 / (0.2 * float(sigma)), rel=1e-4)


def test_slopes_are_those_of_numpy_group_by_group():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"who": np.repeat([0, 1], 5), "g": np.tile(np.geomspace(0.1, 1, 5), 2), "size": rng.random(10) + 0.1}
    )
    fitted = geometry.with_slopes(frame, ["who"], "size").groupby("who")["slope"].first()
    for who, rows in frame.groupby("who"):
        assert fitted[who] == pytest.approx(np.polyfit(np.log(rows["g"]), np.log(rows["size"]), 1)[0])


def test_layers_are_put_below_each_other_under_their_names(batch):
    layers = {
        name: SimpleNamespace(adapter=layer, inputs=x, gradient=gradient)
        for name, (layer, x, gradient) in {"first": batch, "second": layer_and_batch(1)}.items()
    }
    frame = geometry.over_layers(geometry.curvature, layers, gates=GATES, directions=0)
    assert frame.columns[0] == "module" and frame["module"].value_counts().to_dict() == {"first": 9, "second": 9}
    alone = geometry.curvature(*layer_and_batch(1), gates=GATES, directions=0)
    pd.testing.assert_frame_equal(
        frame[frame["module"] == "second"].drop(columns="module").reset_index(drop=True), alone
    )


@pytest.fixture(scope="module")
def picture(batch) -> geometry.LocalPicture:
    return geometry.local_picture(*batch, expert=1, gates=(0.4, 0.1), reach=0.3)


def test_the_step_splits_into_its_projection_and_what_is_normal_to_it(batch, picture):
    full, projection = (picture.steps.set_index("part").loc[part] for part in ("full step", "projection"))
    assert projection["off"] == pytest.approx(0, abs=1e-9 * projection["tangent"])
    assert full["tangent"] == pytest.approx(projection["tangent"]) == pytest.approx(projection["length"])
    assert np.hypot(full["tangent"], full["off"]) == pytest.approx(full["length"])
    matrix = geometry.full_gradient(*batch)
    assert full["length"] == pytest.approx(picture.lr * np.linalg.norm(matrix))
    assert full["bend"] == pytest.approx(picture.cosine * abs(full["off"]))
    assert np.sign(full["off"]) == np.sign(picture.cosine)


def test_near_the_point_each_manifold_is_a_parabola_of_its_curvature(picture):
    for gate, line in picture.curves.groupby("g"):
        near = line[line["t"].abs() < 0.04 / line["curvature"].max()]
        assert len(near) >= 3, gate
        even = (near["bend"] + near["bend"].to_numpy()[::-1]) / 2  # the next term is odd in t
        np.testing.assert_allclose(even, near["curvature"] * near["t"] ** 2 / 2, rtol=0.01, atol=1e-12)
    curvatures = picture.curves.groupby("g")["curvature"].first()
    assert curvatures[0.1] == pytest.approx(4 * curvatures[0.4])


def test_the_smaller_gate_lands_farther_from_the_projected_step(picture):
    landings = picture.steps[picture.steps["part"] == "landing"].set_index("g")
    assert landings.index.tolist() == [0.1, 0.4] and landings.loc[0.1, "gap"] > 2 * landings.loc[0.4, "gap"]
    projection = picture.steps.set_index("part").loc["projection", "tangent"]
    assert projection == pytest.approx(0.3 / picture.curves.groupby("g")["curvature"].first()[0.1])


def test_an_untrained_expert_is_named_with_the_remedy():
    layer, x, gradient = layer_and_batch()
    with torch.no_grad():
        layer.B[2].zero_()
    with pytest.raises(ValueError, match="expert 2: B A has rank below r = 2 .*choose experts that have moved"):
        geometry.curvature(layer, x, gradient, gates=GATES)
    frame = geometry.curvature(layer, x, gradient, gates=GATES, experts=[0, 1], directions=0)
    assert frame["expert"].unique().tolist() == [0, 1]


def test_inputs_of_another_layer_are_refused():
    layer, x, gradient = layer_and_batch()
    with pytest.raises(ValueError, match=r"inputs \(20, 8\) and gradient \(20, 10\) do not fit a layer from 10 to 8"):
        geometry.curvature(layer, gradient, x)
