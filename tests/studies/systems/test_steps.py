"""Systems after few and after many steps: what each has gained, over shared seeds and the same tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from moe_analysis.studies.systems import measure_steps
from moe_analysis.studies.systems.endpoints import kept_scores

from .test_measure import configured, stored_row
from .test_scores import INSIDE_TASKS

NAMES = ("LoRA", "S'MoRE", "S'MoRE, width 32", "SiRA")
NARROW, WIDE = NAMES[1:3]
FEW = dict(zip(NAMES, (0.6, 0.4, 0.8, 0.5)))
MANY = {"LoRA": 0.6, NARROW: 0.9}


def table(shares: Mapping[str, float], steps: int, seeds: range = range(6), **more: object) -> pd.DataFrame:
    rows = [stored_row(name, seed, right, **more) for name, right in shares.items() for seed in seeds]
    return pd.DataFrame([configured(row, steps=steps) for row in rows])


def test_systems_of_both_tables_and_their_versions_are_shown():
    found = measure_steps(table(MANY, 90, range(4)), table(FEW, 30))
    assert found.steps == (30, 90) and found.few.methods == list(NAMES[:3]) and found.many.methods == list(MANY)
    assert (
        found.origin.startswith("18 runs of 6 seeds, 30 steps each") and "8 runs of 4 seeds, 90 steps" in found.origin
    )
    means = found.means.set_index(["part", "method", "steps"])
    assert len(means) == 3 * (3 + 2)
    rows = kept_scores(found.many.scores, found.many.tasks, "variants")
    expected = rows[rows["method"] == NARROW].groupby("seed")["accuracy"].mean()
    assert means.loc[("variants", NARROW, 90), "mean"] == pytest.approx(expected.mean())
    assert means.loc[("variants", NARROW, 90), "seeds"] == 4
    assert isinstance(found.plot(), Figure) and len(found.interactive().data) == 3 * 3


def test_what_a_system_gains_on_lora_is_judged_over_the_seeds_that_all_trainings_have():
    found = measure_steps(table(MANY, 90, range(4)), table(FEW, 30))
    by_name = {claim.name: claim for claim in found.judged}
    assert all(claim.kind == "own" for claim in found.judged) and len(by_name) == len(found.judged) == 2 * 3
    gained = by_name["smore_steps_S'MoRE_transfer"]
    wider = by_name["smore_routing_32_transfer"]
    assert (gained.verdict, wider.verdict) == ("supported", "supported")
    few, many = (
        one.scores[one.scores["part"] == "ood"].pivot_table("accuracy", ["dataset", "seed"], "method")
        for one in (found.few, found.many)
    )
    over = (many[NARROW] - many["LoRA"]) - (few[NARROW] - few["LoRA"])
    assert gained.measured == pytest.approx(over.dropna().mean()) and gained.over.endswith("4 seeds")
    assert wider.measured == pytest.approx((few[WIDE] - few[NARROW]).mean())
    same = measure_steps(table(FEW, 90), table(FEW, 30))
    assert same.means.groupby(["part", "method"])["mean"].nunique().eq(1).all()
    assert {one.verdict for one in same.judged if "steps" in one.name} <= {"not supported", "undecided"}


@pytest.mark.parametrize(
    ("many", "few", "match"),
    [
        (table(MANY, 30), table(FEW, 30), "has runs of 30 steps and trial of 30; pass the longer ones as table"),
        (table({NARROW: 0.5}, 90), table(FEW, 30), "do not both have LoRA"),
        (table(MANY, 90), table({NARROW: 0.5}, 30), "do not both have LoRA"),
        (table(MANY, 90), table({"LoRA": 0.5}, 30).assign(config="{}"), "final runs of unknown steps"),
        (
            pd.concat([table({"LoRA": 0.5}, 90), table({NARROW: 0.5}, 80)]),
            table(FEW, 30),
            r"final runs of \[80, 90\] steps; pass runs of one number",
        ),
        (
            table(MANY, 90).assign(datasets=lambda rows: [[*INSIDE_TASKS, "a", "b", "c", "d"]] * len(rows)),
            table(FEW, 30),
            "were tested on different tasks or rows; pass tables of one suite",
        ),
        (
            table(MANY, 90).assign(majorities=lambda rows: [[0.3] * 9] * len(rows)),
            table(FEW, 30),
            "were tested on different tasks or rows",
        ),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(many, few, match):
    with pytest.raises(ValueError, match=match):
        measure_steps(many, few)


def test_seeds_that_no_two_trainings_share_give_no_verdict():
    found = measure_steps(table(MANY, 90, range(7, 9)), table(FEW, 30))
    gained = [claim for claim in found.judged if "steps" in claim.name]
    assert gained and {claim.verdict for claim in gained} == {"not testable here"}
    assert np.isfinite(found.means["mean"]).all() and json.dumps(found.origin)
