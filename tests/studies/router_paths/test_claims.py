"""The verdicts on T-REX's Fig. 2, on numbers whose verdict is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.router_paths.claims import claims
from tests.studies.router_paths.test_smoothness import CLEAR, converged, measured


def judged(smooth: pd.DataFrame, seeds: int = 3) -> list:
    return claims(SimpleNamespace(smooth=smooth, converged=converged(CLEAR, seeds)))


@pytest.mark.parametrize(
    "changes, seeds, verdict",
    [
        ({}, 3, "reproduced"),
        ({"mix-and-match": [3.0, 2.0, 5.0]}, 3, "in part"),  # lower on average, but not clear of chance
        ({"mix-and-match": [4.0, 6.1, 8.0], "LoRA-MoE": [1.0, 2.0, 3.0]}, 3, "in part"),  # one of the two is smoother
        ({"LoRA-MoE": [1.0, 2.0, 3.0]}, 3, "undecided"),  # the other gain is clear alone, but not among four
        ({}, 1, "not testable here"),
    ],
)
def test_the_path_is_smoother_when_it_is_so_in_every_measure_against_every_method(changes, seeds, verdict):
    smoother, _ = judged(measured({**CLEAR, **changes}, seeds), seeds)
    assert smoother.verdict == verdict and len(smoother.parts) == 4


def test_lower_tortuosity_alone_does_not_make_a_path_smoother():
    frame = measured(CLEAR)
    frame.loc[frame["method"] == "T-REX", "turning_angle"] += 10
    smoother, sooner = judged(frame)
    assert [smoother.verdict, sooner.verdict] == ["in part", "supported"]
    assert [part.verdict for part in smoother.parts] == ["reproduced", "reproduced", "contradicted", "contradicted"]


def test_the_effect_is_the_share_by_which_the_path_is_smoother():
    smoother, _ = judged(measured(CLEAR))
    against = {part.name.rpartition("_")[2]: part for part in smoother.parts[:2]}
    expected = np.mean([1 - 2 / 4, 1 - 3 / 5, 1 - 4 / 6.1])
    assert against["LoRA-MoE"].measured == pytest.approx(expected)
    assert against["LoRA-MoE"].over == "3 seeds"
