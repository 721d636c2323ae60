"""Verdicts on gate rescaling from the regression bench, by rules that were fixed before measuring."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .exponent import REPRODUCTION
from .intervals import MIN_SEEDS, mean_interval


def below_zero(rows: pd.DataFrame) -> str:
    """ "reproduced" when every interval lies below zero; a diverged or fewer than three seeds decide nothing."""
    if (rows["seeds"] < MIN_SEEDS).any() or (rows["diverged"] > 0).any():
        return "not testable at this scale"
    return "reproduced" if (rows["high"] < 0).all() else "not reproduced"


def exponent_claims(counts: pd.DataFrame, slopes: pd.DataFrame, tuned: pd.DataFrame | None = None) -> pd.DataFrame:
    """Columns source, claim, paper, measured, spread, verdict; `expert_count_table` and `entropy_slopes` in.

    Rules, fixed before measuring. k = 1: every seed's two losses are identical to the last bit. Several experts: the
    interval of the difference lies below zero at every k > 1. Uneven gates: the interval of the slopes over seeds lies
    below zero; once at one learning rate, and once (tuned) with the learning rate of every exponent and temperature
    chosen on other seeds. Fewer than three seeds decide nothing.

    >>> from moe_analysis.analysis.exponent import entropy_slopes, expert_count_table
    >>> found = exponent_claims(expert_count_table(by_k), entropy_slopes(powers))
    >>> found[["claim", "verdict"]].iloc[0].tolist()
    ['with one expert a token both rules coincide', 'reproduced']
    """
    single, several = counts[counts["top_k"] == 1], counts[counts["top_k"] > 1]
    words = [f"k={row.top_k} {row.rsgd:.3f}/{row.grsgd:.3f}" for row in counts.itertuples()]
    paper = [f"k={k} {plain:.3f}/{rescaled:.3f}" for k, (plain, rescaled) in REPRODUCTION.items()]
    same = "reproduced" if len(single) and single["identical"].all() else "not reproduced"
    rows = [
        (
            "an independent reproduction",
            "with one expert a token both rules coincide",
            paper[0],
            words[0] if len(single) else "k=1 was not run",
            "bitwise, seed by seed",
            same if len(single) else "not testable at this scale",
        ),
        (
            "an independent reproduction",
            "with several experts gRSGD has the lower validation MSE at equal lr",
            "RSGD/gRSGD " + ", ".join(paper[1:]),
            "RSGD/gRSGD " + ", ".join(words[len(single) :]),
            spread(several),
            below_zero(several),
        ),
    ]
    for name, frame in (("at one learning rate", slopes), ("each learning rate tuned", tuned)):
        if frame is not None:
            mean, low, high = mean_interval(frame["slope"].to_numpy())
            decided = "reproduced" if high < 0 else "not reproduced"
            rows.append(
                (
                    "gR section 2.3 (our reading)",
                    f"the exponent matters more where gates are uneven, {name}",
                    "small gates hardly move (g²), so uneven ones gain most; no number",
                    f"gain of p = 1/2 changes by {mean:+.3f} from entropy 0 to 1",
                    f"95 % interval [{low:+.3f}, {high:+.3f}] over {len(frame)} seeds",
                    decided if len(frame) >= MIN_SEEDS else "not testable at this scale",
                )
            )
    return pd.DataFrame(rows, columns=["source", "claim", "paper", "measured", "spread", "verdict"])


def confound_claims(comparisons: pd.DataFrame, shifts: pd.DataFrame) -> pd.DataFrame:
    """Columns as of `exponent_claims`; frames of `confound_comparisons` and `lr_shift` in.

    Rules, fixed before measuring. Each comparison: rescaled minus plain has its interval below zero on the seeds that
    tuned nothing. More than a learning rate: so has the gap that the best factor on the plain learning rate leaves.
    Where a seed diverged, and with fewer than three seeds, nothing is decided.

    >>> from moe_analysis.analysis.exponent import lr_shift
    >>> found = confound_claims(compared, lr_shift(tried))
    >>> len(found), set(found) >= {"claim", "measured", "spread", "verdict"}
    (6, True)
    """
    rows = []
    for place, row in enumerate(comparisons.to_dict("records")):
        matched = f", step ratio {row['step_ratio']:.3f}" if np.isfinite(row["step_ratio"]) else ""
        this, found = comparisons.iloc[[place]], f"{row['difference']:+.4f} " if not row["diverged"] else ""
        rows.append(
            (
                "gR Fig. 2",
                f"gate rescaling lowers the loss: {row['comparison']}",
                "gRSGD below RSGD at one lr",
                f"{found}(lr {row['rescaled_lr']:.3g} rescaled, {row['plain_lr']:.3g} plain{matched})",
                spread(this),
                below_zero(this),
            )
        )
    factor, low, high = np.exp(mean_interval(np.log(shifts["factor"].to_numpy())))
    remaining, least, most = mean_interval(shifts["remaining"].to_numpy())
    seeds = int(np.isfinite(shifts["remaining"]).sum())
    decided = "reproduced" if most < 0 else "not reproduced"
    rows.append(
        (
            "gR Fig. 2 (our reading)",
            "gate rescaling is more than a larger learning rate",
            "not examined",
            f"the plain method at {factor:.2f} times the lr [{low:.2f}, {high:.2f}] is nearest; root mean square gap "
            f"{shifts['gap_equal'].mean():.4f} before, {shifts['gap_shifted'].mean():.4f} after",
            f"rescaled minus shifted plain {remaining:+.4f} [{least:+.4f}, {most:+.4f}] over {seeds} seeds",
            decided if seeds >= MIN_SEEDS else "not testable at this scale",
        )
    )
    return pd.DataFrame(rows, columns=["source", "claim", "paper", "measured", "spread", "verdict"])


def spread(rows: pd.DataFrame) -> str:
    """The intervals of paired differences in words."""
    named = [
        (f"k={row['top_k']} " if "top_k" in row else "")
        + (
            f"undecided, {row['diverged']} diverged"
            if row["diverged"]
            else f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        )
        for row in rows.to_dict("records")
    ]
    return f"95 % intervals over {rows['seeds'].min()} paired seeds: " + "; ".join(named)
