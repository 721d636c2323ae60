"""What experts specialize in: how much a token's gates reveal about the data set or semantic cluster of its text.

In: recordings (run, {module: gates (tokens, experts)}, tokens), as `recorders.routing.record_gates` makes them. Gates
are treated as a distribution over experts, so soft and sparse routers are measured in the same way. Every pool of a
system with several pools (MoMOR, S'MoRE) counts as a separate router.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..records import layer_of, named, run_key

VIEWS = ("gates", "top1")
POOLED = ("momor", "smore")  # systems with several pools
BLOCK_VALUES = 2**23  # of one block of shuffles
Recorded = tuple[Any, Mapping[str, np.ndarray], pd.DataFrame]


def split_routers(run: Any, gates: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{module: gates (T, E)} -> {router: (T, experts) ≥ 0, rows of sum 1}; "<module> pool 0" … if there are pools.

    A signed gate counts by its absolute value. A token whose gates are all zero keeps a row of zeros. run: a run, or
    the handle of `attach`, also for mixtures that are not ours. Raises ValueError for gates that are not finite, and
    for a handle of a system with pools, because it does not know their sizes.
    """
    adapter = getattr(run.config, "adapter", None)
    if adapter is None and run.config.system in POOLED:
        raise ValueError(
            f"the run of {named(run)}, was attached, and its record has no sizes of its pools; pass a run of ma.train"
        )
    sizes = getattr(adapter, "num_experts", 0)
    bounds = np.cumsum(sizes if isinstance(sizes, (list, tuple)) else [0])[:-1]
    routers = {}
    for module, values in gates.items():
        weights = np.abs(np.asarray(values, dtype=np.float64))
        if not np.isfinite(weights).all():
            raise ValueError(
                f"gates of {module} contain NaN or infinity; leave out the run of {named(run)}, which diverged"
            )
        parts = {module: weights}
        if len(bounds):
            parts = {f"{module} pool {number}": pool for number, pool in enumerate(np.split(weights, bounds, axis=1))}
        for name, part in parts.items():
            mass = part.sum(1, keepdims=True)
            routers[name] = np.divide(part, mass, out=np.zeros_like(part), where=mass > 0)
    return routers


def stacked(routers: Mapping[str, np.ndarray]) -> np.ndarray:
    """{router: (T, experts)} -> (T, routers, most experts); experts that a router does not have are zero."""
    most = max(part.shape[1] for part in routers.values())
    return np.stack([np.pad(part, ((0, 0), (0, most - part.shape[1]))) for part in routers.values()], axis=1)


def largest(gates: np.ndarray) -> np.ndarray:
    """The top-1 view of gates (…, experts): 1 for the largest, shared evenly by ties; 0 without gates."""
    top = (gates == gates.max(-1, keepdims=True)) & (gates > 0)
    count = top.sum(-1, keepdims=True)
    return np.divide(top, count, out=np.zeros(top.shape), where=count > 0)


def text_table(gates: np.ndarray, text: np.ndarray, view: str = "gates") -> np.ndarray:
    """gates (T, R, E), text (T,) codes 0, 1, … -> (texts, R, E): the gate mass of a text's tokens for every expert."""
    values = largest(gates) if view == "top1" else gates
    order = text.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(text[order], prepend=-1))
    return np.add.reduceat(values[order], starts, axis=0)


def bits(mass: np.ndarray, axes: int | tuple[int, ...]) -> np.ndarray:
    """Entropy in bits over the axes of masses that sum to 1 there."""
    return -(mass * np.log2(np.where(mass > 0, mass, 1.0))).sum(axes)


def information(table: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information of expert and label, and the label's entropy, in bits: two arrays (labelings, R).

    table (texts, R, E): masses. codes (labelings, texts): labels 0, 1, …; every labeling is one matrix product.
    """
    labels, (texts, routers, experts) = int(codes.max()) + 1, table.shape
    flat = table.reshape(texts, routers * experts)
    size = max(1, BLOCK_VALUES // (labels * max(texts, routers * experts)))
    found = []
    for block in np.split(codes, range(size, len(codes), size)):
        members = (block[:, None] == np.arange(labels)[:, None]).astype(float)  # (b, labels, texts)
        joint = (members.reshape(-1, texts) @ flat).reshape(len(block), labels, routers, experts)
        mass = joint.sum((1, 3), keepdims=True)
        joint = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
        label = bits(joint.sum(3), 1)  # (b, R)
        found.append((np.maximum(label + bits(joint.sum(1), 2) - bits(joint, (1, 3)), 0.0), label))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def specialization(
    recorded: Iterable[Recorded],
    labels: Mapping[str, Any] | None = None,
    permutations: int = 200,
    method: str | None = None,
) -> pd.DataFrame:
    """One row per (method, seed, module, label, view): what the chosen experts reveal about a text's label, in bits.

    labels: {name: a label for every row of the recorded frame}, by default the data sets. method: a label that replaces
    the runs' own.
    view: "gates" (the distribution) or "top1" (the largest gate). information: mutual information over tokens.
    by_chance: its mean if labels are shuffled over texts; whole texts are shuffled, because the tokens of one text are
    not independent. excess: the difference. p: share of shuffles, counting the real order as one, that reach the
    information; run_p: the same for the mean over the run's routers. label_entropy: of the labels. normalized: excess /
    label_entropy, NaN for a single label. most: the smaller of label_entropy and the log of the number of experts.
    Raises ValueError for fewer than one permutation, or labels of the wrong length.

    >>> found = specialization(recorded, labels, permutations=4)
    >>> found["view"].unique().tolist(), bool((found["information"] >= 0).all())
    (['gates', 'top1'], True)
    """
    if permutations < 1:
        raise ValueError(f"permutations = {permutations} must be at least 1")
    frames = []
    for run, by_module, tokens in recorded:
        routers = split_routers(run, by_module)
        gates, (text, rows) = stacked(routers), pd.factorize(tokens["row"])
        experts = np.array([part.shape[1] for part in routers.values()])
        of_row = tokens.drop_duplicates("row").set_index("row")["dataset"].reindex(rows)
        names = {"dataset": None} if labels is None else labels
        for view in VIEWS:
            table = text_table(gates, text, view)
            for name, values in names.items():
                own = pd.factorize(of_row)[0] if values is None else codes_of(values, rows, f"labels[{name!r}]")
                measured = tested(table, own, permutations)
                measured["most"] = np.minimum(measured["label_entropy"], np.log2(experts))
                frames.append(
                    pd.DataFrame(
                        {
                            **run_key(run, method),
                            "module": list(routers),
                            "layer": [layer_of(each) for each in routers],
                            "label": name,
                            "view": view,
                            **measured,
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)


def codes_of(values: Any, rows: Any, name: str) -> np.ndarray:
    """Labels of the recorded rows as 0, 1, …; ValueError if there are fewer labels than rows."""
    values = np.asarray(values)
    if values.ndim != 1 or len(values) <= rows.max():
        raise ValueError(
            f"{name} has shape {values.shape} but row {rows.max()} was recorded; pass one label per row of the "
            "recorded frame"
        )
    return pd.factorize(values[rows])[0]


def tested(table: np.ndarray, codes: np.ndarray, permutations: int) -> dict[str, np.ndarray]:
    """Columns of `specialization` (R,) for one labeling: its information, and that by chance."""
    orders = np.random.default_rng(0).random((permutations, len(codes))).argsort(axis=1)
    found, entropy = information(table, np.concatenate([codes[None], codes[orders]]))
    chance, label_entropy = found[1:].mean(0), entropy[0]
    excess, whole = found[0] - chance, found.mean(1)
    reached, all_reached = (found[1:] >= found[0] - 1e-12).sum(0), (whole[1:] >= whole[0] - 1e-12).sum()
    spread = label_entropy > 1e-9
    return {
        "information": found[0],
        "by_chance": chance,
        "excess": excess,
        "p": (1 + reached) / (1 + permutations),
        "run_p": np.full(len(excess), (1 + all_reached) / (1 + permutations)),
        "label_entropy": label_entropy,
        "normalized": np.divide(excess, label_entropy, out=np.full(len(excess), np.nan), where=spread),
    }


def expert_shares(recorded: Iterable[Recorded]) -> pd.DataFrame:
    """One row per (method, seed, module, label, expert): the experts that the tokens of a data set are routed to.

    label: the data set. share: the expert's share of the label's gate mass (NaN for a label without mass). load: its
    share of all gate mass. log_lift: log2 of share / load, 0 if the label uses the expert as all tokens do, -inf if it
    never does, NaN for an expert without load.

    >>> found = expert_shares(recorded)
    >>> found["label"].unique().tolist()
    ['add_small', 'add_small_one_over', 'where_is', 'where_is_one_step_late']
    """
    frames = []
    for run, by_module, tokens in recorded:
        routers = split_routers(run, by_module)
        gates = stacked(routers)
        codes, kinds = pd.factorize(tokens["dataset"], sort=True)
        table = text_table(gates, codes)  # (labels, R, E)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = table / table.sum(-1, keepdims=True)
            load = (table / table.sum((0, 2), keepdims=True)).sum(0)  # (R, E)
            lift = np.log2(share / load)
        for number, (module, part) in enumerate(routers.items()):
            experts = part.shape[1]
            frames.append(
                pd.DataFrame(
                    {
                        **run_key(run),
                        "module": module,
                        "layer": layer_of(module),
                        "label": np.repeat(kinds, experts),
                        "expert": np.tile(np.arange(experts), len(kinds)),
                        "share": share[:, number, :experts].ravel(),
                        "load": np.tile(load[number, :experts], len(kinds)),
                        "log_lift": lift[:, number, :experts].ravel(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)
