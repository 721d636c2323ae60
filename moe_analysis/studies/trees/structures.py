"""Used structures: through which of a S'MoRE's Γ trees its tokens are really routed, over training and by task.

The number of different trees grows with the number of tokens, so every count here comes with its sample size and with
the expected number if each token drew its tree at random from all Γ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...theory.flexibility import smore_flexibility
from ..records import check_by, check_runs, check_whole, layer_of, module_frame, named, run_key, seed_bands

MEASURES = ("distinct", "share", "against_uniform", "entropy", "normalized_entropy", "differing_siblings")
Recorded = tuple[Any, Mapping[str, np.ndarray], pd.DataFrame]  # a run, {module: codes (tokens,)}, tokens


def uniform_trees(flexibility: int, tokens: Any) -> np.ndarray:
    """Expected number of different trees among tokens that each draw one of `flexibility` trees at random."""
    return -flexibility * np.expm1(np.asarray(tokens, dtype=float) * np.log1p(-1.0 / flexibility))


def uniform_siblings(num_experts: Sequence[int], fanout: Sequence[int]) -> float:
    """Probability that the root's subtrees are not all equal in a random tree; NaN with one layer.

    >>> round(uniform_siblings([4, 4], [2, 2]), 3)
    0.833
    """
    if len(num_experts) < 2:
        return float("nan")
    below = smore_flexibility(list(num_experts[:-1]), list(fanout[:-1]))
    return 1.0 - float(below) ** (1 - fanout[-1])


def most_entropy(flexibility: int, tokens: Any) -> np.ndarray:
    """The largest entropy in bits that this many tokens can show: the smaller of log2 Γ and log2 of the tokens."""
    return np.minimum(np.log2(float(flexibility)), np.log2(np.maximum(tokens, 1)))


def sizes_of(run: Any) -> tuple[list[int], list[int], int]:
    """(num_experts, fanout, Γ) of a run's adapter; ValueError for an adapter without trees.

    >>> sizes_of(tree_runs[0])
    ([3, 3], [2, 2], 27)
    """
    adapter = run.config.adapter
    if not hasattr(adapter, "fanout"):
        raise ValueError(f"the run of {named(run)}, has no trees; pass runs of SmoreConfig")
    return list(adapter.num_experts), list(adapter.fanout), smore_flexibility(adapter.num_experts, adapter.fanout)


def over_training(runs: Sequence[Any]) -> pd.DataFrame:
    """One row per (method, seed, step, module): layer, tokens, flexibility (Γ) and MEASURES.

    distinct: trees among the tokens sampled at that step. share: distinct / Γ. against_uniform: distinct divided by the
    expected number for random trees. entropy: bits. normalized_entropy: divided by min(log Γ, log tokens).
    differing_siblings: share of tokens whose root has children with different subtrees, which only a tree can express;
    for random trees see `uniform_siblings`.

    >>> found = over_training(tree_runs)
    >>> int(found["step"].max()), found["flexibility"].unique().tolist(), found["module"].nunique()
    (3, [27.0], 2)
    """
    check_runs(runs)
    check_whole(runs)
    frames = []
    for run in runs:
        records = run.tree_records
        distinct, entropy, tokens = (records[kind].values for kind in ("distinct_trees", "tree_entropy", "tokens"))
        columns = measures(distinct, entropy, tokens, sizes_of(run)[2])
        columns["flexibility"] = np.full_like(columns["tokens"], columns["flexibility"])
        columns["differing_siblings"] = records["differing_siblings"].values
        frames.append(module_frame(run, records["tokens"], columns))
    return pd.concat(frames, ignore_index=True)


def measures(distinct: Any, entropy: Any, tokens: Any, flexibility: int) -> dict[str, Any]:
    """Columns tokens, flexibility, distinct, share, against_uniform, entropy, normalized_entropy, from counts.

    For numbers or for arrays of the same shape; the normalized entropy of a single token is NaN.
    """
    distinct, entropy, tokens = (np.asarray(values, dtype=float) for values in (distinct, entropy, tokens))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "tokens": tokens,
            "flexibility": float(flexibility),
            "distinct": distinct,
            "share": distinct / flexibility,
            "against_uniform": distinct / uniform_trees(flexibility, tokens),
            "entropy": entropy,
            "normalized_entropy": entropy / most_entropy(flexibility, tokens),
        }


def training_bands(frame: pd.DataFrame, by: str = "layer") -> pd.DataFrame:
    """Columns method, `by`, step, measure, mean, low, high, seeds: a layer's modules are averaged within a seed.

    frame: of `over_training`. by: "layer" or "module". low and high are the lowest and highest seed. Raises ValueError
    for another `by`.

    >>> training_bands(training).columns.tolist()
    ['method', 'layer', 'step', 'measure', 'mean', 'low', 'high', 'seeds']
    """
    check_by(by)
    long = frame.melt(["method", "seed", "step", "module", "layer"], list(MEASURES), var_name="measure")
    return seed_bands(long, ["method", by, "step", "measure"])


def frequencies(codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Codes (T,) -> (number of tokens of every tree that occurs, largest first; entropy of the shares in bits)."""
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    share = counts / counts.sum()
    return counts, max(0.0, float(-(share * np.log2(share)).sum()))


def rarefied(counts: np.ndarray, tokens: int) -> float:
    """Expected number of trees among `tokens` that are drawn without replacement from the counted ones.

    counts: tokens by tree. This makes samples of different sizes comparable (Hurlbert 1971). Raises ValueError for more
    tokens than were counted.
    """
    from scipy.special import gammaln

    total = counts.sum()
    if not 0 < tokens <= total:
        raise ValueError(f"tokens = {tokens} cannot be drawn from {total} counted ones; use 1 to {total}")
    rest = total - counts  # tokens with a different tree
    possible = rest >= tokens
    logs = gammaln(rest[possible] + 1) - gammaln(rest[possible] - tokens + 1)  # log of rest! / (rest − tokens)!
    missed = np.exp(logs - gammaln(total + 1) + gammaln(total - tokens + 1))
    return float(len(counts) - missed.sum())


def usage_ranks(recorded: Iterable[Recorded]) -> pd.DataFrame:
    """One row per (method, seed, module, rank): share, the part of all tokens that use the module's rank-th tree.

    >>> ranks = usage_ranks(routed)
    >>> ranks.groupby(["seed", "module"])["share"].sum().round(6).unique().tolist()
    [1.0]
    """
    frames = []
    for run, trees, _ in recorded:
        for module, codes in trees.items():
            counts, _ = frequencies(codes)
            frames.append(
                pd.DataFrame(
                    {
                        **run_key(run),
                        "module": module,
                        "rank": np.arange(1, len(counts) + 1),
                        "share": counts / counts.sum(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def usage_by_layer(ranks: pd.DataFrame) -> pd.DataFrame:
    """`usage_ranks` -> columns method, layer, rank, share: means over modules and seeds; unused trees count as 0.

    >>> usage_by_layer(usage_ranks(routed)).columns.tolist()
    ['method', 'layer', 'rank', 'share']
    """
    frame = ranks.assign(layer=ranks["module"].map(layer_of))
    keys = ["method", "layer"]
    modules = frame[[*keys, "seed", "module"]].drop_duplicates().groupby(keys).size()
    sums = frame.groupby([*keys, "rank"])["share"].sum()
    return sums.div(modules).rename("share").reset_index()


def by_dataset(recorded: Iterable[Recorded]) -> pd.DataFrame:
    """One row per (method, seed, module, dataset), and dataset "all": the trees of all its tokens.

    Columns tokens, flexibility, distinct, share, against_uniform, entropy, normalized_entropy, rarefied (expected trees
    for the number of tokens of the smallest data set), rarefied_tokens.

    >>> found = by_dataset(routed)
    >>> sorted(found["dataset"].unique())
    ['add_small', 'add_small_one_over', 'all', 'where_is', 'where_is_one_step_late']
    """
    rows = []
    for run, trees, tokens in recorded:
        flexibility, names = sizes_of(run)[2], tokens["dataset"].to_numpy()
        groups = {"all": np.ones(len(names), bool), **{name: names == name for name in dict.fromkeys(names)}}
        smallest = min(int(chosen.sum()) for chosen in groups.values())
        for module, codes in trees.items():
            for name, chosen in groups.items():
                counts, entropy = frequencies(codes[chosen])
                found = measures(len(counts), entropy, int(chosen.sum()), flexibility)
                rows.append(
                    {
                        **run_key(run),
                        "module": module,
                        "layer": layer_of(module),
                        "dataset": name,
                        **found,
                        "rarefied": rarefied(counts, smallest),
                        "rarefied_tokens": smallest,
                    }
                )
    return pd.DataFrame(rows)


def dataset_information(recorded: Iterable[Recorded], permutations: int = 200, seed: int = 0) -> pd.DataFrame:
    """One row per (method, seed, module): how much a token's tree reveals about its data set.

    information: mutual information in bits. by_chance: its mean if the data sets' names are shuffled over the texts;
    whole texts are shuffled, because the tokens of one text are not independent. excess: the difference. p: share of
    shuffles, counting the real order as one, with at least this information. dataset_entropy: the largest possible
    information, bits.

    >>> found = dataset_information(routed, permutations=9)
    >>> bool(np.allclose(found["excess"], found["information"] - found["by_chance"]))
    True
    """
    rows = []
    for run, trees, tokens in recorded:
        text = pd.factorize(tokens["row"])[0]
        first = pd.Series(text).drop_duplicates().index
        names = pd.factorize(tokens["dataset"])[0][first]  # (texts,)
        for module, codes in trees.items():
            kinds = pd.factorize(codes)[0]
            table = np.zeros((len(names), kinds.max() + 1))
            np.add.at(table, (text, kinds), 1.0)  # (texts, trees): tokens
            generator = np.random.default_rng(seed)
            found, entropy = mutual_information(table, names)
            shuffled = np.array(
                [mutual_information(table, generator.permutation(names))[0] for _ in range(permutations)]
            )
            reached = (shuffled >= found - 1e-12).sum()
            rows.append(
                {
                    **run_key(run),
                    "module": module,
                    "layer": layer_of(module),
                    "information": found,
                    "by_chance": shuffled.mean(),
                    "excess": found - shuffled.mean(),
                    "p": (1 + reached) / (1 + permutations),
                    "dataset_entropy": entropy,
                }
            )
    return pd.DataFrame(rows)


def mutual_information(table: np.ndarray, names: np.ndarray) -> tuple[float, float]:
    """(information, entropy of the names) in bits: table (texts, trees) counts tokens, names (texts,) are 0, 1, …"""
    order = names.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=-1))
    joint = np.add.reduceat(table[order], starts, axis=0) / table.sum()  # (data sets, trees)
    rows, columns = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log2(joint / (rows * columns)), 0.0)
    return max(0.0, float(terms.sum())), float(-(rows * np.log2(rows)).sum())
