"""Verdicts on systems whose differences are known, and the rule that leaves tasks out."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from moe_analysis.studies.systems import claims, claims_adapter, claims_tasks
from moe_analysis.studies.systems.endpoints import gap, inside_parts, task_table
from moe_analysis.studies.systems.scores import against_level, scores

from .test_scores import INSIDE_TASKS, compare, levels_of

SIZES = {"LoRA": 100_000, "LoRA-MoE": 100_000, "SiRA": 100_000, "T-REX": 60_000}


def found_of(gains=None, chance=0.1, costs=(), **options) -> SimpleNamespace:
    """What the judging modules read of a result."""
    frame = scores(*compare(gains, **options))
    levels = levels_of(chance)
    return SimpleNamespace(
        scores=frame,
        guessing=against_level(frame, levels),
        tasks=task_table(frame, levels),
        methods=list(dict.fromkeys(frame["method"])),
        costs=pd.DataFrame({"method": list(dict(costs)), "trainable": list(dict(costs).values())}),
        authors=pd.DataFrame({"method": list(SIZES), "trainable": list(SIZES.values())}),
    )


def verdicts(found: list) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in found}


def test_the_headline_is_judged_on_each_endpoint_and_against_each_opponent():
    found = claims.claims(found_of({"T-REX": 0.1, "SiRA": 0.2}))
    told = {claim.name: claim for claim in found}
    assert [name for name in told if name.startswith("trex_headline_")] == [
        "trex_headline_retention",
        "trex_headline_acquisition",
        "trex_headline_saving",
        "trex_headline_smaller_retention",
        "trex_headline_smaller_acquisition",
    ]
    retention = told["trex_headline_retention"]
    assert verdicts(retention.parts) == {
        "trex_headline_retention_LoRA": "reproduced",
        "trex_headline_retention_LoRA-MoE": "reproduced",
        "trex_headline_retention_SiRA": "contradicted",
    }
    assert retention.verdict == "in part" and retention.note == "2 reproduced, 1 contradicted"
    assert retention.parts[0].over == "3 tasks and 5 seeds"
    assert told["trex_intuition_transfer"].verdict == "supported"


def test_opponents_are_corrected_for_their_number_together():
    parts = claims.claims(found_of({"T-REX": 0.1}))[0].parts
    assert sorted(part.confidence for part in parts) == pytest.approx([0.95, 1 - 0.05 / 2, 1 - 0.05 / 3])


def test_a_gap_across_zero_is_undecided_and_an_excluded_effect_is_not_reproduced():
    noisy = claims.claims(found_of(noise=0.05))[0]
    assert noisy.verdict == "undecided" and "80 % power" in noisy.parts[0].note
    narrow = claims.claims(found_of(noise=1e-4, seeds=range(8)))[0]
    assert narrow.verdict == "not reproduced" and all(part.high < claims.HEADLINE for part in narrow.parts)


def test_without_a_system_above_guessing_nothing_can_be_tested():
    found = claims.claims(found_of({"T-REX": 0.1}, chance=0.8))
    measured = [claim for claim in found if claim.kind == "paper"]
    assert {claim.verdict for claim in measured} == {"not testable here"}
    assert "no system is above guessing in transfer" in {part.note for claim in measured for part in claim.parts}


def test_systems_without_runs_are_named():
    found = claims.claims(found_of({"T-REX": 0.1}, methods=("LoRA", "T-REX")))[0]
    assert [part.note for part in found.parts] == ["", "no run of LoRA-MoE", "no run of SiRA"]
    assert found.note == "1 reproduced, 2 not testable here"


def test_saved_parameters_are_counted():
    assert claims.saving(found_of().authors).verdict == "holds"
    less = found_of().authors.assign(trainable=[100_000, 100_000, 80_000, 60_000])
    claim = claims.saving(less)
    assert [part.verdict for part in claim.parts] == ["holds", "holds", "fails"] and claim.verdict == "fails"
    assert claim.residual == pytest.approx(0.05)


def test_the_joint_headline_wants_a_smaller_t_rex():
    sizes = dict.fromkeys(("LoRA", "LoRA-MoE", "SiRA", "T-REX"), 100_000)
    without = claims.joint(found_of({"T-REX": 0.1}, costs=sizes), "originals")
    assert without.verdict == "not testable here" and "30 % to 40 % fewer parameters was trained" in without.note
    methods = ("LoRA", "LoRA-MoE", "SiRA", "T-REX", "T-REX, smaller")
    found = found_of({"T-REX, smaller": 0.1}, costs={**sizes, "T-REX, smaller": 65_000}, methods=methods)
    joint = claims.joint(found, "originals")
    assert joint.verdict == "reproduced" and joint.parts[0].compares == "T-REX, smaller - LoRA"


def test_hypotheses_of_ours_have_our_words():
    found = claims_tasks.claims(found_of({"MixLoRA": 0.1, "MoMOR": -0.1}, noise=1e-3))
    told = verdicts(found)
    assert told["own_MixLoRA_retention"] == "supported"
    assert told["own_MoMOR_retention"] == "not supported"
    assert len(found) == 5 * 3 and {claim.kind for claim in found} == {"own"}


def test_an_adapter_of_ones_own_stands_against_every_other():
    found = found_of({"mine": 0.1}, methods=("LoRA", "T-REX", "mine"))
    told = claims_adapter.claims(SimpleNamespace(**vars(found), name="mine"))
    assert [claim.name for claim in told] == [
        "own_adapter_retention",
        "own_adapter_acquisition",
        "own_adapter_transfer",
    ]
    assert told[0].verdict == "supported" and [part.compares for part in told[0].parts] == [
        "mine - LoRA",
        "mine - T-REX",
    ]


def test_tasks_at_floor_or_ceiling_for_the_strongest_reference_are_left_out():
    frame = scores(*compare({"LoRA": 0.05}, noise=0.0, seeds=(0, 1), methods=("LoRA", "MixLoRA", "T-REX")))
    at = frame["dataset"]
    values = frame["accuracy"].mask(at == INSIDE_TASKS[0], 0.12).mask(at == INSIDE_TASKS[1], 0.97)
    frame = frame.assign(accuracy=values.mask((frame["method"] == "T-REX") & (at == INSIDE_TASKS[2]), 0.1))
    tasks = task_table(frame, levels_of()).set_index("dataset")
    assert tasks["kept"].to_dict() == {
        name: name not in INSIDE_TASKS[:2] for name in tasks.index
    }  # what T-REX reaches counts for nothing
    lora = frame[(frame["method"] == "LoRA") & (frame["part"] != "ood")].groupby("dataset")["accuracy"].mean()
    assert tasks.loc[list(INSIDE_TASKS), "reference"].to_dict() == pytest.approx(lora.to_dict())
    assert tasks.loc[tasks["part"] == "ood", "reference"].isna().all()
    assert gap(frame, tasks.reset_index(), "originals", "T-REX", "LoRA").shape == (1, 2)
    none = tasks.reset_index().assign(kept=False)
    assert gap(frame, none, "originals", "T-REX", "LoRA") == "every task of retention is at floor or ceiling"
    assert inside_parts(frame) == ["originals", "variants"]
