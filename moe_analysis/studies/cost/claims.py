"""What S'MoRE says about its cost. Costs are counted, not sampled, so every claim is exact; it holds or fails."""

from __future__ import annotations

import pandas as pd

from ...evidence import Claim, whole_of
from .counting import MOST, whole
from .measure import AdapterCosts, ExampleTree, Overheads, RouterShares

ROUNDING = 0.05 + 1e-9  # percentage points: the tables print one decimal
FORMULAS = {
    "Table 1": "parameters beyond 2 d d_L are Δ = Σ d_l², in percent of 2 d d_L",
    "Table 6": "operations beyond 2 d d_L are Δ' = Σ F_l d_{l+1} (d_l + r_l), in percent of 2 d d_L",
}
WAYS = {"authors": "each gate counted once", "per parent": "each gate counted once per parent"}


def claims(found: ExampleTree | RouterShares | Overheads | AdapterCosts) -> list[Claim]:
    """The claims of any figure of this study."""
    if isinstance(found, ExampleTree):
        return checked(found.verified)
    if isinstance(found, Overheads):
        return table_claims(found.table)
    if isinstance(found, RouterShares):
        return router_claims(found.named, found.protocol)
    return [*checked(found.verified), module_claim(found.costs)]


def checked(verified: pd.DataFrame) -> list[Claim]:
    """The rows of `theory.verify` as claims."""
    return [Claim(**row) for row in verified.to_dict("records")]


def table_claims(table: pd.DataFrame) -> list[Claim]:
    """One claim per table of `overhead_table`: every cell agrees with the printed one to its last digit.

    Example:
        >>> [(claim.source, claim.verdict) for claim in table_claims(overheads)]
        [("S'MoRE Table 1", 'holds'), ("S'MoRE Table 6", 'holds')]
    """
    found = []
    for name, cells in table.groupby("table", sort=False):
        worst = float(cells["deviation"].abs().max(skipna=False))
        found.append(
            Claim(
                f"smore_{str(name).lower().replace(' ', '_')}",
                f"S'MoRE {name}",
                FORMULAS[str(name)],
                [round(value, 3) for value in cells["formula"]],
                cells["printed"].tolist(),
                worst,
                worst <= ROUNDING,
            )
        )
    return found


def router_claims(named: pd.DataFrame, protocol: pd.DataFrame) -> list[Claim]:
    """Fig. 5 from `router_shares` of the tables' structures and of the protocol's.

    We do not know which structures the figure shows, so "at most 26 %" has a part for each set. A share is that of the
    three projections together.

    Example:
        >>> [claim.verdict for claim in router_claims(named, protocol)]
        ['in part', 'holds', 'holds']
    """
    sets = {"tables": ("structures of Tables 1 and 6", named), "grid": ("our reading: the protocol's grid", protocol)}
    parts = [
        at_most(f"smore_fig5_at_most_{name}_{counts.replace(' ', '_')}", f"{words}, {WAYS[counts]}", frame, counts)
        for name, (words, frame) in sets.items()
        for counts in WAYS
    ]
    most = whole_of("smore_fig5_at_most", "S'MoRE Fig. 5", "the router costs at most 26 % of the experts", parts)
    return [most, falls_claim(named, protocol), statistics_claim(named)]


def at_most(name: str, statement: str, frame: pd.DataFrame, counts: str) -> Claim:
    """The largest share of a set of structures against the paper's 26 %."""
    largest = float(whole(frame, counts)["share"].max(skipna=False))
    return Claim(name, "S'MoRE Fig. 5", statement, largest, MOST, max(0.0, largest - MOST), largest <= MOST)


def falls_claim(named: pd.DataFrame, protocol: pd.DataFrame) -> Claim:
    """The share falls with the rank in every family of structures that differ only in the rank."""
    counted = [falls(frame, by) for frame, by in ((named, ["s", "f", "layers"]), (protocol, ["s", "f", "ladder"]))]
    held, families = (sum(numbers) for numbers in zip(*counted, strict=True))
    return Claim(
        "smore_fig5_small_ranks",
        "S'MoRE Fig. 5",
        "the router's share is larger for small ranks: number of families of structures in which it falls with the rank",
        held,
        families,
        float(families - held),
        held == families,
    )


def falls(frame: pd.DataFrame, by: list[str]) -> tuple[int, int]:
    """(families in which the share falls strictly with the rank, families)."""
    counted = whole(frame, "authors")
    counted = counted.assign(ladder=counted["total_rank"] / counted["r"])  # the ratio of the two ranks
    families = [rows.sort_values("r")["share"] for _, rows in counted.groupby(by)]
    return sum(bool((family.diff().iloc[1:] < 0).all()) for family in families), len(families)


def statistics_claim(named: pd.DataFrame) -> Claim:
    """The authors' `gate_flops` counts every gate once, which is less than the router computes."""
    once, real = whole(named, "authors")["router"], whole(named, "per parent")["router"]
    ratio = real.to_numpy() / once.to_numpy()
    return Claim(
        "smore_fig5_gate_flops",
        "S'MoRE's statistics",
        "our reading: gate_flops is less than what the router computes; the ratio is above 1 for every structure",
        [round(float(value), 3) for value in ratio],
        1.0,
        float(max(0.0, (1 - ratio).max())),
        bool((ratio > 1).all()),
    )


def module_claim(costs: pd.DataFrame) -> Claim:
    """For this figure's layer, all counts of parameters and operations equal the formulas."""
    gap = int(costs[["parameter_gap", "operation_gap"]].to_numpy().max())
    return Claim(
        "smore_cost_adapters",
        "beyond S'MoRE, cost",
        f"formula and module agree in all {costs['system'].nunique()} adapters of the figure: the largest gap",
        gap,
        0,
        float(gap),
        gap == 0,
    )
