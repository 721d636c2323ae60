"""Verdicts on what S'MoRE says of its cost; each rule stands in its function.

Every function returns rows with the columns source, claim, paper, measured, spread, verdict. Costs are counted, not
sampled: where nothing is random the spread says so.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = ("source", "claim", "paper", "measured", "spread", "verdict")
ROUNDING = 0.05 + 1e-9  # percentage points: the tables print one decimal
MOST = 0.26  # Fig. 5
EXACT = "none: counted"


def table_claims(table: pd.DataFrame) -> pd.DataFrame:
    """A row a table of `overhead_table`: reproduced when every cell agrees with the printed one to its last digit.

    >>> table_claims(overheads)[["source", "verdict"]].values.tolist()
    [["S'MoRE Table 1", 'reproduced'], ["S'MoRE Table 6", 'reproduced']]
    """
    rows = []
    for name, cells in table.groupby("table", sort=False):
        off = cells[cells["deviation"].abs() > ROUNDING]
        worst = cells["deviation"].abs().max()
        what, extra = CONTENTS[str(name)]
        measured = (
            f"{len(cells) - len(off)} of {len(cells)} cells to the printed digit; largest deviation "
            f"{worst:.3f} percentage points; on the module {cells['module'].min():.1f} to "
            f"{cells['module'].max():.1f} % {extra}"
        )
        if len(off):
            measured += "; off: " + ", ".join(
                f"r={row.r} L={row.layers} {row.formula:.2f} for {row.printed}" for row in off.itertuples()
            )
        rows.append(
            _row(
                f"S'MoRE {name}",
                what,
                f"{cells['printed'].min()} to {cells['printed'].max()} %",
                measured,
                EXACT,
                off.empty,
            )
        )
    return pd.DataFrame(rows)


CONTENTS = {
    "Table 1": ("parameters beyond 2 d d_L: Δ = Σ d_l², in percent of 2 d d_L", "with the biases that the code adds"),
    "Table 6": (
        "operations beyond the down factors and W_proj: Δ' = Σ F_l d_{l+1} (d_l + r_l), in percent of 2 d d_L",
        "with dense products over every pool",
    ),
}


def router_claims(named: pd.DataFrame, protocol: pd.DataFrame) -> pd.DataFrame:
    """Fig. 5 from `router_shares` of the tables' structures and of the protocol's.

    Which structures the figure has is not known to us, so both sets stand for them, each with a row. A share is that of
    the three projections together. "At most 26 %" holds when every structure of a set keeps to it; "larger for small
    ranks" when the share falls with the rank in every family of structures that differ in nothing else.

    >>> router_claims(named, protocol)["claim"].iloc[0]
    'the router costs at most 26 % of the experts, as its authors count, each gate once; structures of Tables 1 and 6'
    """
    rows = []
    for label, frame, reading in (
        ("structures of Tables 1 and 6", named, ""),
        ("the protocol's whole grid of ranks", protocol, " (our reading)"),
    ):
        for counts, what in (
            ("authors", "as its authors count, each gate once"),
            ("per parent", "with every gate as often as it runs"),
        ):
            shares = _whole(frame, counts)
            kept = shares[shares["share"] <= MOST]
            rows.append(
                _row(
                    f"S'MoRE Fig. 5{reading}",
                    f"the router costs at most 26 % of the experts, {what}; {label}",
                    "at most 26 %",
                    f"{shares['share'].min():.1%} to {shares['share'].max():.1%}; {len(kept)} of {len(shares)} structures "
                    f"within 26 %{_from_rank(shares)}",
                    EXACT,
                    len(kept) == len(shares),
                )
            )
    falls = [_falls(frame, by) for frame, by in ((named, ["s", "f", "layers"]), (protocol, ["s", "f", "ladder"]))]
    held, families = sum(good for good, _ in falls), sum(number for _, number in falls)
    rows.append(
        _row(
            "S'MoRE Fig. 5",
            "the share is larger for small ranks",
            "larger for small r",
            f"falls with the rank in {held} of {families} families of structures",
            EXACT,
            held == families,
        )
    )
    ratio = _ratio(named)
    rows.append(
        _row(
            "S'MoRE's statistics (our reading)",
            "gate_flops, which counts every gate once, is below what the router "
            "computes where a node has several children",
            "not stated",
            f"{ratio.min():.3f} to {ratio.max():.3f} times "
            f"the authors' count (Tables' structures); f = 1: {_ratio(protocol).min():.3f} times",
            EXACT,
            bool((ratio > 1).all()),
        )
    )
    return pd.DataFrame(rows)


def _whole(frame: pd.DataFrame, counts: str) -> pd.DataFrame:
    return frame[(frame["counts"] == counts) & (frame["projection"] == "all")]


def _from_rank(shares: pd.DataFrame) -> str:
    """From which total rank on every structure keeps to the bound, by pool sizes."""
    found = []
    for s, rows in shares.groupby("s", sort=False):
        above = rows.loc[rows["share"] > MOST, "total_rank"]
        within = rows.loc[rows["total_rank"] > (above.max() if len(above) else 0), "total_rank"]
        if len(above):
            found.append(f"s {s} from Σ r = {within.min()} on" if len(within) else f"s {s} nowhere")
    return f" ({'; '.join(found)})" if found else ""


def _falls(frame: pd.DataFrame, by: list[str]) -> tuple[int, int]:
    """(families in which the share falls strictly with the rank, families)."""
    whole = _whole(frame, "authors")
    whole = whole.assign(ladder=whole["total_rank"] / whole["r"])  # the ratio of the two ranks
    families = [rows.sort_values("r")["share"] for _, rows in whole.groupby(by)]
    return sum(bool((family.diff().dropna() < 0).all()) for family in families), len(families)


def _ratio(frame: pd.DataFrame) -> np.ndarray:
    """The router's operations with every gate as often as it runs, over the authors' count, by structure."""
    return _whole(frame, "per parent")["router"].to_numpy() / _whole(frame, "authors")["router"].to_numpy()


def cost_claims(verified: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Formulas against modules: `theory.verify("smore_cost_*")` and `adapter_costs`.

    Reproduced when all checks hold and no count differs from its formula by a single unit. Raises ValueError when
    `verified` holds no check of that name.

    >>> cost_claims(verified, costs)["verdict"].tolist()
    ['reproduced']
    """
    checks = verified[verified["name"].str.startswith("smore_cost_")]
    if checks.empty:
        raise ValueError("verified holds no check named smore_cost_…; pass theory.verify('smore_cost_*')")
    gaps = int(costs[["parameter_gap", "operation_gap"]].to_numpy().max())
    both = costs.groupby("system", sort=False)[["needed", "computed"]].sum()
    ratio = both["computed"] / both["needed"]
    return pd.DataFrame(
        [
            _row(
                "S'MoRE, cost",
                "parameters 2 d d_L + Δ, at most min(F_l, s_l) active experts a pool; every adapter's "
                "formula is its module",
                "formulas of the paper",
                f"{int(checks['holds'].sum())} of {len(checks)} checks "
                f"hold; largest gap between formula and count {gaps} over {costs['system'].nunique()} adapters; the "
                f"modules' dense products compute {ratio.min():.2f} ({ratio.idxmin()}) to {ratio.max():.2f} "
                f"({ratio.idxmax()}) times what a token's experts and router need",
                EXACT,
                bool(checks["holds"].all()) and gaps == 0,
            ),
        ]
    )


def tree_claims(verified: pd.DataFrame) -> pd.DataFrame:
    """What Fig. 1 shows of a token's tree, from `theory.verify("smore_cost_*")`: gates' runs and experts used.

    >>> tree_claims(verified)["verdict"].tolist()
    ['reproduced', 'reproduced']
    """
    rows = verified.set_index("name")
    found = []
    for name, claim in (
        ("smore_cost_gates_run_once_a_parent", "gate l chooses the children of F_{l+1} nodes"),
        ("smore_cost_active_experts", "at most min(F_l, s_l) different experts of pool l are used"),
    ):
        row = rows.loc[name]
        found.append(
            _row(
                "S'MoRE Fig. 1",
                claim,
                f"{row['expected']}, pools 0 … L−1",
                f"{row['measured']}",
                str(row["statement"]).rpartition(";")[2].strip(" )"),
                bool(row["holds"]),
            )
        )
    return pd.DataFrame(found)


def _row(source: str, claim: str, paper: str, measured: str, spread: str, holds: bool | None) -> dict[str, str]:
    verdict = "not testable at this scale" if holds is None else "reproduced" if holds else "not reproduced"
    return dict(zip(COLUMNS, (source, claim, paper, measured, spread, verdict), strict=True))
