"""The verdicts on gR's optimizers, on numbers whose verdict is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from moe_analysis.evidence import Claim
from moe_analysis.studies.optimizers import Confound, Exponent, OneExpert, measure, measure_control, measure_rescaling
from moe_analysis.studies.optimizers.claims import backbone_claim, claims, tuning_fault
from moe_analysis.studies.optimizers.curves import best_rates, outcomes
from moe_analysis.studies.optimizers.exponent import confound_cases
from moe_analysis.studies.optimizers.measure import difference

from .test_curves import FORMS, run
from .test_exponent import SEEDS, TUNING, curves, matched, rows

GRID = (0.1, 0.2, 0.4)


def verdicts(found: Sequence[Claim]) -> list[str]:
    return [claim.verdict for claim in found]


def over(gap: float, grids: dict[str, Sequence[float]] | None = None, best: float = 0.2) -> list:
    """SGD, RSGD, gSGD and gRSGD over learning rates, each lower by `gap` than the one before, least at `best`."""
    rng = np.random.default_rng(0)
    return [
        run(
            method,
            seed,
            3.0 - gap * index + abs(np.log2(lr / best)) + 0.01 * rng.standard_normal(),
            2.0 + abs(np.log2(lr / best)),
            lr=lr,
        )
        for index, method in enumerate(FORMS)
        for lr in (grids or {}).get(method, GRID)
        for seed in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    "gap, words",
    [
        (0.5, ["reproduced"] * 3),
        (0.0, ["not reproduced"] * 3),
        (-0.5, ["contradicted"] * 3),
    ],
)
def test_optimizers_at_their_own_best_rates_are_ordered_by_the_rule(gap, words):
    sgd, adam = claims(measure(over(gap)))
    assert verdicts(sgd.parts) == words and sgd.verdict == words[0]
    assert adam.verdict == "not testable here" and "no run of" in adam.parts[0].note


def test_what_is_compared_is_the_loss_at_the_best_rate_of_each():
    (part, *_) = claims(measure(over(0.5)))[0].parts
    assert part.measured == pytest.approx(1 - (3.0 - 1.5 - 0.5) / (3.0 - 0.5 - 0.5), abs=0.02)
    assert part.compares == "1 - gRSGD / RSGD, each at its best learning rate" and part.over == "3 seeds"


@pytest.mark.parametrize(
    "grids, best, fault",
    [
        (
            dict.fromkeys(FORMS, (0.2,)),
            0.2,
            "RSGD ran at 0.2 and SGD ran at 0.2; a common grid of at least 3 learning rates would decide it",
        ),
        (
            {"RSGD": (0.1, 0.2, 0.4, 0.8)},
            0.2,
            "RSGD ran at 4 rates from 0.1 to 0.8 and SGD ran at 3 rates from 0.1 to 0.4; a common grid of at least 3",
        ),
        (None, 0.4, "RSGD is best at 0.4 and SGD is best at 0.4, an end of the grid; rates beyond it would decide it"),
    ],
)
def test_rates_that_were_not_tuned_alike_are_named_with_what_would_decide(grids, best, fault):
    found = measure(over(0.5, grids, best))
    part = next(part for part in claims(found)[0].parts if part.name == "gr_fig3_RSGD_SGD")
    assert part.verdict == "not testable here" and part.note.startswith(fault)


def test_a_fair_grid_has_no_fault():
    assert tuning_fault(best_rates(outcomes(over(0.5))), "RSGD", "SGD") == ""


def pair(gap: float, accuracy: float = 0.1, **rates: float) -> list:
    """RSGD and gRSGD at three seeds, gRSGD's losses lower by `gap`."""
    return [
        run(
            method,
            seed,
            3.0 - (gap + 0.01 * seed) * rescaled,
            2.0 - (gap + 0.01 * seed) * rescaled,
            0.3 + (accuracy + 0.001 * seed) * rescaled,
            lr=rates.get(method, 0.1),
        )
        for rescaled, method in enumerate(("RSGD", "gRSGD"))
        for seed in (0, 1, 2)
    ]


def test_the_papers_second_figure_is_judged_at_one_learning_rate():
    found = claims(measure_rescaling(pair(0.5)))
    assert verdicts(found) == ["reproduced"] * 3
    assert found[2].measured == pytest.approx(0.101) and found[2].paper_effect == pytest.approx(0.0661)
    assert verdicts(claims(measure_rescaling(pair(-0.5, -0.1)))) == ["contradicted"] * 3
    assert verdicts(claims(measure_rescaling(pair(0.0, 0.0)))[:1]) == ["not reproduced"]
    apart = claims(measure_rescaling(pair(0.5, gRSGD=0.2)))
    assert verdicts(apart) == ["not testable here"] * 3
    assert apart[0].note.startswith("RSGD ran at 0.1 and gRSGD at 0.2; runs of both at the same learning rate")


def test_of_several_rates_the_best_of_the_plain_method_is_taken():
    found = measure_rescaling(over(0.5))
    assert set(found.outcomes["lr"]) == {0.2} and set(found.outcomes["method"]) == {"RSGD", "gRSGD"}
    with pytest.raises(ValueError, match="runs has no run of gRSGD; train both RSGD and gRSGD"):
        measure_rescaling([run("RSGD", 0, 3.0)])


def test_a_seed_that_diverged_leaves_a_claim_untestable():
    runs = pair(0.5)
    runs[-1].history.loc[5:, "loss"] = np.nan
    found = claims(measure_rescaling(runs))
    assert verdicts(found) == ["not testable here"] * 3
    assert found[0].note == "training diverged at 1 of 3 seeds"


def exponent_rows(sign: float, top_ks=(4,), temperatures=(1.0,)) -> pd.DataFrame:
    """Rescaled losses lower by a fifth (sign 1), and by more where gates are uneven."""
    return rows(
        lambda p, t, k, seed: 1.0 + 0.01 * seed * p - sign * (p != 1) * (k > 1) * (0.3 - 0.2 * t + 0.001 * seed * t),
        temperatures=temperatures,
        top_ks=top_ks,
    )


@pytest.mark.parametrize(
    "sign, words", [(1, ["holds", "reproduced", "supported"]), (-1, ["holds", "contradicted", "not supported"])]
)
def test_the_exponents_verdicts_follow_the_planted_losses(sign, words):
    found = Exponent(by_k=exponent_rows(sign, (1, 2, 4, 8)), powers=exponent_rows(sign, temperatures=(0.1, 0.4, 0.9)))
    same = claims(found)
    assert verdicts(same)[1:] == words[1:]
    assert [part.paper_effect for part in same[1].parts] == pytest.approx(
        [1 - 0.545 / 0.577, 1 - 0.589 / 0.647, 1 - 0.748 / 0.784]
    )


def test_one_expert_holds_only_to_the_last_bit():
    equal = rows(lambda p, t, k, seed: 0.5, top_ks=(1,))
    near = rows(lambda p, t, k, seed: 0.5 if p == 1 else np.nextafter(0.5, 1), top_ks=(1,))
    several, powers = exponent_rows(1, (2,)), exponent_rows(1, temperatures=(0.1, 0.9))
    found = [claims(Exponent(by_k=pd.concat([single, several]), powers=powers))[0] for single in (equal, near)]
    assert verdicts(found) == ["holds", "fails"] and 0 < found[1].residual < 1e-12


def confound(factor: float, gain: float, frame: pd.DataFrame | None = None) -> list[Claim]:
    frame = curves(factor, gain, 0.001) if frame is None else frame
    runs = [
        run(name, seed, 3.0 - 0.001 * seed, 2.0)
        for name in ("gRSGD", "RSGD, matched", "gRSGD, low lr", "RSGD, low lr", "RSGD, low lr matched")
        for seed in (0, 1, 2)
    ]
    cases = confound_cases(frame, TUNING, matched(frame, 0.02, 0.04))
    return claims(Confound(bench=frame, cases=cases, matches=pd.DataFrame(), runs=runs))


def test_a_gain_at_every_rate_is_found_in_every_comparison_of_the_bench():
    equal, steps, tuned, more, *backbone = confound(1.0, -0.2)
    assert [equal.verdict, steps.verdict, tuned.verdict, more.verdict] == ["supported"] * 4
    assert len(equal.parts) == 3 and len(steps.parts) == 0 and len(backbone) == 3
    assert verdicts(confound(1.0, 0.2)[:4]) == ["not supported"] * 4


def test_a_larger_learning_rate_alone_is_told_from_a_gain():
    equal, steps, tuned, more, *_ = confound(2.0, 0.0)
    assert verdicts(equal.parts) == ["supported", "supported", "not supported"] and equal.verdict == "in part"
    assert [steps.verdict, tuned.verdict, more.verdict] == ["not supported"] * 3


def test_only_seeds_that_did_not_choose_the_rates_are_fitted():
    *_, more, _, _, _ = confound(2.0, 0.0)
    assert more.over == f"{len(set(SEEDS) - set(TUNING))} seeds"


def test_a_bench_seed_that_diverged_leaves_its_comparison_untestable():
    frame = curves(1.0, -0.2, 0.001)
    lost = frame.assign(loss=frame["loss"].where((frame["seed"] != 0) | (frame["method"] == "RSGD"), np.inf))
    equal = confound(1.0, 0.0, lost)[0]
    assert equal.verdict == "not testable here"
    assert equal.parts[0].note == f"training diverged at 1 of {len(SEEDS)} seeds"


def test_a_condition_on_the_backbone_is_judged_on_training_and_test_loss():
    table = outcomes(pair(0.5))
    upright = backbone_claim(table, "at one learning rate", "gRSGD", "RSGD")
    assert verdicts(upright.parts) == ["supported"] * 2 and upright.kind == "own"
    assert backbone_claim(table, "upside down", "RSGD", "gRSGD").verdict == "not supported"


def test_identical_runs_are_told_from_runs_that_differ_in_one_bit():
    first, second = run("RSGD", 0, 3.0), run("gRSGD", 0, 3.0)
    assert difference(first, second) == (0.0, True)
    second.history.loc[3, "loss"] = np.nextafter(second.history.loc[3, "loss"], 9.0)
    gap, same = difference(first, second)
    assert gap > 0 and not same
    assert verdicts(claims(OneExpert(losses=first.history, gap=gap, same=same))) == ["fails"]


def test_the_control_needs_a_run_to_repeat():
    with pytest.raises(ValueError, match="runs has no run of RSGD, which both runs of the control need"):
        measure_control([run("gRSGD", 0, 3.0)])
