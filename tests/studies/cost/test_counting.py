"""The tables on cost: printed numbers, ways of counting, and verdicts that can turn."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from moe_analysis.studies.cost import counting
from moe_analysis.studies.cost.claims import ROUNDING, claims, module_claim, router_claims, table_claims
from moe_analysis.studies.cost.measure import measure_adapters, measure_tree
from moe_analysis.theory.cost import cost


@pytest.fixture(scope="module")
def costs() -> pd.DataFrame:
    return counting.adapter_costs(48, 32)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return counting.overhead_table()


@pytest.fixture(scope="module")
def shares() -> tuple[pd.DataFrame, pd.DataFrame]:
    return (
        counting.router_shares(counting.named_structures()),
        counting.router_shares(counting.protocol_structures()),
    )


def test_every_system_is_counted_in_both_parts_and_agrees_with_its_formula(costs):
    assert costs["system"].nunique() == 15 and (costs.groupby("system").size() == 2).all()
    assert not costs[["parameter_gap", "operation_gap"]].to_numpy().any()
    assert {name for name, _ in counting.systems().values()} == {
        "moelora",
        "sira",
        "trex",
        "hydralora",
        "momor",
        "smore",
    }


def test_systems_are_of_one_total_rank(costs):
    held = costs[costs["part"] == "experts"].set_index("system")["parameters"]
    assert (held[["LoRA", "LoRA-MoE", "MixLoRA", "SiRA", "MoMOR"]] == 64 * (48 + 32)).all()


def test_the_listed_differences_are_all_there_are(costs):
    listed = counting.cost_differences(48, 32)
    assert (listed["why"] != "").all() and ((listed["extra"] != 0) | (listed["per_call"] > 0)).all()
    extra = listed.groupby(["system", "part"])["extra"].sum()
    for row in costs.itertuples():
        assert row.computed - row.needed == extra.get((row.system, row.part), 0), row.system


def test_tables_one_and_six_agree_to_the_printed_digit(table):
    assert len(table) == 12 and (table["deviation"].abs() <= 0.05).all()
    cell = table[(table["table"] == "Table 6") & (table["r"] == 8) & (table["layers"] == 2)].iloc[0]
    assert cell["formula"] == pytest.approx(100 * (4 * 32 * 8 + 2 * 64 * (32 + 8)) / (2 * 4096 * 64))
    one = table[table["table"] == "Table 1"]
    assert (one["module"] > one["formula"]).all()  # biases
    assert [claim.verdict for claim in table_claims(table)] == ["holds"] * 2


def test_a_table_that_misses_a_digit_fails(table):
    wrong = table.assign(deviation=table["deviation"].where(table.index != 3, 0.2))
    one, six = table_claims(wrong)
    assert (one.verdict, six.verdict) == ("fails", "holds") and one.residual == 0.2 > ROUNDING >= six.residual
    assert one.expected == [1.0, 1.8, 2.9, 2.0, 3.6, 5.9]
    unknown = table.assign(deviation=table["deviation"].where(table.index != 3))
    assert [claim.verdict for claim in table_claims(unknown)] == ["fails", "holds"]


def test_all_is_the_three_projections_together(shares):
    for _, rows in shares[0].groupby(["structure", "counts"]):
        parts, whole = rows[rows["projection"] != "all"], rows[rows["projection"] == "all"].iloc[0]
        assert len(parts) == 3 and whole["share"] == pytest.approx(parts["router"].sum() / parts["experts"].sum())


def test_ways_of_counting_are_in_order(shares):
    for frame in shares:
        router = frame.pivot(index=["structure", "projection"], columns="counts", values="router")
        assert (router["authors"] <= router["per parent"]).all()
        assert (router["per parent"] < router["per parent, noise"]).all()


def test_the_modules_share_is_that_of_its_formula(shares):
    config = counting.named_structures()[0]
    found = cost("smore", *counting.PROJECTIONS["down"], config)
    rows = shares[0].query("projection == 'down' and counts == 'module'")
    assert rows["share"].iloc[0] == found.macs("router", "module") / found.macs("experts", "module")


def test_verdicts_on_the_router_follow_the_bound(shares):
    most, ranks, statistics = router_claims(*shares)
    assert [part.verdict for part in most.parts] == ["holds", "holds", "fails", "fails"]
    assert (most.verdict, most.note) == ("in part", "2 holds, 2 fails")
    assert ["our reading" in part.statement for part in most.parts] == [False, False, True, True]
    assert (ranks.verdict, statistics.verdict) == ("holds", "holds") and min(statistics.measured) > 1
    doubled = shares[0].assign(share=shares[0]["share"] * 2)
    assert router_claims(doubled, shares[1])[0].verdict == "fails"
    unknown = shares[0].assign(share=shares[0]["share"].where(shares[0]["r"] != shares[0]["r"].min()))
    assert router_claims(unknown, shares[1])[1].verdict == "fails"
    kept = shares[1][shares[1]["total_rank"] >= 32]
    assert router_claims(shares[0], kept)[0].verdict == "holds"


def test_a_gate_that_runs_once_makes_the_authors_count_right(shares):
    once = shares[1][shares[1]["f"] == "1-1"]
    statistics = router_claims(once, shares[1])[2]
    assert statistics.verdict == "fails" and set(statistics.measured) == {1.0}


def test_a_share_that_grows_with_the_rank_is_seen(shares):
    ranks = router_claims(shares[0].assign(share=shares[0]["r"] / 100.0), shares[1])[1]
    assert (ranks.measured, ranks.expected, ranks.verdict) == (6, 9, "fails")


def test_a_failing_check_or_a_gap_turns_the_verdict(costs):
    assert module_claim(costs).verdict == "holds"
    assert module_claim(costs.assign(operation_gap=1)).verdict == "fails"
    found = measure_adapters(48, 32)
    assert [claim.verdict for claim in claims(found)] == ["holds"] * 3
    broken = found.verified.assign(holds=False)
    assert [claim.verdict for claim in claims(replace(found, verified=broken))] == ["fails", "fails", "holds"]


def test_no_check_is_claimed_by_two_figures():
    tree, adapters = (claims(found) for found in (measure_tree(), measure_adapters(16, 16)))
    assert len(tree) == 2 and not {claim.name for claim in tree} & {claim.name for claim in adapters}


def test_the_example_tree_has_two_layers_of_two_children():
    tree = measure_tree().tree
    assert tree["layer"].tolist() == [2, 1, 1, 0, 0, 0, 0]
    assert tree.groupby("parent")["score"].sum().to_numpy() == pytest.approx(1.0)
