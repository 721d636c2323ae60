"""Our hypotheses about what experts know and how they are loaded; none of the three papers measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from ...evidence import Claim, Effect
from .measure import RoutingInformation

SOURCE = "beyond the papers"
SPECIALIZED = 0.05  # of the entropy of the labels: enough to be useful
GAINED = 0.01  # bits
EVEN = 2.0  # times the even share, the load of the busiest expert
FEW_DEAD = 0.1  # of the experts
DISTINCT = 0.99  # of the experts
VISIBLE = 0.1  # of a threshold: the smallest distance from it that matters
LABELS = {"dataset": "data set", "cluster": "semantic cluster"}
EVENNESS = "load of the busiest expert, times the even share"
SHARE = "share of the experts"
# measure of `load_summary` -> name, statement, endpoint, threshold, whether values must be above it
LOADS = {
    "mass_peak": ("even_mass", "the mass of the gates is spread evenly over experts", EVENNESS, EVEN, False),
    "top1_peak": ("even_top1", "the largest gates are spread evenly over experts", EVENNESS, EVEN, False),
    "dead": ("dead", "few experts are dead", SHARE, FEW_DEAD, False),
    "distinct": ("distinct", "every expert has its own gates", SHARE, DISTINCT, True),
}


def claims(found: RoutingInformation) -> list[Claim]:
    """Each claim has one part per system; effects are distances from a threshold."""
    specialized = [
        about_systems(
            f"own_routing_{label}",
            f"experts specialize by {name}",
            "information beyond shuffled texts, share of the labels' entropy",
            from_bar(rows_of(found.trained, label), "normalized", SPECIALIZED),
            f"share - {SPECIALIZED:g}",
            VISIBLE * SPECIALIZED,
        )
        for label, name in LABELS.items()
    ]
    trained = about_systems(
        "own_routing_training",
        "training makes experts specialize by data set",
        "bits beyond shuffled texts",
        training_gaps(found.trained, found.untrained),
        "after training - before",
        GAINED,
    )
    loads = [
        about_systems(
            f"own_routing_{name}",
            statement,
            endpoint,
            from_bar(found.loads, measure, bar, above),
            f"value - {bar:g}" if above else f"{bar:g} - value",
            VISIBLE * bar,
        )
        for measure, (name, statement, endpoint, bar, above) in LOADS.items()
    ]
    return [*specialized, trained, *loads]


def about_systems(
    name: str,
    statement: str,
    endpoint: str,
    gaps: Mapping[str, np.ndarray],
    compares: str,
    smallest: float,
) -> Claim:
    """One claim with a part for every system.

    Args:
        name, statement, endpoint, compares, smallest: of the claim and of its parts.
        gaps: system -> (seeds,), above zero if the claim is true.
    """
    whole = Claim(name, SOURCE, statement, kind="own", compares=compares, endpoint=endpoint, smallest=smallest)
    return whole.with_parts(
        replace(whole, name=f"{name}_{method}", statement=f"{method}: {statement}").with_effect(Effect(values))
        for method, values in gaps.items()
    )


def from_bar(frame: pd.DataFrame, measure: str, bar: float, above: bool = True) -> dict[str, np.ndarray]:
    """System -> distance of each seed's mean over routers from the threshold, above zero on the claimed side."""
    sign = 1.0 if above else -1.0
    return {
        str(method): sign * (rows.groupby("seed")[measure].mean().to_numpy() - bar)
        for method, rows in frame.groupby("method", sort=False)
    }


def training_gaps(trained: pd.DataFrame, untrained: pd.DataFrame) -> dict[str, np.ndarray]:
    """System -> bits about the data set, after training minus before, for the seeds that both have."""
    found = {}
    for method in dict.fromkeys(untrained["method"]):
        after, before = (
            rows_of(frame[frame["method"] == method], "dataset").groupby("seed")["excess"].mean()
            for frame in (trained, untrained)
        )
        found[str(method)] = (after - before).dropna().to_numpy()
    return found


def rows_of(frame: pd.DataFrame, label: str, view: str = "gates") -> pd.DataFrame:
    """The rows of one label in one view; ValueError if there are none."""
    chosen = frame[(frame["label"] == label) & (frame["view"] == view)]
    if chosen.empty:
        raise ValueError(f"label = {label!r} has no row; the frame has {', '.join(dict.fromkeys(frame['label']))}")
    return chosen
