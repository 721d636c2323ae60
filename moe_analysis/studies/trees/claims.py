"""How a trained S'MoRE uses its structural flexibility: our own hypotheses, declared before they were measured.

The paper measures none of this. Means are over modules and tokens, intervals over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from ...evidence import Claim, Effect, judged
from .measure import TokenTree, UsedTrees

SOURCE = "beyond S'MoRE"
FEW = 0.5  # of the trees that the same number of random choices would show
MATTERS = 0.05  # of the norm of a layer's update: what a node must contribute
SHARE = 0.05  # a smaller difference of two shares, or of two normalized entropies, does not matter
BITS = 0.05  # about a hundredth of the information in the names of the data sets
BEYOND = 0.01  # of the norm, beyond MATTERS


def claims(found: UsedTrees | TokenTree) -> list[Claim]:
    """The claims of either figure."""
    return contribution_claims(found.trees) if isinstance(found, TokenTree) else structure_claims(found)


def by_seed(frame: pd.DataFrame, measure: str) -> pd.Series:
    """Means over everything but the seed, in order of the seeds."""
    return frame.groupby("seed")[measure].mean()


def own(name: str, statement: str, compares: str, endpoint: str, smallest: float) -> Claim:
    return Claim(name, SOURCE, statement, kind="own", compares=compares, endpoint=endpoint, smallest=smallest)


def declared() -> list[Claim]:
    """The hypotheses on used trees, before they are measured."""
    entropy = "normalized entropy of trees"
    return [
        own(
            "smore_trees_few",
            "a trained S'MoRE uses few of the trees that it could",
            "half of random routing's trees - trees in use",
            "share of as many random trees",
            SHARE,
        ),
        own(
            "smore_trees_narrow",
            "training narrows the trees in use",
            "first record - last record",
            entropy,
            SHARE,
        ),
        own(
            "smore_trees_structure",
            "siblings choose different children at least half as often as in random trees",
            "tokens whose siblings differ - half of random trees' share",
            "share of tokens",
            SHARE,
        ),
        own(
            "smore_trees_tell",
            "a token's tree contains information about its data set",
            "real data sets - texts shuffled",
            "mutual information, bits",
            BITS,
        ),
        own(
            "smore_trees_learn",
            "training adds information about the data set to the trees",
            "trained - before the first step",
            "mutual information beyond shuffled texts, bits",
            BITS,
        ),
        own(
            "smore_trees_balance",
            "the balance loss spreads tokens over more trees",
            "with the balance loss - without it",
            f"{entropy}, last record",
            SHARE,
        ),
    ]


def structure_claims(found: UsedTrees) -> list[Claim]:
    """The hypotheses on used trees with their verdicts.

    Example:
        >>> from moe_analysis.studies import trees
        >>> [claim.verdict for claim in structure_claims(trees.measure(tree_runs, prompts=1, permutations=9))][-1]
        'not testable here'
    """
    return judged(declared(), effects(found))


def effects(found: UsedTrees) -> Mapping[str, Effect | str]:
    """By the claim's name, one difference per seed; a text if there is nothing to measure."""
    steps = found.training["step"]
    first, last = (found.balanced[found.balanced["step"] == step] for step in (steps.min(), steps.max()))
    everything = found.datasets[found.datasets["dataset"] == "all"]
    excess = by_seed(found.trained, "excess")
    differing = by_seed(last, "differing_siblings") - FEW * found.random_siblings
    return {
        "smore_trees_few": effect(FEW - by_seed(everything, "against_uniform")),
        "smore_trees_narrow": effect(by_seed(first, "normalized_entropy") - by_seed(last, "normalized_entropy")),
        "smore_trees_structure": "trees of one layer have no siblings to compare"
        if math.isnan(found.random_siblings)
        else effect(differing),
        "smore_trees_tell": effect(excess),
        "smore_trees_learn": effect(excess - by_seed(found.untrained, "excess")),
        "smore_trees_balance": balance(last, found.control[found.control["step"] == steps.max()]),
    }


def balance(method: pd.DataFrame, control: pd.DataFrame) -> Effect | str:
    """The gap in entropy at the last record, of the seeds that both have."""
    gaps = (by_seed(method, "normalized_entropy") - by_seed(control, "normalized_entropy")).dropna()
    return effect(gaps) if len(gaps) else "no run without the balance loss at the same seed"


def effect(gaps: pd.Series) -> Effect:
    return Effect(gaps.to_numpy(dtype=float))


def contribution_claims(trees: pd.DataFrame) -> list[Claim]:
    """Claims about the residual trees of many tokens, from `residual_trees` of one method's runs.

    Example:
        >>> [claim.statement for claim in contribution_claims(trees)]
        ['the lowest residuals contribute to the output', 'of two siblings, the one with the closer key contributes more']
    """
    adds = own(
        "smore_tree_lowest_adds",
        "the lowest residuals contribute to the output",
        f"share of a node of the lowest pool - {MATTERS}",
        "share of the update's norm",
        BEYOND,
    )
    closer = own(
        "smore_tree_closer_key",
        "of two siblings, the one with the closer key contributes more",
        "pairs with the same order - 0.5",
        "share of pairs",
        SHARE,
    )
    pairs = by_seed(sibling_pairs(trees), "agrees")
    nothing = "no two siblings have keys that the router compares"
    measured = {
        adds.name: effect(by_seed(trees[trees["layer"] == 0], "share") - MATTERS),
        closer.name: effect(pairs - 0.5) if len(pairs) else nothing,
    }
    return judged([adds, closer], measured)


def sibling_pairs(trees: pd.DataFrame) -> pd.DataFrame:
    """Columns seed, agrees: for every pair of siblings, whether similarity and contribution give the same order."""
    nodes = trees[(trees["parent"] >= 0) & trees["similarity"].notna()]
    keys = ["method", "seed", "module", "token", "parent"]
    pairs = nodes.merge(nodes, on=keys, suffixes=("", "_other"))
    pairs = pairs[pairs["node"] < pairs["node_other"]]
    closer = pairs["similarity"] > pairs["similarity_other"]
    return pairs.assign(agrees=closer == (pairs["contribution"] > pairs["contribution_other"]))[["seed", "agrees"]]
