"""Verdicts of the subspace study, on inputs whose verdict is known, and the counts and frames they rest on."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from moe_analysis.evidence import Claim
from moe_analysis.studies.records import shared
from moe_analysis.studies.subspace import Approximation, Intuition, Span, Systems, Used
from moe_analysis.studies.subspace import parameters as parameter_counts
from moe_analysis.studies.subspace import span as spans_of
from moe_analysis.studies.subspace import theorems as trex_theorems
from moe_analysis.studies.subspace.claims import budget_exponent, claims

HOLDS = Claim("check", "a theorem", "a check", 0.0, 0.0, 0.0, True)
FAILS = Claim("check", "a theorem", "a check", 1.0, 0.0, 1.0, False)
NOTHING = pd.DataFrame()


def words(found) -> list[str]:
    return [claim.verdict for claim in claims(found)]


def parts(claim: Claim) -> list[str]:
    return [part.verdict for part in claim.parts]


@pytest.fixture(scope="module")
def spans():
    return (
        spans_of.rank_plot_frame(3),
        spans_of.span_by_budget([2**power for power in range(14, 19)], 512, 512, num_experts=8),
    )


def span(ranks: pd.DataFrame, budgets: pd.DataFrame, check: Claim = HOLDS) -> Span:
    return Span(ranks=ranks, equal_factors=NOTHING, budgets=budgets, sizes=NOTHING, checks=[check])


def test_the_span_grows_as_the_product_only_while_the_router_is_free(spans):
    found = span(*spans)
    assert words(found) == ["holds", "holds", "fails"]
    lemma, factors, router = claims(found)
    assert (lemma.parts[0].measured, lemma.parts[0].expected) == (45, 45)
    assert factors.measured == pytest.approx(2) and factors.residual == 0
    assert router.measured < 1.5 and router.residual == pytest.approx(1.5 - router.measured)
    assert router.source.startswith("our reading")


def test_one_wrong_span_or_one_failed_check_breaks_the_lemma(spans):
    ranks, budgets = spans
    wrong = ranks.assign(measured=[ranks["measured"][0] + 1, *ranks["measured"][1:]])
    assert parts(claims(span(wrong, budgets))[0]) == ["fails", "holds"]
    assert words(span(wrong, budgets, FAILS))[0] == "fails"
    assert parts(claims(span(ranks, budgets, FAILS))[0]) == ["holds", "fails"]


def test_the_growth_exponent_is_that_of_a_power():
    rows = [("factors", budget, "mix_and_match", span) for budget, span in ((1, 3), (2, 12), (4, 48))]
    frame = pd.DataFrame(rows, columns=["count", "budget", "system", "span"])
    assert budget_exponent(frame, "factors") == pytest.approx(2)


def used_frame(ranks: dict[str, float], seeds: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (method, seed, 8 if method == "LoRA-MoE" else 32, rank + 0.1 * seed * (method != "LoRA-MoE"), rank)
            for method, rank in ranks.items()
            for seed in range(seeds)
        ],
        columns=["method", "seed", "experts", "rank_0.01", "effective_rank"],
    )


def used(ranks: dict[str, float], span: int, seeds: int = 3) -> Used:
    reached = pd.DataFrame({"method": ["LoRA-MoE", "T-REX"], "experts": [8, 32], "span": [8, span]})
    return Used(used=used_frame(ranks, seeds), reached=reached, energy=NOTHING)


def test_a_method_that_uses_and_reaches_more_than_the_mixture_is_supported():
    found = used({"LoRA-MoE": 7.0, "mix-and-match": 1.0, "T-REX": 20.0}, 32)
    assert words(found) == ["holds", "not supported", "supported"]
    _, fewer, more = claims(found)
    assert "mix-and-match" in fewer.statement and [part.over for part in more.parts] == ["3 seeds"] * 2
    assert all(claim.kind == "own" for claim in (fewer, more))


def test_a_method_that_leads_in_one_measure_only_is_supported_in_part():
    found = used({"LoRA-MoE": 7.0, "T-REX": 20.0}, 32)
    found.used.loc[found.used["method"] == "T-REX", "effective_rank"] = 3.0
    assert parts(claims(found)[1]) == ["supported", "not supported"] and words(found)[1] == "in part"


def test_copied_up_vectors_do_not_reach_the_product():
    reached = claims(used({"LoRA-MoE": 7.0, "T-REX": 20.0}, 4))[0]
    assert (reached.verdict, reached.measured, reached.residual) == ("fails", 0, 28)


def test_one_seed_decides_nothing_about_used_directions():
    assert words(used({"LoRA-MoE": 7.0, "T-REX": 20.0}, 32, seeds=1))[1] == "not testable here"


def test_without_the_mixture_nothing_is_compared():
    found = claims(used({"T-REX": 20.0}, 32))[1]
    assert found.verdict == "not testable here" and found.parts[0].note == "no run of LoRA-MoE"


def errors_frame(mixing: dict[str, float]) -> pd.DataFrame:
    rows = [
        (family, count, seed, method, "3", error * (1 + seed / 100))
        for family in ("shared", "clustered")
        for count in ("factors", "factors+router")
        for seed in (0, 1)
        for method, error in (("LoRA", 0.9), ("rank-1 diagonal", 0.4), ("mix-and-match", mixing[count]))
    ]
    return pd.DataFrame(rows, columns=["family", "count", "seed", "method", "size", "relative_error"])


def test_mix_and_match_must_be_best_in_every_family_of_a_count():
    frame = errors_frame({"factors": 0.1, "factors+router": 0.8})
    found = claims(Approximation(by_seed=frame, checks=[HOLDS]))
    assert [claim.verdict for claim in found] == ["holds", "holds", "not supported"]
    assert [claim.kind for claim in found] == ["exact", "exact", "own"]
    assert found[2].parts[0].measured == pytest.approx(-1.0) and found[2].parts[0].over == "2 seeds of the targets"
    summary = trex_theorems.approximation_summary(frame)
    assert summary.loc[summary["best"], "method"].tolist() == ["mix-and-match", "rank-1 diagonal"] * 2
    assert summary.loc[0, ["low", "mean", "high"]].tolist() == pytest.approx([0.9, 0.9045, 0.909])


def test_what_holds_by_construction_is_called_a_consistency_check_and_fails_when_it_does_not():
    found = claims(Approximation(by_seed=errors_frame({"factors": 0.5, "factors+router": 0.1}), checks=[FAILS]))
    assert [claim.verdict for claim in found] == ["fails", "fails", "supported"]
    assert all(claim.statement.startswith("consistency check:") for claim in (found[1], *found[1].parts))


def noise_frame(aligned: float, seeds: int = 3) -> pd.DataFrame:
    factor = {"none": 1.0, "aligned": aligned, "mismatched": 1.2}
    return pd.DataFrame(
        [
            (prior, seed, step, (10.0 + seed) * (1 if step == 0 else value * (1 + 0.01 * seed * (prior != "none"))))
            for prior, value in factor.items()
            for seed in range(seeds)
            for step in (0, 10, 50)
        ],
        columns=["prior", "seed", "step", "noise_to_signal"],
    )


def intuition(aligned: float, seeds: int = 3, check: Claim = HOLDS) -> Intuition:
    return Intuition(searches=NOTHING, noise=noise_frame(aligned, seeds), checks=[check])


@pytest.mark.parametrize(
    "aligned, seeds, verdict",
    [(0.5, 3, "supported"), (1.1, 3, "not supported"), (0.5, 1, "not testable here")],
)
def test_noise_must_fall_at_every_step_after_the_start(aligned, seeds, verdict):
    found = intuition(aligned, seeds)
    assert words(found) == ["holds", verdict]
    assert [part.name[-2:] for part in claims(found)[1].parts] == ["10", "50"]


def test_less_noise_at_one_step_is_true_in_part():
    found = intuition(0.5)
    late = (found.noise["step"] == 50) & (found.noise["prior"] == "aligned")
    found.noise.loc[late, "noise_to_signal"] *= 3
    assert words(found)[1] == "in part" and claims(found)[1].note == "1 supported, 1 not supported"


def test_a_failed_check_breaks_the_line_search():
    assert words(intuition(0.5, check=FAILS))[0] == "fails"


def test_noise_is_compared_within_a_seed_and_step():
    ratios = trex_theorems.noise_against_none(noise_frame(0.5)).set_index(["prior", "step"])
    assert ratios.loc[("aligned", 0), ["ratio", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert ratios.loc[("aligned", 10), "ratio"] == pytest.approx(0.5 * (1.01 * 1.02) ** (1 / 3))
    assert (ratios["seeds"] == 3).all()


def test_every_line_search_ends_where_the_closed_form_says():
    searches = trex_theorems.line_search_frame()
    assert list(dict.fromkeys(searches["case"])) == list(trex_theorems.CASES)
    assert searches.groupby("case")["problems"].first().sum() == 200
    for case, line in searches.groupby("case"):
        assert line["loss"].min() >= line["best_loss"].iloc[0] - 1e-12
        nearest = line.iloc[(line["omega"] - line["best_omega"]).abs().argmin()]
        assert nearest["loss"] == pytest.approx(line["loss"].min(), abs=1e-9), case


def test_the_errors_of_theorem_4_2_cover_every_family_and_count():
    frame = trex_theorems.approximation_frame(parameters=144, num_experts=2, seeds=(0,), restarts=0)
    assert len(frame) == 3 * 3 * 4 and set(frame["method"]) == set(trex_theorems.LABELS.values())
    free = frame[frame["count"] == "factors"].pivot(index="family", columns="method", values="relative_error")
    assert (free["mix-and-match"] == free.min(axis=1)).all()


def test_layers_are_counted_as_written_in_the_formulas():
    table = parameter_counts.layer_parameters({"wide": (10, 30)}).set_index("method")
    assert table.loc["LoRA-MoE", "parameters"] == 32 * 40 + 8 * 10 == table.loc["SiRA", "parameters"]
    assert table.loc["T-REX", "parameters"] == 4 * 10 + 8 * 30 + 32 * 10 + 2
    assert table.loc["T-REX", "factor_parameters"] == 4 * 10 + 8 * 30
    assert table.loc["LoRA-MoE", "saving"] == pytest.approx(1 - 602 / 1360) and table.loc["T-REX", "saving"] == 0


def test_a_backbone_is_counted_after_wrapping_and_left_as_it_was(tiny_llama):
    from moe_analysis.peft_bridge import MoeLoraConfig, TRexConfig

    configs = {
        "LoRA-MoE": MoeLoraConfig(num_experts=2, r=3, target_modules=["q_proj"]),
        "T-REX": TRexConfig(num_down=2, num_up=2, target_modules=["q_proj"]),
    }
    before = {name: parameter.requires_grad for name, parameter in tiny_llama.named_parameters()}
    table = parameter_counts.backbone_parameters(tiny_llama, configs).set_index("method")
    assert table["parameters"].to_dict() == {"LoRA-MoE": 2 * (2 * 3 * 32 + 2 * 16), "T-REX": 2 * (4 * 16 + 4 * 16 + 2)}
    assert {name: parameter.requires_grad for name, parameter in tiny_llama.named_parameters()} == before
    with pytest.raises(ValueError, match="reference = 'LoRA' is not one of"):
        parameter_counts.backbone_parameters(tiny_llama, configs, "LoRA")


def test_sizes_carry_their_span_and_both_counts():
    table = parameter_counts.parameters_of_sizes([(1, 2, 2), (2, 2, 4)], 10, 20)
    assert table["system"].tolist() == ["T-REX", "T-REX", "LoRA-MoE", "LoRA", "LoRA-MoE", "LoRA"]
    assert table["factor_parameters"].tolist() == [50, 60, 30, 30, 60, 60]
    assert table["parameters"].tolist() == [50 + 20 + 2, 60 + 40 + 2, 40, 30, 80, 60]
    assert table["span"].tolist() == [2, 4, 1, 1, 2, 1]


def systems(square: float, wide: float, backbone: float) -> Systems:
    return Systems(
        in_features=8,
        out_features=8,
        parameters=NOTHING,
        sizes=NOTHING,
        backbone=pd.DataFrame({"method": ["LoRA", "LoRA-MoE"], "saving": [-1.0, backbone]}),
        layers=pd.DataFrame({"layer": ["square", "wide"], "method": "LoRA-MoE", "saving": [square, wide]}),
        by_dataset=NOTHING,
    )


def test_the_saving_is_counted_on_the_backbone_and_on_every_layer():
    assert words(systems(0.39, 0.35, 0.38)) == ["holds"]
    narrow = claims(systems(0.39, 0.2, 0.38))[0]
    assert narrow.verdict == "in part" and narrow.parts[2].residual == pytest.approx(0.1)
    assert words(systems(0.39, 0.35, 0.1)) == ["in part"] and words(systems(0.5, 0.2, 0.1)) == ["fails"]


def test_runs_of_several_suites_are_refused():
    runs = [SimpleNamespace(config=SimpleNamespace(name="T-REX", seed=seed, suite=f"s{seed}")) for seed in (0, 1)]
    with pytest.raises(ValueError, match="runs differ in suite: s0, s1; measure those of one suite"):
        shared(runs, "suite")


def test_a_result_of_another_study_is_refused():
    with pytest.raises(TypeError, match="found is int"):
        claims(3)
