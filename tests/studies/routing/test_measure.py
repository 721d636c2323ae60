"""From recorded gates to three results that draw, judge and save themselves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

import moe_analysis as ma
from moe_analysis.studies import routing
from tests.studies.fake_routers import MODULES, named_run, soft, tokens_of

METHODS = {"LoRA-MoE": 4, "mix-and-match": 6, "T-REX": 6}


@pytest.fixture(scope="module")
def gates() -> routing.Gates:
    tokens, generator = tokens_of(12), np.random.default_rng(0)

    def recordings() -> list:
        return [
            (run_of(seed, method, experts), {name: soft(generator, len(tokens), experts) for name in MODULES}, tokens)
            for method, experts in METHODS.items()
            for seed in range(3)
        ]

    test = ma.load_suite("embedded", split="test").head(12)
    trained = recordings()
    alone = [one for one in recordings() if one[0].config.name == "T-REX"]
    runs = tuple(one[0] for one in trained)
    return routing.Gates(runs, test, np.arange(12) % 3, trained, recordings(), alone)


def run_of(seed: int, method: str, experts: int):
    run = named_run(seed, method, experts)
    vars(run.config).update(suite="embedded", backbone="compact", steps=4)
    return run


def test_three_results_come_from_the_same_gates(gates, tmp_path):
    information = ma.papers.routing_information(gates, shuffles=3)
    experts, agreement = ma.papers.routing_experts(gates, shuffles=3), ma.papers.routing_agreement(gates, shuffles=3)
    assert list(information.numbers) == ["trained", "untrained", "loads"] and list(experts.numbers) == ["shares"]
    assert list(agreement.numbers) == ["seeds", "layers", "untrained"]
    for found, claims in ((information, 7), (experts, 3), (agreement, 3)):
        assert isinstance(found.plot(), Figure) and found.interactive().data
        assert len(found.judged) == claims and found.origin.startswith("9 runs of 3 seeds, 4 steps each")
    assert "T-REX, router alone" in set(information.trained["method"]) & set(agreement.seeds["method"])
    assert "T-REX, router alone" not in set(information.untrained["method"])
    assert set(experts.informed["method"]) == {"mix-and-match", "T-REX", "T-REX, router alone"}
    assert len(experts.shown[["method", "seed", "module"]].drop_duplicates()) == 3
    assert experts.widget().controls and experts.save(tmp_path)["png"].stat().st_size > 10_000
    assert len(information.means) == 2 * 2 * 4 and "dead" in information.evenness.index


def test_claims_of_the_three_figures_are_not_counted_twice(gates):
    found = [measure(gates, 3) for measure in (routing.measure, routing.measure_experts, routing.measure_agreement)]
    names = [claim.name for one in found for claim in one.judged]
    assert len(names) == len(set(names)) == 13


def test_runs_without_a_router_are_refused():
    run = run_of(0, "LoRA", 0)
    run.config.system = "lora"
    with pytest.raises(ValueError, match="none of the runs has a router; pass runs of a mixture"):
        routing.record([run])
