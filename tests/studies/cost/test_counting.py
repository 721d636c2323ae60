"""The tables on cost: printed numbers, ways of counting, and verdicts that can turn."""

from __future__ import annotations

import pandas as pd
import pytest

from moe_analysis.analysis import efficiency, efficiency_claims
from moe_analysis.theory.cost import cost


@pytest.fixture(scope="module")
def costs() -> pd.DataFrame:
    return efficiency.adapter_costs(48, 32)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return efficiency.overhead_table()


@pytest.fixture(scope="module")
def shares() -> tuple[pd.DataFrame, pd.DataFrame]:
    return (
        efficiency.router_shares(efficiency.named_structures()),
        efficiency.router_shares(efficiency.protocol_structures()),
    )


def test_every_system_is_counted_in_both_parts_and_agrees_with_its_formula(costs):
    assert costs["system"].nunique() == 15 and (costs.groupby("system").size() == 2).all()
    assert not costs[["parameter_gap", "operation_gap"]].to_numpy().any()
    assert {name for name, _ in efficiency.systems().values()} == {
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
    listed = efficiency.cost_differences(48, 32)
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
    assert efficiency_claims.table_claims(table)["verdict"].tolist() == ["reproduced"] * 2


def test_a_table_that_misses_a_digit_is_not_reproduced(table):
    wrong = table.assign(deviation=table["deviation"].where(table.index != 3, 0.2))
    claims = efficiency_claims.table_claims(wrong)
    assert claims["verdict"].tolist() == ["not reproduced", "reproduced"]
    assert "5 of 6 cells" in claims["measured"][0] and "r=16 L=2" in claims["measured"][0]


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
    config = efficiency.named_structures()[0]
    found = cost("smore", *efficiency.PROJECTIONS["down"], config)
    rows = shares[0].query("projection == 'down' and counts == 'module'")
    assert rows["share"].iloc[0] == found.macs("router", "module") / found.macs("experts", "module")


def test_verdicts_on_the_router_follow_the_bound(shares):
    claims = efficiency_claims.router_claims(*shares)
    assert claims["verdict"].tolist() == [
        "reproduced",
        "reproduced",
        "not reproduced",
        "not reproduced",
        "reproduced",
        "reproduced",
    ]
    assert claims["source"].str.contains("our reading").tolist() == [False, False, True, True, False, True]
    named = shares[0].assign(share=shares[0]["share"] * 2)
    assert efficiency_claims.router_claims(named, shares[1])["verdict"][0] == "not reproduced"


def test_a_share_that_grows_with_the_rank_is_seen(shares):
    named = shares[0].assign(share=shares[0]["r"] / 100.0)
    claims = efficiency_claims.router_claims(named, shares[1])
    assert claims["measured"][4] == "falls with the rank in 6 of 9 families of structures"
    assert claims["verdict"][4] == "not reproduced"


def checks(holds: bool) -> pd.DataFrame:
    names = ["smore_cost_gates_run_once_a_parent", "smore_cost_active_experts"]
    return pd.DataFrame(
        {
            "name": names,
            "holds": [True, holds],
            "measured": [[2, 1]] * 2,
            "expected": [[2, 1]] * 2,
            "statement": ["what (how; more)"] * 2,
        }
    )


def test_a_failing_check_or_a_gap_turns_the_verdict(costs):
    assert efficiency_claims.cost_claims(checks(True), costs)["verdict"].tolist() == ["reproduced"]
    assert efficiency_claims.cost_claims(checks(False), costs)["verdict"].tolist() == ["not reproduced"]
    gap = costs.assign(operation_gap=1)
    assert efficiency_claims.cost_claims(checks(True), gap)["verdict"].tolist() == ["not reproduced"]
    with pytest.raises(ValueError, match="pass theory.verify"):
        efficiency_claims.cost_claims(checks(True).assign(name="gr_x"), costs)
    assert efficiency_claims.tree_claims(checks(False))["verdict"].tolist() == ["reproduced", "not reproduced"]


def test_the_example_tree_has_two_layers_of_two_children():
    tree = efficiency.example_tree()
    assert tree["layer"].tolist() == [2, 1, 1, 0, 0, 0, 0]
    assert tree.groupby("parent")["score"].sum().to_numpy() == pytest.approx(1.0)
