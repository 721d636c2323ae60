"""Which update directions trained runs reach and use: T-REX Lemma 4.1 from recorded routings, layer by layer.

For independent vectors G ↦ B Gᵀ A is injective, so the routings of the tokens, a (tokens, I·J) matrix, have the same
rank as the updates. No matrix of the layer's size is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...evidence.intervals import method_summary
from ...theory.rank import numerical_rank
from ..records import named, run_key, seed_bands

TOLERANCES = (1e-2, 1e-3, FULL := 1e-6)
MEASURES = (*(f"rank_{tolerance:g}" for tolerance in TOLERANCES), "effective_rank", "centred_effective_rank")
USED_MEASURES = {"rank_0.01": "numerical rank at 1e-2", "effective_rank": "effective rank"}  # drawn and judged

Recordings = Iterable[tuple[Any, Mapping[str, Any]]]


def routing_spectrum(gates: Any) -> np.ndarray:
    """Singular values of recorded routings, largest first: gates (tokens, E) or (tokens, I, J), array or CPU tensor.

    Raises ValueError for gates without a token dimension, without tokens, or not finite.
    """
    return np.linalg.svd(_triangle(_routing_matrix(gates), False), compute_uv=False)


def _routing_matrix(gates: Any) -> np.ndarray:
    values = np.asarray(gates.detach() if hasattr(gates, "detach") else gates)
    if values.ndim < 2 or values.size == 0:
        raise ValueError(f"gates has shape {values.shape}; pass (tokens, experts) or (tokens, I, J) with tokens in it")
    if not np.isfinite(values).all():
        raise ValueError("gates contains NaN or infinite values; drop those tokens before measuring")
    return values.reshape(values.shape[0], -1)  # (tokens, experts)


def _triangle(matrix: np.ndarray, centred: bool) -> np.ndarray:
    """The R of a QR decomposition, (min(tokens, experts), experts): the same singular values with much less work."""
    values = matrix.astype(np.float64)
    return np.asarray(np.linalg.qr(values - values.mean(0) if centred else values, mode="r"))


def effective_rank(singular: np.ndarray) -> float:
    """exp of the entropy of the singular values as shares (Roy & Vetterli 2007): n for n directions of equal weight."""
    shares = singular[singular > 0] / singular.sum() if singular.any() else np.empty(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if shares.size else 0.0


def used_dimension(gates: Any) -> dict[str, Any]:
    """The dimension that tokens use, from their routings (tokens, E) or (tokens, I, J).

    tokens, experts; rank_<tolerance>: number of singular values above tolerance × the largest, None if the precision of
    the gates is coarser than the tolerance; effective_rank; centred_rank_<tolerance> (with the same largest value, 0 if
    every token gets the same update) and centred_effective_rank, of the deviations from the mean routing; top_share:
    energy (squared singular value) of the first direction, the part that a fixed update could give.
    """
    matrix = _routing_matrix(gates)
    resolution = np.finfo(matrix.dtype).eps if np.issubdtype(matrix.dtype, np.floating) else 0.0
    plain, centred = (np.linalg.svd(_triangle(matrix, flag), compute_uv=False) for flag in (False, True))
    # after centering, identical tokens leave only rounding errors, relative to the size before centering
    floor = max(resolution, np.finfo(np.float64).eps) * max(matrix.shape) * plain[0]
    centred = np.where(centred > floor, centred, 0.0)
    result: dict[str, Any] = {"tokens": matrix.shape[0], "experts": matrix.shape[1]}
    for tolerance in TOLERANCES:
        known = tolerance >= resolution
        result[f"rank_{tolerance:g}"] = int((plain > tolerance * plain[0]).sum()) if known else None
        result[f"centred_rank_{tolerance:g}"] = int((centred > tolerance * plain[0]).sum()) if known else None
    result["effective_rank"], result["centred_effective_rank"] = effective_rank(plain), effective_rank(centred)
    result["top_share"] = float(plain[0] ** 2 / (plain**2).sum()) if plain.any() else 0.0
    return result


def trained_span(A: Any, B: Any) -> dict[str, int]:
    """Dimension that trained factors can reach with all routings, at a relative tolerance of 1e-6 on singular values.

    T-REX A (I, in), B (out, J): rank_a, rank_b, experts I·J and span = rank_a · rank_b (Lemma 4.1).
    LoRA-MoE A (E, r, in), B (E, out, r): the ranks of all vectors together, experts E, and the span of its E matrices.
    """
    A, B = (
        np.asarray(factor.detach().cpu() if hasattr(factor, "detach") else factor, dtype=np.float64)
        for factor in (A, B)
    )
    if A.ndim == B.ndim == 2:
        rank_a, rank_b = numerical_rank(A, FULL), numerical_rank(B, FULL)
        return {"rank_a": rank_a, "rank_b": rank_b, "experts": A.shape[0] * B.shape[1], "span": rank_a * rank_b}
    if A.ndim != 3 or B.ndim != 3 or A.shape[:2] != (B.shape[0], B.shape[2]):
        raise ValueError(
            f"A {A.shape} and B {B.shape} are not factors; pass (I, in), (out, J) or (E, r, in), (E, out, r)"
        )
    down, up = A.reshape(-1, A.shape[2]), np.concatenate(list(B), axis=1)  # (E*r, in), (out, E*r)
    # B_e A_e = Q_b (R_b)_e (R_a)_eᵀ Q_aᵀ: the small cores have the span of the full matrices
    right = np.asarray(np.linalg.qr(down.T, mode="r")).T.reshape(*A.shape[:2], -1)  # (E, r, k)
    left = np.asarray(np.linalg.qr(up, mode="r")).reshape(-1, *A.shape[:2]).transpose(1, 0, 2)  # (E, k, r)
    cores = (left @ right).reshape(A.shape[0], -1)
    return {
        "rank_a": numerical_rank(down, FULL),
        "rank_b": numerical_rank(up, FULL),
        "experts": A.shape[0],
        "span": numerical_rank(cores, FULL),
    }


def layer_and_target(module: str) -> tuple[int, str]:
    """("layers.3.self_attn.q_proj") -> (3, "q_proj"): the first number in a module's name and its last part.

    A name without a number counts as layer 0.
    """
    parts = module.split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    return (numbers[0] if numbers else 0), parts[-1]


def used_by_runs(recordings: Recordings, method: str | None = None) -> pd.DataFrame:
    """Dimension that each run's tokens use in each layer, from pairs (run, {module: gates (tokens, experts)}).

    Columns method, seed, module, layer, target and those of `used_dimension`; ranks are <NA> at tolerances
    finer than the recorded precision. method: a label that replaces the runs' own.
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
                {**run_key(run, method), "module": module, "layer": layer, "target": target, **used_dimension(values)}
            )
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys([name for name in frame if "rank_" in str(name)], "Int64"))


def energy_by_runs(recordings: Recordings, method: str | None = None) -> pd.DataFrame:
    """The share of the routings' energy (squared singular values) beyond their first k directions.

    Columns method, seed, module, direction (k, from 0), beyond (share of the energy, 1 at k = 0, falling to 0).

    >>> energy = energy_by_runs(gates)
    >>> energy.query("direction == 0")["beyond"].round(6).unique().tolist()
    [1.0]
    """
    frames = []
    for run, gates in _checked(recordings):
        for module, values in gates.items():
            energy = routing_spectrum(values) ** 2
            # summed from the smallest value, because one minus a cumulative share would lose values below rounding
            beyond = np.append(energy[::-1].cumsum()[::-1], 0.0) / energy.sum()
            frames.append(
                pd.DataFrame(
                    {**run_key(run, method), "module": module, "direction": np.arange(len(beyond)), "beyond": beyond}
                )
            )
    return pd.concat(frames, ignore_index=True)


def energy_bands(energy: pd.DataFrame) -> pd.DataFrame:
    """`energy_by_runs` averaged over modules -> columns method, direction, mean, low, high (over seeds).

    >>> energy_bands(energy).columns.tolist()
    ['method', 'direction', 'mean', 'low', 'high']
    """
    return seed_bands(energy, ["method", "direction"], "beyond").drop(columns="seeds")


def reached_by_runs(adapters: Recordings) -> pd.DataFrame:
    """Dimension that each run's trained factors can reach in each layer, from pairs (run, {module: adapter}).

    An adapter has A and B like `TRex` or `MoeLora`. Columns method, seed, module, rank_a, rank_b, experts, span.

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
    """One row per method: experts, what the factors reach, and what tokens use, as means over layers and seeds.

    Columns method, experts, reached (smallest and largest span of a layer, as text; "–" for a method without its own
    factors), then for each measure its mean and the 95 % interval over seeds as text, "14.2 [13.1, 15.3]"; "–" if no
    run was recorded precisely enough.

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
    """ "1.23 [1.20, 1.26]"; only the mean if there is no interval, and "–" for NaN."""
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]" if np.isfinite(low) else f"{mean:.3g}"


def _checked(recordings: Recordings) -> list[tuple[Any, Mapping[str, Any]]]:
    pairs = list(recordings)
    if not pairs:
        raise ValueError("recordings is empty; pass (run, {module: values}) for at least one run")
    for run, modules in pairs:
        if not modules:
            raise ValueError(f"the run of {named(run)}, has no modules in recordings; pass the records of its layers")
    return pairs
