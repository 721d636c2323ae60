"""Verdicts on used trees and on what their nodes add, on numbers whose verdict is known."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from moe_analysis.evidence import Claim
from moe_analysis.studies.trees import structures
from moe_analysis.studies.trees.claims import contribution_claims, declared, sibling_pairs, structure_claims
from moe_analysis.studies.trees.measure import UsedTrees
from tests.studies.fake_structures import recorded, structured_run

BALANCED, CONTROL = "S'MoRE", "S'MoRE, no balance"


def measured(
    seeds: int = 3, kinds: int = 12, tells: bool = True, before: bool = False, control: float | None = None, **run
) -> UsedTrees:
    """`tells` and `before` say whether trees tell the data set after training and before it; control: the last entropy
    of runs without a balance loss."""
    after = [(structured_run(seed, **run), *recorded(seed, kinds, tells)[1:]) for seed in range(seeds)]
    start = [recorded(seed, kinds, before) for seed in range(seeds)]
    runs = [one for one, _, _ in after]
    if control is not None:
        runs += [structured_run(seed, CONTROL, entropy=(2.0, control)) for seed in range(seeds)]
    trained, untrained = (structures.dataset_information(group, 20) for group in (after, start))
    return UsedTrees(
        method=BALANCED,
        training=structures.over_training(runs),
        datasets=structures.by_dataset(after),
        usage=structures.usage_by_layer(structures.usage_ranks(after)),
        trained=trained,
        untrained=untrained,
        random_siblings=5 / 6,
    )


def verdicts(**values) -> dict[str, str]:
    return {claim.name.removeprefix("smore_trees_"): claim.verdict for claim in structure_claims(measured(**values))}


def test_verdicts_follow_the_rule():
    found = verdicts()
    assert found == {
        "few": "supported",
        "narrow": "supported",
        "structure": "not supported",
        "tell": "supported",
        "learn": "supported",
        "balance": "not testable here",
    }
    found = verdicts(kinds=200, tells=False, entropy=(2.0, 4.0), differ=0.8)
    assert [found[name] for name in ("few", "narrow", "structure")] == ["not supported", "not supported", "supported"]
    assert found["tell"] == found["learn"] == "not supported"
    assert verdicts(before=True)["learn"] == "not supported"


def test_one_seed_decides_nothing():
    assert set(verdicts(seeds=1, control=3.0).values()) == {"not testable here"}


def test_the_balance_loss_is_judged_by_seeds_in_pairs():
    assert verdicts(entropy=(2.0, 5.0), control=3.0)["balance"] == "supported"
    assert verdicts(entropy=(2.0, 3.0), control=5.0)["balance"] == "not supported"


def test_trees_of_one_layer_have_no_siblings_to_judge():
    claims = {claim.name: claim for claim in structure_claims(replace(measured(), random_siblings=float("nan")))}
    assert claims["smore_trees_structure"].note == "trees of one layer have no siblings to compare"


def test_every_hypothesis_is_ours_and_declared_before_it_is_measured():
    for claim in declared():
        assert isinstance(claim, Claim) and claim.kind == "own" and not claim.verdict and claim.smallest > 0


def tree_frame(low: float = 0.2, agree: bool = True, seeds: int = 3) -> pd.DataFrame:
    """Trees of a root, two children and two leaves each; similarity orders siblings as contribution does, or not."""
    rows = []
    for seed in range(seeds):
        for node, (parent, layer) in enumerate([(-1, 2), (0, 1), (0, 1), (1, 0), (1, 0), (2, 0), (2, 0)]):
            share = {2: 1.0, 1: 0.5, 0: low}[layer] + 0.01 * node + 0.001 * seed
            rows.append(
                {
                    "method": "m",
                    "seed": seed,
                    "module": "a",
                    "token": 0,
                    "node": node,
                    "parent": parent,
                    "layer": layer,
                    "similarity": node if agree else -node,
                    "share": share,
                    "contribution": 3 * share,
                }
            )
    return pd.DataFrame(rows).assign(similarity=lambda frame: frame["similarity"].where(frame["parent"] >= 0))


def test_contributions_are_judged_by_pool_and_by_pairs_of_siblings():
    assert len(sibling_pairs(tree_frame())) == 3 * 3 and sibling_pairs(tree_frame())["agrees"].all()
    for values, words in (
        ({}, ["supported"] * 2),
        ({"low": -0.05, "agree": False}, ["not supported"] * 2),
        ({"seeds": 1}, ["not testable here"] * 2),
    ):
        assert [claim.verdict for claim in contribution_claims(tree_frame(**values))] == words


def test_a_router_that_compares_no_keys_leaves_the_claim_on_them_open():
    adds, closer = contribution_claims(tree_frame().assign(similarity=float("nan")))
    assert (adds.verdict, closer.verdict) == ("supported", "not testable here")
