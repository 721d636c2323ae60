"""Gate rescaling on the regression bench: the exponent p against the gates' entropy, and the learning-rate confound.

A Stronger Mixture of Low-Rank Experts, section 2.3 of the reference: an expert's gradient has a factor g^p, with p = 1
for plain RSGD and p = 1/2 in the paper (gRSGD). With even gates, g = 1/k, this equals a learning rate that is k^(1-p)
times as large, so every comparison here gives the learning rate of each side. Losses are compared seed by seed,
rescaled minus plain, with 95 % t intervals; a seed that diverged has an infinite loss and makes its comparison undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval
from .curves import relative_gains

KEYS = ("method", "power", "top_k", "temperature", "lr", "seed")
MATCHING = ("round", "step_ratio", "reference")  # what `regression_grid.match_steps` adds
# k -> (RSGD, gRSGD), validation MSE of an independent reproduction: 8 experts, rank 4, 300 steps, 3 seeds
REPRODUCTION = {1: (0.739, 0.739), 2: (0.577, 0.545), 4: (0.647, 0.589), 8: (0.784, 0.748)}
LOW_SHARE = 0.25  # of the plain method's best learning rate: a typical value for a rate that was never tuned
EQUAL, MATCHED, TUNED = "equal lr", "matched step", "both tuned"


def run_rows(history: pd.DataFrame) -> pd.DataFrame:
    """One row per run of `train_grid`: its keys, loss (last validation MSE), entropy (mean over the run), load_balance
    (last), effective_step (mean), diverged.

    >>> from moe_analysis.studies.optimizers.regression_grid import train_grid
    >>> run_rows(train_grid([bench], folder / "bench", workers=1))[["method", "power", "top_k", "seed", "diverged"]]
      method  power  top_k  seed  diverged
    0   RSGD    1.0      2     0     False
    1   RSGD    1.0      2     1     False
    """
    keys = [*KEYS, *(name for name in MATCHING if name in history)]
    return (
        history.sort_values("step", kind="stable")
        .groupby(keys, sort=False)
        .agg(
            loss=("validation_mse", "last"),
            entropy=("gate_entropy", "mean"),
            load_balance=("load_balance", "last"),
            effective_step=("effective_step", "mean"),
            diverged=("diverged", "last"),
        )
        .reset_index()
    )


def paired_gap(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """difference (first minus second), low, high, seeds (common ones), diverged (of those) of two sets of runs."""
    gaps = (first.set_index("seed")["loss"] - second.set_index("seed")["loss"]).dropna().to_numpy()
    pairs = first.merge(second, on="seed")
    lost = int((~np.isfinite(pairs[["loss_x", "loss_y"]])).any(axis=1).sum())
    mean, low, high = mean_interval(gaps) if not lost else (float("nan"),) * 3
    return {"difference": mean, "low": low, "high": high, "seeds": len(pairs), "diverged": lost}


def expert_count_table(rows: pd.DataFrame) -> pd.DataFrame:
    """RSGD and gRSGD for every k, with the numbers that the reproduction printed.

    Columns top_k, rsgd, grsgd (means), difference, low, high, seeds, diverged, identical (every seed's two losses are
    the same to the last bit), paper_rsgd, paper_grsgd (NaN if it has none). rows: of `run_rows`, one lr.

    >>> expert_count_table(by_k)[["top_k", "seeds", "identical"]]  # with one expert both rules are the same
       top_k  seeds  identical
    0      1      2       True
    1      2      2      False
    """
    table = []
    for k in sorted(rows["top_k"].unique()):
        part = rows[rows["top_k"] == k]
        plain, rescaled = part[part["power"] == 1.0], part[part["power"] == 0.5]
        both = plain.merge(rescaled, on="seed")
        paper = REPRODUCTION.get(int(k), (np.nan, np.nan))
        table.append(
            {
                "top_k": k,
                "rsgd": plain["loss"].mean(),
                "grsgd": rescaled["loss"].mean(),
                **paired_gap(rescaled, plain),
                "identical": bool((both["loss_x"] == both["loss_y"]).all()),
                "paper_rsgd": paper[0],
                "paper_grsgd": paper[1],
            }
        )
    return pd.DataFrame(table)


def exponent_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns temperature, entropy (measured, over all its runs), power, mean, low, high, and of the difference to
    p = 1: difference, difference_low, difference_high, seeds, diverged, decided (its interval does not cross zero).

    rows: of `run_rows`, one k and one lr per (power, temperature). Sorted from uneven to even gates, p from 1 to 0.

    >>> exponent_table(powers)[["temperature", "power", "seeds"]]
       temperature  power  seeds
    0          0.1    1.0      2
    1          0.1    0.5      2
    2          0.1    0.0      2
    3          0.3    1.0      2
    4          0.3    0.5      2
    5          0.3    0.0      2
    6          1.0    1.0      2
    7          1.0    0.5      2
    8          1.0    0.0      2
    """
    table = []
    for temperature, part in rows.groupby("temperature"):
        plain = part[part["power"] == 1.0]
        for power, runs in part.groupby("power"):
            gap = paired_gap(runs, plain)
            low, high = gap.pop("low"), gap.pop("high")
            mean = dict(zip(("mean", "low", "high"), mean_interval(runs["loss"].to_numpy())))
            table.append(
                {
                    "temperature": temperature,
                    "entropy": part["entropy"].mean(),
                    "power": power,
                    **mean,
                    **gap,
                    "difference_low": low,
                    "difference_high": high,
                    "decided": bool(low * high > 0),
                }
            )
    return pd.DataFrame(table).sort_values(["entropy", "power"], ascending=[True, False], ignore_index=True)


def best_powers(rows: pd.DataFrame) -> pd.DataFrame:
    """The best exponent of every temperature, from uneven to even gates.

    Columns temperature, entropy, best (lowest mean loss), low, high (t interval of each seed's own best), as_good (all
    exponents whose paired difference to the best does not exclude zero), seeds.

    >>> best_powers(powers)["temperature"].tolist()
    [0.1, 0.3, 1.0]
    """
    table = []
    for temperature, part in rows.groupby("temperature"):
        losses = part.pivot(index="seed", columns="power", values="loss")
        best = losses.mean().idxmin()
        gaps = {power: mean_interval((losses[power] - losses[best]).to_numpy())[1] for power in losses}
        _, low, high = mean_interval(losses.idxmin(axis=1).to_numpy())
        table.append(
            {
                "temperature": temperature,
                "entropy": part["entropy"].mean(),
                "best": best,
                "low": low,
                "high": high,
                "as_good": [power for power, least in gaps.items() if power == best or least <= 0],
                "seeds": len(losses),
            }
        )
    return pd.DataFrame(table).sort_values("entropy", ignore_index=True)


def entropy_slopes(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns seed, slope, runs: least-squares slope of the gain, loss(p = 1) − loss(p = 1/2), against the entropy
    of the two runs' gates, over temperatures, seed by seed. Below zero: p matters more if gates are uneven.

    >>> entropy_slopes(powers)[["seed", "runs"]].values.tolist()
    [[0, 3], [1, 3]]
    """
    plain, other = rows[rows["power"] == 1.0], rows[rows["power"] == 0.5]
    pairs = plain.merge(other, on=["seed", "temperature"])
    pairs = pairs.assign(gain=pairs["loss_x"] - pairs["loss_y"], entropy=(pairs["entropy_x"] + pairs["entropy_y"]) / 2)
    pairs = pairs[np.isfinite(pairs["gain"])]
    slopes = [
        {"seed": seed, "slope": np.polyfit(part["entropy"], part["gain"], 1)[0], "runs": len(part)}
        for seed, part in pairs.groupby("seed")
        if len(part) > 1
    ]
    return pd.DataFrame(slopes, columns=["seed", "slope", "runs"])


def tuned_lr(frame: pd.DataFrame, tuning_seeds: Sequence[int]) -> pd.DataFrame:
    """The learning rate with the lowest mean loss over the tuning seeds: method, lr, loss, interior (not at an end).

    frame: columns method, seed, lr, loss. Raises ValueError if there is no tuning seed, or no other seed.
    """
    held = frame["seed"].isin(list(tuning_seeds))
    if not held.any() or held.all():
        raise ValueError(
            f"tuning_seeds = {tuple(tuning_seeds)} must be some, not all, of the frame's seeds "
            f"{sorted(frame['seed'].unique())}; train more seeds, or pass other tuning seeds"
        )
    curves = frame[held].groupby(["method", "lr"])["loss"].mean().reset_index()
    best = curves.loc[curves.groupby("method")["loss"].idxmin()]
    ends = frame.groupby("method")["lr"].agg(["min", "max"]).reset_index()
    best = best.merge(ends, on="method")
    return best.assign(interior=best["lr"].between(best["min"], best["max"], "neither")).drop(columns=["min", "max"])


def method_pair(frame: pd.DataFrame) -> tuple[str, str]:
    """(plain, rescaled): the frame's two methods, with the paper's names, such as RSGD and gRSGD."""
    methods = sorted(frame["method"].unique(), key=len)
    if len(methods) != 2 or methods[1] != f"g{methods[0]}":
        raise ValueError(
            f"methods = {', '.join(methods)}; pass runs of one method and of its rescaled form, such as RSGD and gRSGD"
        )
    return methods[0], methods[1]


def references(frame: pd.DataFrame, tuning_seeds: Sequence[int]) -> dict[str, float]:
    """The learning rates of the equal-lr comparisons, by name, and of `match_steps`: the lowest one, where rescaling can
    gain most; then, from the tuning seeds, the plain method's best one and the one closest to a quarter of it.

    >>> list(references(tried, tuning_seeds=(8, 9)))
    ['equal lr, the lowest', "equal lr, a quarter of RSGD's best", "equal lr, RSGD's best"]
    """
    plain, _ = method_pair(frame)
    best = float(tuned_lr(frame, tuning_seeds).set_index("method")["lr"][plain])
    tried = frame.loc[frame["method"] == plain, "lr"].unique()
    low = float(tried[np.abs(np.log(tried / (LOW_SHARE * best))).argmin()])
    return {
        f"{EQUAL}, the lowest": float(tried.min()),
        f"{EQUAL}, a quarter of {plain}'s best": low,
        f"{EQUAL}, {plain}'s best": best,
    }


class Case(NamedTuple):
    """One comparison: its name, both learning rates, both sets of runs, and how well the steps match."""

    comparison: str
    rescaled_lr: float
    plain_lr: float
    rescaled: pd.DataFrame
    plain: pd.DataFrame
    step_ratio: float = float("nan")


def confound_cases(frame: pd.DataFrame, tuning_seeds: Sequence[int], matched: pd.DataFrame | None = None) -> list[Case]:
    """The runs of every comparison, without the tuning seeds: at equal lr, at matched effective step, and both tuned.

    frame: columns method (as for `method_pair`), seed, lr, loss over a grid of learning rates; runs of a transformer
    are possible too. matched: the plain method's runs of `match_steps`, with its columns; the last round counts.

    >>> [case.comparison for case in confound_cases(tried, (8, 9))][-1]
    'both tuned'
    """
    plain, rescaled = method_pair(frame)
    compared = frame[~frame["seed"].isin(list(tuning_seeds))]
    best = tuned_lr(frame, tuning_seeds).set_index("method")["lr"]
    found = [(name, lr, _at(compared, plain, lr), np.nan) for name, lr in references(frame, tuning_seeds).items()]
    if matched is not None:
        final = matched["round"] == matched.groupby("reference")["round"].transform("max")
        last = matched[final & ~matched["seed"].isin(list(tuning_seeds))]
        for reference in sorted(last["reference"].unique().tolist()):
            runs = last[last["reference"] == reference]
            found.append((f"{MATCHED}, {rescaled} at lr {reference:g}", reference, runs, runs["step_ratio"].iloc[0]))
    found.append((TUNED, best[rescaled], _at(compared, plain, best[plain]), np.nan))
    return [
        Case(name, lr, other["lr"].iloc[0], _at(compared, rescaled, lr), other, ratio)
        for name, lr, other, ratio in found
    ]


def confound_comparisons(cases: Sequence[Case]) -> pd.DataFrame:
    """Rescaled minus plain in each case: comparison, rescaled_lr, plain_lr, difference, low, high, seeds, diverged,
    step_ratio (NaN if steps were not matched).

    >>> confound_comparisons(confound_cases(tried, (8, 9), matched))[["comparison", "seeds"]]
                               comparison  seeds
    0                equal lr, the lowest      2
    1  equal lr, a quarter of RSGD's best      2
    2               equal lr, RSGD's best      2
    3      matched step, gRSGD at lr 0.02      2
    4                          both tuned      2
    """
    return pd.DataFrame(
        [
            {
                "comparison": case.comparison,
                "rescaled_lr": case.rescaled_lr,
                "plain_lr": case.plain_lr,
                **paired_gap(case.rescaled, case.plain),
                "step_ratio": case.step_ratio,
            }
            for case in cases
        ]
    )


def loss_gains(rescaled: pd.DataFrame, plain: pd.DataFrame) -> np.ndarray:
    """The share by which the rescaled loss is lower, seed by seed; NaN if one of the two diverged."""
    return relative_gains(*(runs.set_index("seed")["loss"] for runs in (rescaled, plain)))


def _at(frame: pd.DataFrame, method: str, lr: float) -> pd.DataFrame:
    rows = frame[(frame["method"] == method) & np.isclose(frame["lr"], lr, rtol=1e-6, atol=0)]
    if rows.empty:
        raise ValueError(f"no run of {method} at lr = {lr:g}; train one, or leave this lr out of the grid")
    return rows


def lr_shift(frame: pd.DataFrame) -> pd.DataFrame:
    """p as a pure change of the learning rate: the rescaled loss(lr) fitted by the plain loss(factor · lr), by seed.

    The factor, between 1/10 and 10, has the smallest root mean square gap over the rescaled method's learning rates that
    stay inside the plain method's grid, at least half of them; between rates, the loss is linear in log lr. Columns
    seed, factor, gap_equal (root mean square at factor 1), gap_shifted (at the best factor), remaining (mean of rescaled
    minus shifted plain). Runs that diverged are left out; a seed with fewer than three common learning rates has NaN.

    >>> lr_shift(tried).columns.tolist()
    ['seed', 'factor', 'gap_equal', 'gap_shifted', 'remaining']
    """
    rows, methods = [], method_pair(frame)
    for seed, part in frame[np.isfinite(frame["loss"])].groupby("seed"):
        plain, other = (part[part["method"] == name].sort_values("lr") for name in methods)
        at, losses = np.log(plain["lr"].to_numpy()), plain["loss"].to_numpy()
        places, wanted = np.log(other["lr"].to_numpy()), other["loss"].to_numpy()

        def gaps(shift: float, at=at, losses=losses, places=places, wanted=wanted) -> np.ndarray:
            inside = (places + shift >= at[0] - 1e-9) & (places + shift <= at[-1] + 1e-9)
            enough = inside.sum() >= max(3, len(places) / 2)
            return wanted[inside] - np.interp(places[inside] + shift, at, losses) if enough else np.array([np.nan])

        shifts = np.linspace(-np.log(10), np.log(10), 401)  # an odd number, so that 0 is one of them
        sizes = np.array([np.sqrt((gaps(shift) ** 2).mean()) for shift in shifts]) if len(at) else np.array([np.nan])
        best = int(np.nanargmin(sizes)) if np.isfinite(sizes).any() else 0
        rows.append(
            {
                "seed": seed,
                "factor": float(np.exp(shifts[best])),
                "gap_equal": float(sizes[len(sizes) // 2]),
                "gap_shifted": float(sizes[best]),
                "remaining": float(gaps(shifts[best]).mean()),
            }
        )
        if not np.isfinite(sizes).any():
            rows[-1]["factor"] = float("nan")
    return pd.DataFrame(rows)
