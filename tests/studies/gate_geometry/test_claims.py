"""The powers of g that Fig. 1 of gR claims, on frames whose powers are known."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from moe_analysis.studies.gate_geometry import geometry, measure
from moe_analysis.studies.gate_geometry.claims import claims

from .test_geometry import GATES, layer_and_batch


@pytest.fixture(scope="module")
def found() -> SimpleNamespace:
    batch = layer_and_batch()
    return SimpleNamespace(
        changes=geometry.first_order_change(*batch, gates=GATES),
        curvature=geometry.curvature(*batch, gates=GATES, directions=2),
    )


def verdicts(changes: pd.DataFrame, curvature: pd.DataFrame) -> list[str]:
    return [claim.verdict for claim in claims(SimpleNamespace(changes=changes, curvature=curvature))]


def test_the_surrogate_is_not_in_proportion_to_the_gate_and_everything_else_holds(found):
    judged = claims(found)
    assert [claim.verdict for claim in judged] == ["holds", "fails", "holds", "holds", "holds"]
    assert [claim.measured for claim in judged] == pytest.approx([2, 1.5, 1.5, 1, -1], abs=1e-3)
    assert judged[1].residual == pytest.approx(0.5, abs=1e-3)


def test_one_expert_beside_the_rule_is_enough_to_fail(found):
    odd = found.changes["expert"].eq(2) & found.changes["rule"].eq("p = 0")
    far, near = (found.changes.assign(slope=found.changes["slope"] + by * odd) for by in (0.011, 0.009))
    assert verdicts(far, found.curvature)[3] == "fails" and verdicts(near, found.curvature)[3] == "holds"
    assert verdicts(found.changes, found.curvature.assign(slope=-1.02))[4] == "fails"
    unknown = found.changes.assign(slope=found.changes["slope"].mask(odd))
    assert verdicts(unknown, found.curvature)[3] == "fails"


def test_two_gates_fit_any_power_and_are_refused_before_a_model_is_loaded():
    run = SimpleNamespace(config=SimpleNamespace(name="RSGD", seed=0, system="moelora"))
    with pytest.raises(ValueError, match=r"gates = \(0.1, 0.3, 0.3\) are too few to fit a power of g; pass at least 3"):
        measure([run], gates=(0.1, 0.3, 0.3))


def test_an_adapter_of_another_kind_is_refused_by_name():
    run = SimpleNamespace(config=SimpleNamespace(name="T-REX", seed=0, system="trex"))
    with pytest.raises(ValueError, match="has a trex adapter; constant gates need one of MoeLoraConfig"):
        measure([run])
