"""Which update directions trained runs reach and use: T-REX Lemma 4.1 read from recorded routings, a row a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..studies.records import run_key
from .intervals import method_summary
from .subspace import TOLERANCES, routing_spectrum, trained_span, used_dimension

MEASURES = (*(f"rank_{tolerance:g}" for tolerance in TOLERANCES), "effective_rank", "centred_effective_rank")

Recordings = Iterable[tuple[Any, Mapping[str, Any]]]


def layer_and_target(module: str) -> tuple[int, str]:
    """("layers.3.self_attn.q_proj") -> (3, "q_proj"): the first number in a module's name and its last part.

    A name without a number counts as layer 0.
    """
    parts = module.split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    return (numbers[0] if numbers else 0), parts[-1]


def router_alone(adapters: Mapping[str, Any], gates: Mapping[str, Any], scores: Any) -> dict[str, np.ndarray]:
    """Recorded routings of T-REX layers without the prior's share: {module: ω · router_coef · softmax}, float32.

    adapters, gates: {module: TRex} and {module: (tokens, I·J)}; scores: (tokens, clusters), the intuition that each
    token was routed by. The hidden states stay those of the full model, so only the routing is taken apart.
    Raises ValueError when scores and gates have different numbers of tokens.

    >>> run, by_module, tokens = recorded[-1]
    >>> alone = router_alone(adapters[-1][1], by_module, run.intuition(test)[tokens["row"]])
    >>> alone[module].shape == by_module[module].shape
    True
    """
    import torch

    scores, parts = torch.as_tensor(np.asarray(scores), dtype=torch.float32), {}
    for module, values in gates.items():
        if len(values) != len(scores):
            raise ValueError(f"scores has {len(scores)} rows but {module} has {len(values)} tokens; pass a row a token")
        with torch.no_grad():
            layer = adapters[module]
            mapped = layer.mapper(scores) if hasattr(layer, "mapper") else scores
            prior = (1 - layer.omega) * layer.config.intuition_coef * mapped  # (tokens, I*J)
        parts[module] = np.asarray(values, dtype=np.float32) - prior.numpy()
    return parts


def used_by_runs(recordings: Recordings, method: str | None = None) -> pd.DataFrame:
    """Dimension that each run's tokens use in each layer, from pairs (run, {module: gates (tokens, experts)}).

    Columns method, seed, module, layer, target and those of `subspace.used_dimension`; ranks are <NA> at tolerances
    finer than the recorded precision. method: a label in place of the runs' own.
    Raises ValueError for no runs, or a run without modules.

    >>> used = used_by_runs(gates)
    >>> len(used), used["target"].unique().tolist()
    (24, ['q_proj', 'v_proj'])
    """
    rows = []
    for run, gates in _checked(recordings):
        for module, values in gates.items():
            layer, target = layer_and_target(module)
            rows.append(
                {**_key(run, method), "module": module, "layer": layer, "target": target, **used_dimension(values)}
            )
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys([name for name in frame if "rank_" in str(name)], "Int64"))


def energy_by_runs(recordings: Recordings, method: str | None = None) -> pd.DataFrame:
    """How much of the routings' energy (squared singular values) lies beyond their first k directions.

    Columns method, seed, module, direction (k, from 0), beyond (share of the energy, 1 at k = 0, falling to 0).

    >>> energy = energy_by_runs(gates)
    >>> energy.query("direction == 0")["beyond"].round(6).unique().tolist()
    [1.0]
    """
    frames = []
    for run, gates in _checked(recordings):
        for module, values in gates.items():
            energy = routing_spectrum(values) ** 2
            # summed from the small end: one minus a cumulative share would lose what is below rounding
            beyond = np.append(energy[::-1].cumsum()[::-1], 0.0) / energy.sum()
            frames.append(
                pd.DataFrame(
                    {**_key(run, method), "module": module, "direction": np.arange(len(beyond)), "beyond": beyond}
                )
            )
    return pd.concat(frames, ignore_index=True)


def energy_bands(energy: pd.DataFrame) -> pd.DataFrame:
    """`energy_by_runs` averaged over modules -> columns method, direction, mean, low, high (over seeds).

    >>> energy_bands(energy).columns.tolist()
    ['method', 'direction', 'mean', 'low', 'high']
    """
    seeds = energy.groupby(["method", "direction", "seed"], sort=False)["beyond"].mean()
    bands = seeds.groupby(["method", "direction"], sort=False).agg(["mean", "min", "max"])
    return bands.rename(columns={"min": "low", "max": "high"}).reset_index()


def reached_by_runs(adapters: Recordings) -> pd.DataFrame:
    """Dimension that each run's trained factors can reach in each layer, from pairs (run, {module: adapter}).

    An adapter has A and B as `TRex` or `MoeLora`. Columns method, seed, module, rank_a, rank_b, experts, span.

    >>> reached = reached_by_runs(adapters)
    >>> reached.groupby("method", sort=False)["span"].max().to_dict()
    {'LoRA-MoE': 4, 'mix-and-match': 2, 'T-REX': 8}
    """
    return pd.DataFrame(
        [
            {**run_key(run), "module": module, **trained_span(adapter.A, adapter.B)}
            for run, modules in _checked(adapters)
            for module, adapter in modules.items()
        ]
    )


def used_summary(used: pd.DataFrame, reached: pd.DataFrame) -> pd.DataFrame:
    """A row a method: experts, what the factors reach, and what tokens use as mean over layers and seeds.

    Columns method, experts, reached (least and largest span of a layer, as text; "–" for a method without factors of
    its own), then for each measure its mean and
    the 95 % interval over seeds as text, "14.2 [13.1, 15.3]"; "–" where no run was recorded precisely enough.

    >>> used_summary(used, reached)[["method", "experts", "reached"]]
              method  experts reached
    0       LoRA-MoE        4       4
    1  mix-and-match        8       2
    2          T-REX        8       8
    """
    measures = [name for name in MEASURES if name in used]
    numbers = used.astype(dict.fromkeys(measures, float))
    texts = {
        (row["method"], row["measure"]): interval_text(row["mean"], row["low"], row["high"])
        for row in method_summary(numbers, measures).to_dict("records")
    }
    rows = []
    for method in dict.fromkeys(used["method"]):
        spans = reached.loc[reached["method"] == method, "span"]
        ends = dict.fromkeys([str(spans.min()), str(spans.max())]) if len(spans) else [""]
        rows.append(
            {
                "method": method,
                "experts": int(used.loc[used["method"] == method, "experts"].iloc[0]),
                "reached": "–".join(ends) or "–",
                **{measure: texts[method, measure] for measure in measures},
            }
        )
    return pd.DataFrame(rows)


def interval_text(mean: float, low: float, high: float) -> str:
    """ "1.23 [1.20, 1.26]"; the mean alone where there is no interval, and "–" for NaN."""
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]" if np.isfinite(low) else f"{mean:.3g}"


def _key(run: Any, method: str | None) -> dict[str, Any]:
    return {**run_key(run), "method": method} if method else run_key(run)


def _checked(recordings: Recordings) -> list[tuple[Any, Mapping[str, Any]]]:
    pairs = list(recordings)
    if not pairs:
        raise ValueError("recordings is empty; pass (run, {module: values}) for at least one run")
    for run, modules in pairs:
        if not modules:
            raise ValueError(f"run {run_key(run)} has no modules in recordings; pass what was recorded of its layers")
    return pairs
