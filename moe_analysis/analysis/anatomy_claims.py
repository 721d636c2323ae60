"""What experts specialise in, how they are loaded and whether seeds agree, judged by rules fixed before measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .intervals import mean_interval, paired_differences
from .optimizers import verdict_of
from .router_agreement import pair_interval
from .structure_claims import by_seed

SOURCE = "beyond the papers"
NOT_MEASURED = "not measured there"
SEMANTIC = "claimed: intuition routes by semantic cluster; no number"
SPECIALISED = 0.05  # of the entropy of the labels
EVEN = 2.0  # times the even share, the load of the busiest expert
FEW_DEAD = 0.1  # of the experts
DISTINCT = 0.99  # of the experts
SAME = 0.5  # of the way from chance to the same routing
AGREEMENT = "same_top1_adjusted"
VERDICTS = ("not testable at this scale", "not reproduced", "reproduced")
Interval = tuple[float, float, float, int]  # mean, low, high, seeds


def anatomy_claims(
    trained: pd.DataFrame,
    untrained: pd.DataFrame,
    loads: pd.DataFrame,
    seeds: pd.DataFrame,
    layers: pd.DataFrame,
    untrained_seeds: pd.DataFrame,
) -> pd.DataFrame:
    """Columns source, claim, paper, measured, spread, verdict; every claim is of all systems in the frames.

    trained, untrained: `specialisation` with the labels "dataset" and "cluster", and where it was asked for "cluster in
    data set", of the trained models and of the same before the first step. loads: `load_summary`. seeds, layers,
    untrained_seeds: `between_seeds` and `between_layers` of the trained and `between_seeds` of the untrained models.
    Means are over routers, intervals (95 %) over seeds; those of agreement between seeds are jackknifed over seeds.
    "Specialise": the gates' information beyond shuffled texts is more than SPECIALISED of the labels' entropy.
    "Training": it is larger than before the first step, paired by seed; T-REX's prior is there before. "Evenly": the
    busiest expert has less than EVEN times the even share, of the gates' mass or of the largest gates. "Dead": less
    than FEW_DEAD of the experts. "Gates of its own": more than DISTINCT of the experts. "The same experts": agreement
    of largest gates on held-out texts, adjusted for chance, above SAME; "beyond chance": above 0. What routers share
    before training (T-REX's prior, the tokens' own geometry) stands beside it.
    A claim is reproduced when the interval of every system lies wholly on the right side, not testable when that of
    one cannot be had (fewer than three seeds, or nothing that varies).

    >>> agreement = between["seeds"], between["layers"], between["start"]
    >>> anatomy_claims(informed, uninformed, evenness, *agreement)["verdict"].unique().tolist()
    ['not testable at this scale']
    """
    rows = []
    names = {"dataset": "data set", "cluster": "semantic cluster", "cluster in data set": "cluster within a data set"}
    for label in (label for label in names if label in set(trained["label"])):
        rows.append(
            claim(
                f"experts specialise by {names[label]}",
                over_seeds(gate_rows(trained, label), "normalised"),
                SPECIALISED,
                note="of the labels' entropy",
            )
        )
    gaps = {name: training_gap(trained, untrained, name) for name in dict.fromkeys(untrained["method"])}
    rows.append(claim("training makes experts specialise by data set", gaps, 0.0, note="bits gained"))
    for measure, what, bound in (
        ("mass_peak", "the gates' mass is spread evenly over experts", EVEN),
        ("top1_peak", "the largest gates are spread evenly over experts", EVEN),
        ("dead", "few experts are dead", FEW_DEAD),
    ):
        note = "of the experts" if measure == "dead" else "times the even share for the busiest expert"
        rows.append(claim(what, over_seeds(loads, measure), bound, above=False, note=note))
    rows.append(
        claim("every expert has gates of its own", over_seeds(loads, "distinct"), DISTINCT, note="of the experts")
    )
    found = by_method(seeds, lambda frame: pair_interval(frame, AGREEMENT))
    before = untrained_seeds.groupby("method", sort=False)[AGREEMENT].mean()
    note = "adjusted agreement; before training " + "; ".join(
        f"{name} {value:.2f}" if np.isfinite(value) else f"{name} undefined" for name, value in before.items()
    )
    rows.append(claim("routers of different seeds find the same experts", found, SAME, note=note))
    rows.append(claim("routers of different seeds agree beyond chance", found, 0.0, note=note))
    rows.append(
        claim(
            "routers of different layers agree beyond chance",
            over_seeds(layers, AGREEMENT),
            0.0,
            note="adjusted agreement",
        )
    )
    return pd.DataFrame(rows)


def semantic_claims(
    trained: pd.DataFrame, method: str = "T-REX", against: str = "mix-and-match", alone: str = "T-REX, router alone"
) -> pd.DataFrame:
    """Whether intuition makes routing semantic: T-REX against the same system without intuition, paired by seed.

    trained: `specialisation` with the label "cluster" of the three methods; `alone` is T-REX with the prior's share
    taken out of its gates (`used_subspace.router_alone`). The prior is in T-REX's gates, so the claims about all its
    gates hold in part by construction; the last asks it of what was learnt. Each is reproduced when the 95 % interval
    of the difference of the information beyond shuffled texts lies above SPECIALISED of the labels' entropy: seeds may
    well agree on a difference that is too small to be of use.

    >>> three = pd.concat([informed, informed.query("method == 'T-REX'").assign(method="T-REX, router alone")])
    >>> semantic_claims(three)["verdict"].unique().tolist()
    ['not testable at this scale']
    """
    rows = []
    for view, one, what in (
        ("gates", method, "routing"),
        ("top1", method, "the largest gate"),
        ("gates", alone, "the learnt router"),
    ):
        frame = gate_rows(trained, "cluster", view)
        gap: dict[Any, Any] = paired_differences(frame, ["excess"], one, [against]).iloc[0].to_dict()
        means, entropy = frame.groupby("method")["excess"].mean(), frame["label_entropy"].mean()
        rows.append(
            {
                "source": SOURCE,
                "claim": f"intuition makes {what} tell the semantic cluster",
                "paper": SEMANTIC,
                "measured": f"{one} {means[one]:.4f} bits beyond shuffled texts, {against} {means[against]:.4f}, of "
                f"{entropy:.2f}",
                "spread": f"difference {gap['difference']:+.4f}, 95 % interval [{gap['low']:+.4f}, {gap['high']:+.4f}] "
                f"over {int(gap['seeds'])} paired seeds; asked for {SPECIALISED * entropy:.2f}",
                "verdict": verdict_of(SPECIALISED * entropy - gap["low"], int(gap["seeds"])),
            }
        )
    return pd.DataFrame(rows)


def gate_rows(frame: pd.DataFrame, label: str, view: str = "gates") -> pd.DataFrame:
    """The rows of one label in one view; ValueError when there are none."""
    chosen = frame[(frame["label"] == label) & (frame["view"] == view)]
    if chosen.empty:
        raise ValueError(f"label = {label!r} has no row; the frame has {', '.join(dict.fromkeys(frame['label']))}")
    return chosen


def over_seeds(frame: pd.DataFrame, measure: str) -> dict[str, Interval]:
    """{method: (mean, low, high, seeds)} of means over routers."""

    def interval(rows: pd.DataFrame) -> Interval:
        values = by_seed(rows, measure)
        return *mean_interval(values.to_numpy()), int(values.notna().sum())

    return by_method(frame, interval)


def by_method(frame: pd.DataFrame, measured: Callable[[pd.DataFrame], Interval]) -> dict[str, Interval]:
    """{method: measured(its rows)}, methods in the frame's order."""
    return {str(name): measured(rows) for name, rows in frame.groupby("method", sort=False)}


def training_gap(trained: pd.DataFrame, untrained: pd.DataFrame, method: str) -> Interval:
    """(mean, low, high, seeds) of the excess information on data sets, trained less untrained, paired by seed."""
    after, before = (
        by_seed(gate_rows(frame[frame["method"] == method], "dataset"), "excess") for frame in (trained, untrained)
    )
    gaps = (after - before).dropna()
    return *mean_interval(gaps.to_numpy()), len(gaps)


def claim(text: str, found: Mapping[str, Interval], bound: float, above: bool = True, note: str = "") -> dict[str, Any]:
    """One row about all systems; each must lie wholly above the bound, or below it."""
    verdicts = {
        name: verdict_of(bound - low if above else high - bound, seeds) for name, (_, low, high, seeds) in found.items()
    }
    held = [name for name, verdict in verdicts.items() if verdict == "reproduced"]
    who = "all" if len(held) == len(found) else "; ".join(held) or "none"
    intervals = "; ".join(f"{name} [{low:.3g}, {high:.3g}]" for name, (_, low, high, _) in found.items())
    counts = sorted({seeds for *_, seeds in found.values()})
    return {
        "source": SOURCE,
        "claim": text,
        "paper": NOT_MEASURED,
        "measured": "; ".join(f"{name} {mean:.3g}" for name, (mean, *_) in found.items()) + f" ({note})" * bool(note),
        "spread": f"95 % intervals over {' to '.join(map(str, counts))} seeds: {intervals}; "
        f"{'above' if above else 'below'} {bound:g}: {who}",
        "verdict": min(verdicts.values(), key=VERDICTS.index),
    }
