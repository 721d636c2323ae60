"""Verdicts on the anatomy of routing follow the rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.analysis import expert_load, router_agreement, specialisation
from moe_analysis.analysis.anatomy_claims import anatomy_claims, semantic_claims
from tests.analysis.fake_routers import MODULES, named_run, one_hot, soft, tokens_of


def frames_of(seeds: int = 3, tells: bool = True, same: bool = True, skewed: bool = False) -> tuple:
    """Frames of runs whose experts tell the data set or not, are the same in all seeds or not, evenly loaded or not."""
    tokens, generator = tokens_of(), np.random.default_rng(0)
    shared = generator.integers(0, 4, 192)
    recorded, before = [], []
    for seed in range(seeds):
        random = shared if same else generator.integers(0, 4, 192)
        codes = pd.factorize(tokens["dataset"])[0] if tells else random
        codes = np.where(generator.random(192) < 0.9, 0, codes) if skewed else codes
        gates = one_hot(codes, 4)[:, generator.permutation(4)]
        recorded.append((named_run(seed), {MODULES[0]: gates, MODULES[2]: gates}, tokens))
        before.append((named_run(seed), {module: soft(generator, 192, 4) for module in MODULES}, tokens))
    told = [
        specialisation.specialisation(
            each, {"dataset": list("aabbcc" * 4), "cluster": list("xy" * 12)}, permutations=20
        )
        for each in (recorded, before)
    ]
    agreements = [
        function(each, 10)
        for function, each in (
            (router_agreement.between_seeds, recorded),
            (router_agreement.between_layers, recorded),
            (router_agreement.between_seeds, before),
        )
    ]
    return *told, expert_load.load_summary(recorded), *agreements


def verdicts(**options) -> dict[str, str]:
    table = anatomy_claims(*frames_of(**options))
    assert set(table["source"]) == {"beyond the papers"} and list(table.columns)[-1] == "verdict"
    return dict(table.set_index("claim")["verdict"])


def test_verdicts_follow_the_rules():
    found = verdicts()
    by_task, by_cluster = "experts specialise by data set", "experts specialise by semantic cluster"
    assert found[by_task] == found["training makes experts specialise by data set"] == "reproduced"
    assert found[by_cluster] == "not reproduced" and found["few experts are dead"] == "not reproduced"
    assert found["the gates' mass is spread evenly over experts"] == "reproduced"
    same = "routers of different seeds find the same experts"
    assert found[same] == found["routers of different layers agree beyond chance"] == "reproduced"
    found = verdicts(tells=False, same=False)
    assert found[by_task] == found[same] == "not reproduced"
    assert found["few experts are dead"] == found["every expert has gates of its own"] == "reproduced"
    skewed = verdicts(skewed=True)
    assert skewed["the gates' mass is spread evenly over experts"] == "not reproduced"
    assert skewed["the largest gates are spread evenly over experts"] == "not reproduced"
    assert set(verdicts(seeds=2).values()) == {"not testable at this scale"}


def test_intuition_is_judged_with_and_without_the_priors_share():
    rows = [
        {
            "method": method,
            "seed": seed,
            "label": "cluster",
            "view": view,
            "label_entropy": 5.0,
            "excess": level + 0.01 * generator,
        }
        for method, level in (("T-REX", 0.5), ("mix-and-match", 0.1), ("T-REX, router alone", 0.05))
        for view in ("gates", "top1")
        for seed, generator in enumerate((0.0, 1.0, -1.0))
    ]
    table = semantic_claims(pd.DataFrame(rows))
    assert table["verdict"].tolist() == ["reproduced", "reproduced", "not reproduced"]
    small = pd.DataFrame(rows).assign(excess=lambda frame: frame["excess"] / 2)  # above 0 in every seed, and of no use
    assert set(semantic_claims(small)["verdict"]) == {"not reproduced"}
    with pytest.raises(ValueError, match="label = 'cluster' has no row; the frame has dataset"):
        semantic_claims(pd.DataFrame(rows).assign(label="dataset"))
