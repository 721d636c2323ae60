"""What a trained S'MoRE makes of its structural flexibility, judged by rules that were fixed before measuring."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .intervals import mean_interval, paired_differences
from .optimizers import verdict_of

SOURCE = "beyond S'MoRE"
NOT_MEASURED = "not measured there"
STATEMENTS = {"MoMOR": "Theorem 3.3", "S'MoRE": "Theorem 3.4", "S'MoRE*": "Corollary 3.5"}
MATTERS = 0.05  # of the norm of a layer's update
FEW = 0.5  # of the trees that as many random choices would show


def by_seed(frame: pd.DataFrame, measure: str) -> pd.Series:
    """Means over everything but the seed."""
    return frame.groupby("seed")[measure].mean()


def judged(values: pd.Series, bound: float, above: bool) -> tuple[str, str]:
    """(spread, verdict) of one value a seed: the 95 % interval must lie wholly above, or below, the bound."""
    _, low, high = mean_interval(values.to_numpy())
    verdict = verdict_of(bound - low if above else high - bound, int(values.notna().sum()))
    return f"95 % interval [{low:.3f}, {high:.3f}] over {values.notna().sum()} seeds", verdict


def row(claim: str, measured: str, judgement: tuple[str, str]) -> dict[str, Any]:
    spread, verdict = judgement
    return {
        "source": SOURCE,
        "claim": claim,
        "paper": NOT_MEASURED,
        "measured": measured,
        "spread": spread,
        "verdict": verdict,
    }


def structure_claims(
    training: pd.DataFrame,
    datasets: pd.DataFrame,
    information: pd.DataFrame,
    untrained: pd.DataFrame,
    uniform_differing: float,
) -> pd.DataFrame:
    """Columns source, claim, paper, measured, spread, verdict, for one method's runs.

    training: `over_training`. datasets: `by_dataset`. information, untrained: `dataset_information` of the trained
    models and of the same models before the first step. uniform_differing: `uniform_siblings`.
    Means are over modules, intervals over seeds. "Few": over all tokens the trees are fewer than half of those that as
    many random choices would show. "Narrows": the normalised entropy at the last record, less that at the first, lies
    below zero. "As structure": tokens whose sibling subtrees differ are more than half of what random trees have.
    "Tells the task": the information beyond shuffled texts lies above zero; "by training": it lies above the untrained
    model's. Fewer than three seeds decide nothing.

    >>> found = structure_claims(training, by_task, tells, told, uniform_differing=2 / 3)
    >>> found["verdict"].unique().tolist()
    ['not testable at this scale']
    """
    everything = datasets[datasets["dataset"] == "all"]
    last = training[training["step"] == training["step"].max()]
    ends = {
        name: by_seed(training[training["step"] == step], "normalised_entropy")
        for name, step in (("first", training["step"].min()), ("last", training["step"].max()))
    }
    found, before = by_seed(information, "excess"), by_seed(untrained, "excess")
    few, differ = by_seed(everything, "against_uniform"), by_seed(last, "differing_siblings")
    return pd.DataFrame(
        [
            row(
                "a trained S'MoRE uses few of the trees that it could",
                f"{everything['distinct'].mean():.1f} of {everything['flexibility'].iloc[0]:.0f} trees among "
                f"{everything['tokens'].mean():.0f} tokens, {few.mean():.3f} of random routing's",
                judged(few, FEW, above=False),
            ),
            row(
                "training narrows the structures in use",
                f"normalised entropy {ends['first'].mean():.3f} at the start, {ends['last'].mean():.3f} at the end",
                judged(ends["last"] - ends["first"], 0.0, above=False),
            ),
            row(
                "the trees are used as structure: siblings choose different children",
                f"{differ.mean():.3f} of tokens, {uniform_differing:.3f} for random trees",
                judged(differ, FEW * uniform_differing, above=True),
            ),
            row(
                "a token's tree tells its data set",
                f"{found.mean():.3f} bits beyond shuffled texts, of {information['dataset_entropy'].mean():.2f}; largest "
                f"p of a module {information['p'].max():.3f}",
                judged(found, 0.0, above=True),
            ),
            row(
                "training makes trees tell the data set",
                f"{found.mean():.3f} bits trained, {before.mean():.3f} before the first step",
                judged(found - before, 0.0, above=True),
            ),
        ]
    )


def contribution_claims(trees: pd.DataFrame) -> pd.DataFrame:
    """What the residual trees of many tokens say: columns source, claim, paper, measured, spread, verdict.

    trees: `residual_trees` of one method's runs. "Adds": a node of the pool farthest from the output takes more than
    MATTERS of the norm of the update with it. "Contributes more": of two siblings the one whose key is closer to the
    query has the larger contribution in more than half of all pairs. Means over nodes or pairs, intervals over seeds.

    >>> for claim in contribution_claims(trees)["claim"]:
    ...     print(claim)
    the residuals farthest from the output add to it
    of two siblings the one with the closer key contributes more
    """
    lowest = trees[trees["layer"] == 0]
    share = by_seed(lowest, "share")
    upper = trees[trees["layer"] == trees["layer"].max() - 1]["share"].mean()
    agrees = by_seed(sibling_pairs(trees), "agrees")
    return pd.DataFrame(
        [
            row(
                "the residuals farthest from the output add to it",
                f"a node takes {share.mean():.3f} of the update's norm with it; {upper:.3f} with all below it in the pool "
                "nearest the output",
                judged(share, MATTERS, above=True),
            ),
            row(
                "of two siblings the one with the closer key contributes more",
                f"in {agrees.mean():.3f} of the pairs",
                judged(agrees, 0.5, above=True),
            ),
        ]
    )


def sibling_pairs(trees: pd.DataFrame) -> pd.DataFrame:
    """Rows seed, agrees: for every pair of siblings whether similarity and contribution order them alike."""
    nodes = trees[(trees["parent"] >= 0) & trees["similarity"].notna()]
    keys = ["method", "seed", "module", "token", "parent"]
    pairs = nodes.merge(nodes, on=keys, suffixes=("", "_other"))
    pairs = pairs[pairs["node"] < pairs["node_other"]]
    closer = pairs["similarity"] > pairs["similarity_other"]
    return pairs.assign(agrees=closer == (pairs["contribution"] > pairs["contribution_other"]))[["seed", "agrees"]]


def balance_claim(training: pd.DataFrame, method: str = "S'MoRE", control: str = "S'MoRE, no balance") -> pd.DataFrame:
    """Whether the balance loss spreads the trees: rows of `over_training` with both methods in.

    "Spreads": the normalised entropy at the last record, without the balance loss less with it, paired by seed, lies
    below zero.

    >>> both = pd.concat([training, training.assign(method="S'MoRE, no balance")])
    >>> balance_claim(both)["verdict"].tolist()  # two seeds decide nothing
    ['not testable at this scale']
    """
    last = training[training["step"] == training["step"].max()]
    gap: dict[Any, Any] = paired_differences(last, ["normalised_entropy"], control, [method]).iloc[0].to_dict()
    means = last.groupby("method")["normalised_entropy"].mean()
    spread = (
        f"difference {gap['difference']:+.3f}, 95 % interval [{gap['low']:+.3f}, {gap['high']:+.3f}] over "
        f"{int(gap['seeds'])} paired seeds"
    )
    measured = f"normalised entropy {means[method]:.3f}, {means[control]:.3f} without it"
    return pd.DataFrame(
        [
            row(
                "the balance loss spreads tokens over more structures",
                measured,
                (spread, verdict_of(gap["high"], int(gap["seeds"]))),
            )
        ]
    )


def counting_claims(table: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The claims of Fig. 2: enumerated numbers of outputs against the closed forms, as exact integers.

    table: system, layers, flexibility. points: system, layers, outputs, and bound ("equal" or "at most"). S'MoRE and
    S'MoRE* reach their Γ exactly, MoMOR at most its bound.

    >>> counting_claims(closed_forms, outputs)[["measured", "verdict"]]
      measured     verdict
    0    3, 18  reproduced
    1    3, 27  reproduced
    2    3, 12  reproduced
    """
    rows = []
    for system in dict.fromkeys(points["system"]):
        found = points[points["system"] == system]
        merged = found.merge(table, on=["system", "layers"], how="inner")
        pairs = list(zip(merged["outputs"], merged["flexibility"], strict=True))
        at_most = system == "MoMOR"
        holds = bool(pairs) and all(a <= b if at_most else a == b for a, b in pairs)
        rows.append(
            {
                "source": f"S'MoRE {STATEMENTS[system]}",
                "claim": f"{system} has {'at most ' if at_most else ''}Γ distinct outputs",
                "paper": ", ".join(f"{b} (L = {n})" for n, (_, b) in zip(merged["layers"], pairs, strict=True)),
                "measured": ", ".join(str(a) for a, _ in pairs),
                "spread": "none: all routings, counted exactly",
                "verdict": "reproduced" if holds else "not reproduced",
            }
        )
    return pd.DataFrame(rows)


def trees_claim(outputs: dict[str, int], expected: dict[str, int]) -> pd.DataFrame:
    """The claim of Fig. 3: system -> distinct outputs of the three trees, found and expected.

    >>> trees_claim({"MoMOR": 1, "S'MoRE": 3}, {"MoMOR": 1, "S'MoRE": 3})["verdict"].tolist()
    ['reproduced']
    """
    text = {
        name: ", ".join(f"{system} {count}" for system, count in values.items())
        for name, values in (("found", outputs), ("expected", expected))
    }
    return pd.DataFrame(
        [
            {
                "source": "S'MoRE Fig. 3",
                "claim": "three trees of the same experts are told apart the better the more the "
                "system sees of their structure",
                "paper": text["expected"],
                "measured": text["found"],
                "spread": "none: outputs of real modules, compared",
                "verdict": "reproduced" if outputs == expected else "not reproduced",
            }
        ]
    )
