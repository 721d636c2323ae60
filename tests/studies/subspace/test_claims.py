"""Verdicts of notebook 03, on inputs whose verdict is known, and the counts and frames they rest on."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from moe_analysis.analysis import parameter_counts, subspace, subspace_claims, trex_theorems
from moe_analysis.drawing.save import CLAIM_FIELDS, VERDICTS

CHECKS = ("trex_lemma_4_1_a", "trex_theorem_4_2_a", "trex_theorem_4_3_a", "trex_theorem_4_3_b")


def verified(failing: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"name": CHECKS, "holds": [name != failing for name in CHECKS]})


def verdicts(rows: pd.DataFrame) -> list[str]:
    assert list(rows.columns) == list(CLAIM_FIELDS) and set(rows["verdict"]) <= set(VERDICTS)
    assert rows.map(bool).all(axis=None)
    return rows["verdict"].tolist()


@pytest.fixture(scope="module")
def spans():
    return (
        subspace.rank_plot_frame(3),
        subspace.span_by_budget([2**power for power in range(14, 19)], 512, 512, num_experts=8),
    )


def test_the_span_grows_as_the_product_only_while_the_router_is_free(spans):
    rows = subspace_claims.lemma_claims(verified(), *spans)
    assert verdicts(rows) == ["reproduced", "reproduced", "not reproduced"]
    assert "45 of 45" in rows["measured"][0] and "9 of 9" in rows["measured"][0]
    assert "exponent in the budget 2.00 (diagonal 1.00)" in rows["measured"][1]


def test_one_wrong_span_or_one_failed_check_breaks_the_lemma(spans):
    ranks, budgets = spans
    wrong = ranks.assign(measured=[ranks["measured"][0] + 1, *ranks["measured"][1:]])
    assert verdicts(subspace_claims.lemma_claims(verified(), wrong, budgets))[0] == "not reproduced"
    assert verdicts(subspace_claims.lemma_claims(verified(CHECKS[0]), ranks, budgets))[0] == "not reproduced"


def test_checks_that_were_not_run_are_asked_for():
    with pytest.raises(ValueError, match="no check named trex_theorem_4_2"):
        subspace_claims.approximation_claims(verified().head(1), pd.DataFrame())


def test_the_growth_exponent_is_that_of_a_power():
    assert subspace_claims.growth_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def used_frame(ranks: dict[str, float], seeds: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (method, seed, 8 if method == "LoRA-MoE" else 32, rank + 0.1 * seed * (method != "LoRA-MoE"), rank)
            for method, rank in ranks.items()
            for seed in range(seeds)
        ],
        columns=["method", "seed", "experts", "rank_0.01", "effective_rank"],
    )


def reached_frame(span: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": ["LoRA-MoE", "T-REX"],
            "rank_a": [8, 4],
            "rank_b": [8, span // 4],
            "experts": [8, 32],
            "span": [8, span],
        }
    )


def test_a_method_that_uses_and_reaches_more_than_the_mixture_is_reproduced():
    used = used_frame({"LoRA-MoE": 7.0, "mix-and-match": 1.0, "T-REX": 20.0})
    rows = subspace_claims.used_claims(used, reached_frame(32))
    assert verdicts(rows) == ["reproduced", "not reproduced", "reproduced"]
    assert "mix-and-match" in rows["claim"][1] and "T-REX" in rows["claim"][2]


def test_copied_up_vectors_do_not_reach_the_product():
    rows = subspace_claims.used_claims(used_frame({"LoRA-MoE": 7.0, "T-REX": 20.0}), reached_frame(4))
    assert verdicts(rows)[0] == "not reproduced" and "span 4 to 4 of 32" in rows["measured"][0]


def test_two_seeds_decide_nothing_about_used_directions():
    rows = subspace_claims.used_claims(used_frame({"LoRA-MoE": 7.0, "T-REX": 20.0}, seeds=2), reached_frame(32))
    assert verdicts(rows)[1] == "not testable at this scale"


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
    rows = subspace_claims.approximation_claims(verified(), frame)
    assert verdicts(rows) == ["reproduced", "reproduced", "not reproduced"]
    assert "shared 0.25" in rows["measured"][1] and "best on 0 of 2" in rows["measured"][2]
    summary = trex_theorems.approximation_summary(frame)
    assert summary.loc[summary["best"], "method"].tolist() == ["mix-and-match", "rank-1 diagonal"] * 2
    assert summary.loc[0, ["low", "mean", "high"]].tolist() == pytest.approx([0.9, 0.9045, 0.909])


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


@pytest.mark.parametrize(
    "aligned, seeds, verdict",
    [(0.5, 3, "reproduced"), (1.1, 3, "not reproduced"), (0.5, 2, "not testable at this scale")],
)
def test_noise_must_fall_at_every_step_after_the_start(aligned, seeds, verdict):
    rows = subspace_claims.intuition_claims(verified(), noise_frame(aligned, seeds))
    assert verdicts(rows) == ["reproduced", verdict]


def test_a_failed_check_breaks_the_line_search():
    rows = subspace_claims.intuition_claims(verified(CHECKS[3]), noise_frame(0.5))
    assert rows["verdict"][0] == "not reproduced" and "1 of 2 checks hold" in rows["measured"][0]


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
    with pytest.raises(ValueError, match="reference = 'LoRA' is not among"):
        parameter_counts.backbone_parameters(tiny_llama, configs, "LoRA")


def test_sizes_carry_their_span_and_both_counts():
    table = parameter_counts.parameters_of_sizes([(1, 2, 2), (2, 2, 4)], 10, 20)
    assert table["system"].tolist() == ["T-REX", "T-REX", "LoRA-MoE", "LoRA", "LoRA-MoE", "LoRA"]
    assert table["factor_parameters"].tolist() == [50, 60, 30, 30, 60, 60]
    assert table["parameters"].tolist() == [50 + 20 + 2, 60 + 40 + 2, 40, 30, 80, 60]
    assert table["span"].tolist() == [2, 4, 1, 1, 2, 1]


def headline(square: float, wide: float, backbone: float) -> list[str]:
    layers = pd.DataFrame({"layer": ["square", "wide"], "method": "LoRA-MoE", "saving": [square, wide]})
    whole = pd.DataFrame({"method": ["LoRA", "LoRA-MoE"], "saving": [-1.0, backbone]})
    runs = [
        SimpleNamespace(
            config=SimpleNamespace(name=name, seed=seed),
            evaluation=pd.DataFrame({"dataset": ["a", "b"], "accuracy": [0.5, level + seed / 100]}),
        )
        for name, level in (("T-REX", 0.6), ("LoRA-MoE", 0.5))
        for seed in range(3)
    ]
    rows = subspace_claims.headline_claims(layers, whole, runs)
    assert "+5.00%" in rows["measured"][2] and "over 3 seeds" in rows["spread"][2]
    return verdicts(rows)


def test_the_headline_is_counted_and_accuracy_left_open():
    assert headline(0.39, 0.35, 0.38) == ["reproduced", "reproduced", "not testable at this scale"]
    assert headline(0.39, 0.2, 0.38) == ["reproduced", "not reproduced", "not testable at this scale"]
    assert headline(0.39, 0.35, 0.1)[0] == headline(0.5, 0.35, 0.38)[0] == "not reproduced"
