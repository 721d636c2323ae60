"""Whether routers of different layers, or of different seeds, send the same tokens to the same experts.

Experts have no names, so the experts of two routers are first matched: the Hungarian method uses the correlations of
their gates over some texts. Agreement is then measured on other texts, because matching finds similarities in any two
routers. In: recordings as in `specialization`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval
from ..records import layer_of, run_key
from .load import distinct_experts
from .specialization import Recorded, split_routers

MEASURES = ("correlation", "same_top1")
PAIR = ["seed", "other_seed"]
AGREEMENT = "same_top1_adjusted"


def coactivation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlations (E1, E2) of the gate columns of (T, E1) and (T, E2) over the same tokens; 0 for a constant one."""
    centered = [gates - gates.mean(0) for gates in (first, second)]
    norms = np.linalg.norm(centered[0], axis=0)[:, None] * np.linalg.norm(centered[1], axis=0)  # (E1, E2)
    # a column that varies less than rounding is constant, and its correlation would be noise
    steady = norms > 1e-12 * len(first)
    return np.divide(centered[0].T @ centered[1], norms, out=np.zeros(norms.shape), where=steady)


def match_experts(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(experts of the first, their partners in the second), min(E1, E2) of each: the largest sum of correlations."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(coactivation(first, second), maximize=True)


def partner_tokens(text: np.ndarray, position: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """(permutations, T) token numbers: every token is replaced by the one at its position in another text.

    text (T,): codes 0, 1, …; position (T,): 0, 1, … within a text. A position beyond the other text's end starts again
    at its beginning. All tokens of a text move to the same other text, and effects of the position remain.
    """
    order = np.lexsort((position, text))
    lengths = np.bincount(text)
    starts = np.append(0, lengths.cumsum()[:-1])
    generator = np.random.default_rng(seed)
    other = np.stack([generator.permutation(len(lengths)) for _ in range(permutations)])[:, text]  # (P, T)
    return order[starts[other] + position % lengths[other]]


def held_out(tokens: pd.DataFrame, seed: int) -> np.ndarray:
    """(T,) True for the tokens of half of the texts, chosen by the seed; ValueError for fewer than four texts."""
    text = pd.factorize(tokens["row"])[0]
    if (texts := text.max() + 1) < 4:
        raise ValueError(f"agreement needs at least 4 texts, half to match experts and half to measure; got {texts}")
    chosen = np.random.default_rng(seed).permutation(texts) < texts // 2
    return chosen[text]


def router_agreement(
    first: np.ndarray, second: np.ndarray, tokens: pd.DataFrame, permutations: int = 100, seed: int = 0
) -> dict[str, float]:
    """How similar two routers are after matching their experts: gates (T, E1) and (T, E2) of the same tokens.

    correlation: of matched gates, held-out texts. same_top1: share of held-out tokens whose largest gates are partners,
    among tokens with gates in both. …_by_chance: mean with the second router's texts shuffled, which keeps the loads
    and the effect of a token's position. …_adjusted: (found − chance) / (1 − chance): 1 for the same routing, 0 for
    chance. …_p: share of shuffles, counting the real order as one, that reach the found value. …_matched: the same on
    the texts that were used for matching. kappa: Cohen's, of same_top1, which corrects only for loads.
    Experts of a router whose gates are always equal count as one (`distinct_experts`), because they cannot be distinguished.
    NaN if a router does not distinguish tokens. Raises ValueError for different numbers of tokens.
    """
    if not len(first) == len(second) == len(tokens):
        raise ValueError(
            f"the routers have {len(first)} and {len(second)} tokens, and the frame {len(tokens)}; "
            "record both on the same texts"
        )
    first, second = distinct_experts(first), distinct_experts(second)
    test = held_out(tokens, seed)
    matching = match_experts(first[~test], second[~test])
    seen = compared(first[~test], second[~test], matching)
    found = {f"{name}_matched": float(seen[name][0]) for name in MEASURES}
    text = pd.factorize(tokens["row"][test])[0]
    others = partner_tokens(text, position_in_text(tokens[test]), permutations, seed)
    both = compared(first[test], second[test], matching, others)  # (1 + permutations,) each, the real order first
    for name in MEASURES:
        value, chance = float(both[name][0]), both[name][1:]
        mean = float(chance.mean())
        told = mean < 1 - 1e-9  # False for NaN too
        found |= {
            name: value,
            f"{name}_by_chance": mean,
            f"{name}_adjusted": (value - mean) / (1 - mean) if told else float("nan"),
            f"{name}_p": float((1 + (chance >= value - 1e-12).sum()) / (1 + permutations)) if told else float("nan"),
        }
    return {**found, "kappa": float(both["kappa"][0])}


def position_in_text(tokens: pd.DataFrame) -> np.ndarray:
    """0, 1, … within each text, in the order of the column `position`."""
    return tokens.groupby("row")["position"].rank(method="first").to_numpy().astype(int) - 1


def compared(
    first: np.ndarray, second: np.ndarray, matching: tuple[np.ndarray, np.ndarray], others: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """correlation, same_top1 (1 + permutations,) and kappa (1,) of gates (T, E1) and (T, E2) under a matching.

    others (permutations, T): tokens of the second router that are also compared with those of the first. correlation: of
    all matched columns together, each minus its mean, so that an expert counts by how much it varies; shuffled tokens
    keep the scale of the real ones.
    """
    own, partner = matching
    order = np.arange(len(first))[None]
    order = order if others is None else np.concatenate([order, others])  # (1 + permutations, T)
    ours, theirs = (gates - gates.mean(0) for gates in (first[:, own], second[:, partner]))
    norm = np.linalg.norm(ours) * np.linalg.norm(theirs)
    products = np.array([np.vdot(ours, theirs[index]) for index in order])
    correlation = products / norm if norm > 1e-12 * len(first) else np.full(len(order), np.nan)
    name = np.full(second.shape[1], -1)
    name[partner] = own  # the number of each expert of the second router in the first
    top = np.where(first.sum(1) > 0, first.argmax(1), -2)
    other = np.where(second.sum(1) > 0, name[second.argmax(1)], -3)[order]  # (1 + permutations, T)
    told = (top != -2) & (other != -3)
    with np.errstate(invalid="ignore"):
        same = ((top == other) & told).sum(1) / told.sum(1)
    shares = [np.bincount(codes[told[0] & (codes >= 0)], minlength=first.shape[1]) for codes in (top, other[0])]
    expected = float(shares[0] @ shares[1]) / max(told[0].sum(), 1) ** 2
    kappa = (same[:1] - expected) / (1 - expected) if expected < 1 - 1e-9 else np.array([np.nan])
    return {"correlation": correlation, "same_top1": same, "kappa": kappa}


def between_layers(
    recorded: Iterable[Recorded], permutations: int = 100, seed: int = 0, method: str | None = None
) -> pd.DataFrame:
    """One row per (method, seed, module, other) with the columns of `router_agreement` and layer, other_layer.

    other: the router of the same projection (and pool) in another layer of the run; every pair once.

    >>> table = between_layers(recorded, permutations=3)
    >>> table[["layer", "other_layer"]].drop_duplicates().values.tolist()
    [['layers.2', 'layers.3']]
    """
    rows = []
    for run, by_module, tokens in recorded:
        routers = split_routers(run, by_module)
        for one, other in combinations(routers, 2):
            if one.removeprefix(layer_of(one)) != other.removeprefix(layer_of(other)):
                continue
            found = router_agreement(routers[one], routers[other], tokens, permutations, seed)
            rows.append(
                {
                    **run_key(run, method),
                    "module": one,
                    "other": other,
                    "layer": layer_of(one),
                    "other_layer": layer_of(other),
                    **found,
                }
            )
    return pd.DataFrame(rows)


def between_seeds(
    recorded: Iterable[Recorded], permutations: int = 100, seed: int = 0, method: str | None = None
) -> pd.DataFrame:
    """One row per (method, seed, other_seed, module): the same router in two runs of a method; every pair once.

    Raises ValueError if two runs of a method were recorded on different texts.

    >>> table = between_seeds(recorded, permutations=3)
    >>> table[["method", "seed", "other_seed"]].drop_duplicates().values.tolist()
    [['LoRA-MoE', 0, 1], ['mix-and-match', 0, 1], ['T-REX', 0, 1]]
    """
    groups: dict[Any, list[Recorded]] = {}
    for each in recorded:
        groups.setdefault(run_key(each[0], method)["method"], []).append(each)
    rows = []
    for name, runs in groups.items():
        routers = [split_routers(run, by_module) for run, by_module, _ in runs]
        for one, other in combinations(range(len(runs)), 2):
            tokens, seeds = runs[one][2], [int(runs[index][0].config.seed) for index in (one, other)]
            if not tokens[["row", "position"]].equals(runs[other][2][["row", "position"]]):
                raise ValueError(
                    f"seeds {seeds[0]} and {seeds[1]} of {name!r} were recorded on different tokens; "
                    "record both with the same frame"
                )
            for module in (module for module in routers[one] if module in routers[other]):
                found = router_agreement(routers[one][module], routers[other][module], tokens, permutations, seed)
                rows.append(
                    {
                        "method": name,
                        "seed": seeds[0],
                        "other_seed": seeds[1],
                        "module": module,
                        "layer": layer_of(module),
                        **found,
                    }
                )
    return pd.DataFrame(rows)


def agreement_matrix(frame: pd.DataFrame, first: str, second: str, measure: str = "same_top1_adjusted") -> pd.DataFrame:
    """A square, symmetric matrix with ones on the diagonal: means of a measure by a pair of columns, for one method.

    frame: of `between_layers` (columns "module", "other" or "layer", "other_layer"), or of `between_seeds` ("seed",
    "other_seed").
    """
    both = [frame[[first, second, measure]], frame[[second, first, measure]].set_axis([first, second, measure], axis=1)]
    long = pd.concat(both, ignore_index=True)
    names = list(dict.fromkeys(long[first]))
    square = long.groupby([first, second])[measure].mean().unstack().reindex(index=names, columns=names)
    np.fill_diagonal(values := square.to_numpy(copy=True), 1.0)
    return pd.DataFrame(values, index=names, columns=names)


def pair_interval(frame: pd.DataFrame, measure: str) -> tuple[float, float, float, int]:
    """(mean, low, high, seeds) of a measure over pairs of seeds, routers averaged within a pair first.

    Pairs share seeds and are not independent, so the interval is that of the jackknife's pseudo-values, one per seed:
    they come from the mean over pairs without all pairs of that seed (Arvesen 1969). NaN for fewer than three seeds.
    """
    pairs = frame.groupby(PAIR)[measure].mean().dropna()
    values = pseudo_values(frame, measure)
    if len(values) < 3:
        return float(pairs.mean()), float("nan"), float("nan"), len(values)
    return *mean_interval(values), len(values)


def pseudo_values(frame: pd.DataFrame, measure: str) -> np.ndarray:
    """(seeds,): the jackknife's pseudo-values of the mean over pairs; NaN for fewer than three seeds."""
    pairs = frame.groupby(PAIR)[measure].mean().dropna().reset_index()
    names = pd.unique(pairs[PAIR].to_numpy().ravel())
    if len(names) < 3:
        return np.full(len(names), np.nan)
    without = [pairs.loc[(pairs[PAIR] != name).all(axis=1), measure].mean() for name in names]
    return len(names) * float(pairs[measure].mean()) - (len(names) - 1) * np.array(without)
