"""Verdicts on the experts' anatomy from frames whose differences are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.experts import ExpertAnatomy
from moe_analysis.studies.experts.claims import claims, entropy_claim, late_means

MODULES, STEPS = ("layers.0.q_proj", "layers.1.q_proj"), (0, 5, 10, 15)


def frame(gap: float = 0.0, follows: float = 1.0, seeds=(0, 1, 2), **columns: float) -> pd.DataFrame:
    """Every measure is its own constant plus noise; gRSGD lies lower by `gap` in the second half."""
    rng = np.random.default_rng(0)
    rows = []
    for method in ("RSGD", "gRSGD"):
        for seed in seeds:
            for step in STEPS:
                for module in MODULES:
                    down = gap if method == "gRSGD" and step >= 8 else 0.0
                    values = {name: value - down + 1e-3 * rng.standard_normal() for name, value in columns.items()}
                    if "token_entropy" in values:
                        values["load_balance"] = follows * values["token_entropy"]
                    rows.append(
                        {"method": method, "seed": seed, "step": step, "module": module, "layer": module[:8], **values}
                    )
    return pd.DataFrame(rows)


def frames(gap: float, follows: float = 1.0, seeds=(0, 1, 2)):
    return (
        frame(gap, seeds=seeds, gram_condition_b=50.0),
        frame(gap, seeds=seeds, map_similarity=0.5, output_similarity=0.5, update_similarity=0.5),
        frame(0.0, follows, seeds, token_entropy=0.8),
    )


def verdicts(*tables: pd.DataFrame) -> list[str]:
    return [claim.verdict for claim in claims(ExpertAnatomy(*tables))]


@pytest.mark.parametrize(("gap", "verdict"), [(0.1, "supported"), (-0.1, "not supported"), (0.0, "not supported")])
def test_less_alike_needs_an_interval_above_zero(gap, verdict):
    assert verdicts(*frames(gap))[:3] == [verdict] * 3


@pytest.mark.parametrize(("shrink", "verdict"), [(20.0, "supported"), (-20.0, "not supported")])
def test_better_conditioned_is_judged_by_logarithms(shrink, verdict):
    conditions, alike, load = frames(0.0)
    conditions = frame(shrink, gram_condition_b=50.0)
    assert verdicts(conditions, alike, load)[3] == verdict


def test_one_seed_decides_nothing():
    assert set(verdicts(*frames(0.1, seeds=(0,)))) == {"not testable here"}


def test_a_measure_that_no_seed_has_is_named_and_a_missing_method_refused():
    conditions, alike, load = frames(0.1)
    found = claims(ExpertAnatomy(conditions, alike.assign(map_similarity=np.nan), load))
    assert found[1].note == "no seed has a value of both RSGD and gRSGD"
    with pytest.raises(ValueError, match="no run of gRSGD; the runs are of RSGD"):
        claims(ExpertAnatomy(*(table[table["method"] == "RSGD"] for table in (conditions, alike, load))))


def test_only_the_second_half_counts_and_condition_numbers_are_averaged_as_logarithms():
    conditions, alike, _ = frames(0.1)
    conditions["gram_condition_b"] = np.where(conditions["step"] < 8, np.inf, 100.0)
    means = late_means([conditions, alike], ["gram_condition_b", "map_similarity"])
    assert means["gram_condition_b"].tolist() == pytest.approx([2.0] * 6)
    by_method = means.groupby("method")["map_similarity"].mean()
    assert by_method["RSGD"] - by_method["gRSGD"] == pytest.approx(0.1, abs=1e-2)


@pytest.mark.parametrize(("follows", "verdict"), [(-1.0, "supported"), (1.0, "not supported")])
def test_an_entropy_that_runs_against_the_load_does_not_tell_its_balance(follows, verdict):
    found = entropy_claim(frames(0.0, follows=follows)[2])
    assert found.verdict == verdict and found.over == "3 seeds"
