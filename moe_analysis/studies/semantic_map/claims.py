"""What T-REX's Fig. 4 claims, declared before it was measured, and the verdicts.

The paper only shows a map and says that semantic clusters do not align with predefined task groups. Three readings of
"align" are parts of the claim. Clusters and groups count as aligned if their agreement is at least half way between
chance and identity, which was fixed before anything was measured; a tenth of that scale is the smallest visible
difference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from ...evidence import Claim, Effect
from .measure import SemanticMap
from .neighbors import MEASURES

SOURCE = "T-REX Fig. 4"
ALIGNED = 0.5
VISIBLE = 0.1
SIGNIFICANT = 0.05
UNTESTABLE = "no group has several data sets, or the clusters do not even follow the data sets"


def claims(found: SemanticMap) -> list[Claim]:
    """For each text the claim in three parts; and, our own claim, that clusters follow groups more than by chance."""
    return [claim for text in found.agreement["text"].unique() for claim in (_apart(found, text), _follow(found, text))]


def _apart(found: SemanticMap, text: str) -> Claim:
    table, seeds, near = (_rows(one, text) for one in (found.agreement, found.by_seed, found.by_dataset))
    groups = table[table["labels"] == "group"]
    closest = int(groups.sort_values("ami")["k"].iloc[-1])
    matched = int(groups.loc[groups["matched"], "k"].iloc[0]) if groups["matched"].any() else closest
    shares = near.loc[near["measure"] == MEASURES[2], "share"].to_numpy()
    whole = Claim(
        f"trex_fig4_apart_{text}",
        SOURCE,
        f"semantic clusters do not align with predefined task groups ({text} prompts)",
        compares="clusters against groups",
        smallest=VISIBLE,
    )
    # aspect, statement, what is compared, its unit, values, what is repeated
    readings = (
        (
            "agreement",
            "for every number of clusters, the agreement with the groups is less than half way",
            f"{ALIGNED} - AMI with groups at k = {closest}, where it is largest",
            "AMI",
            ALIGNED - seeds.loc[seeds["k"] == closest, "group_ami"].to_numpy(),
            "seeds of k-means",
        ),
        (
            "mixed",
            "with as many clusters as groups, some clusters hold more than one group",
            f"share of the {matched} clusters in which a second group has at least a tenth",
            "share of clusters",
            seeds.loc[seeds["k"] == matched, "mixed"].to_numpy(),
            "seeds of k-means",
        ),
        (
            "neighbors",
            "most of the nearest prompts of other data sets are of other groups",
            f"{ALIGNED} - share of the 10 nearest prompts that are of the same group",
            "share of neighbors",
            ALIGNED - shares,
            "data sets",
        ),
    )
    parts, testable = [], _testable(table)
    for aspect, statement, compares, endpoint, values, unit in readings:
        told = f"{statement} ({text} prompts)"
        part = replace(whole, name=f"{whole.name}_{aspect}", statement=told, compares=compares, endpoint=endpoint)
        known = testable and len(values)
        parts.append(part.with_effect(Effect(values, unit)) if known else part.untestable(UNTESTABLE))
    return whole.with_parts(parts)


def _follow(found: SemanticMap, text: str) -> Claim:
    table, seeds = _rows(found.agreement, text), _rows(found.by_seed, text)
    groups = table[(table["labels"] == "group") & table["matched"]]
    claim = Claim(
        f"trex_fig4_above_chance_{text}",
        f"beyond {SOURCE}",
        f"semantic clusters follow the groups more than groups assigned to data sets at random ({text} prompts)",
        kind="own",
        compares="AMI with groups - mean AMI with groups assigned to data sets at random",
        endpoint="AMI",
        smallest=VISIBLE,
    )
    if not _testable(table):
        return claim.untestable(UNTESTABLE)
    row: Any = groups.iloc[0]
    own = seeds.loc[seeds["k"] == row["k"], "group_ami"].to_numpy()
    return claim.with_effect(Effect(own - row["regrouped_ami"], "seeds of k-means"))


def _testable(table: pd.DataFrame) -> bool:
    classes = table.groupby("labels")["classes"].first()
    follows = table.loc[table["labels"] == "dataset", "chance_p"] <= SIGNIFICANT
    return bool(1 < classes["group"] < classes["dataset"] and follows.any())


def _rows(table: pd.DataFrame, text: str) -> pd.DataFrame:
    return table[table["text"] == text]
