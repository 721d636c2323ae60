"""Reading what runs recorded about their routers: which modules they share, and their tensors in blocks of steps.

A block is one chunk of the store, so a pass over all modules reads each chunk once and keeps only one in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..tasks import load_suite
from ..tasks.rows import shorten

ROUTER_KINDS = ("router_weight", "router_grad")
WITH_A_MATRIX = ("LoRA-MoE", "MixLoRA", "SiRA", "HydraLoRA", "T-REX")
# the analyses that read records alone, and so take a loop of `ma.attach` too
OF_RECORDS = (
    "studies.router_paths.paths.router_paths",
    "studies.router_paths.smoothness.smoothness",
    "studies.experts.anatomy.load_balance",
    "studies.router_paths.paths.path_axes",
    "studies.router_paths.paths.distinct_experts",
    "studies.router_paths.smoothness.gradient_noise",
    "studies.records.gate_entropy",
    "studies.convergence.loss_curves",
)


def method_of(run: Any) -> str:
    """The run's label: its configured name, else the adapter's system."""
    return getattr(run.config, "name", None) or run.config.system


def run_key(run: Any, method: str | None = None) -> dict[str, Any]:
    """{"method", "seed"}: the first columns of every frame about runs; method: a label that replaces the run's own."""
    return {"method": method_of(run) if method is None else method, "seed": int(run.config.seed)}


def named(run: Any) -> str:
    """How messages name a run: "T-REX, seed 0"."""
    return f"{method_of(run)}, seed {run.config.seed}"


def layer_of(module: str) -> str:
    """A module's name up to its first number, "layers.3" of "layers.3.self_attn.q_proj"; the whole name without one."""
    found = re.match(r"(?:[^.]+\.)*?\d+(?=\.|$)", module)
    return found.group() if found else module


def layer_title(layer: str) -> str:
    """ "layers.3" -> "layer 3"; the name itself if it has no number."""
    found = re.search(r"\d+$", layer)
    return f"layer {found.group()}" if found else layer


def is_run(value: Any) -> bool:
    """Whether it is a run of `ma.train` or a loop that `ma.attach` recorded; a model has a configuration but no seed."""
    return hasattr(getattr(value, "config", None), "seed")


def check_given(runs: Sequence[Any], name: str = "runs") -> None:
    """Raise ValueError for a value that is not a list of runs."""
    if isinstance(runs, pd.DataFrame | str) or not isinstance(runs, Iterable) or not all(map(is_run, runs)):
        raise ValueError(
            f"{name} = {shorten(runs, 80)} is not a list of runs; pass `ma.Run.load(folder)` of each folder, "
            "or a campaign's table to `ma.studies.systems.measure_table`"
        )


def check_whole(runs: Sequence[Any], name: str = "runs") -> None:
    """Raise ValueError for a loop that `ma.attach` recorded, where more than its records is needed."""
    from ..training.recorders.attached_run import AttachedConfig

    for run in runs:
        if isinstance(run.config, AttachedConfig):
            raise ValueError(
                f"{name} holds {run!r}, a loop that ma.attach recorded: it has records, but no model, suite or test "
                "scores, which are needed here; pass runs of ma.train, or pass the loop to what reads records alone, "
                f"such as {', '.join(OF_RECORDS[:3])} (docs/pages/loop.md lists all)"
            )


def check_runs(runs: Sequence[Any]) -> None:
    """Raise ValueError for a value that is not a list of runs, for no run, and for two of the same method and seed."""
    check_given(runs)
    if len(runs) == 0:
        raise ValueError("runs is empty; pass the runs of at least one method")
    keys = [tuple(run_key(run).values()) for run in runs]
    if doubled := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(
            f"runs holds more than one run of {doubled[0][0]!r} with seed {doubled[0][1]}; "
            "give each configuration its own name, or pass only one of them"
        )


def shared(runs: Sequence[Any], name: str) -> Any:
    """A field of the configurations that is the same in all runs; ValueError if they differ, or without runs."""
    check_runs(runs)
    values = [getattr(run.config, name) for run in runs]
    if any(value != values[0] for value in values):
        found = ", ".join(dict.fromkeys(map(str, values)))
        raise ValueError(f"runs differ in {name}: {found}; measure those of one {name} at a time")
    return values[0]


def first_prompts(run: Any, prompts: int) -> pd.DataFrame:
    """The first test prompts of each data set that the run was trained on.

    Raises ValueError for `prompts` that is not a whole number of at least 1.

    >>> first_prompts(runs[0], 2)["dataset"].value_counts().unique().tolist()
    [2]
    """
    if isinstance(prompts, bool) or not isinstance(prompts, int | np.integer) or prompts < 1:
        raise ValueError(f"prompts = {prompts!r} is not a whole number of at least 1; pass one, such as prompts=5")
    test = load_suite(run.config.suite, split="test", datasets=run.config.datasets)
    return test.groupby("dataset").head(prompts).reset_index(drop=True)


def recorded(run: Any, kind: str) -> list[xr.DataArray]:
    """The run's arrays of a kind, such as "router_weight": one per router shape, (step, module, …), lazy.

    Raises ValueError if the run recorded none, and says whether its system or its training is the reason.
    """
    if run.config.system == "lora":
        raise ValueError(f"the run of {named(run)}, is of LoRA, which has no router; leave it out")
    records = run.records
    names = [str(name) for name in records.data_vars if str(name) == kind or str(name).startswith(f"{kind}_")]
    if not names and kind in ROUTER_KINDS:
        raise ValueError(
            f"the run of {named(run)}, has no {kind}: its routers are not one matrix each, with one row per expert, "
            f"like those of {', '.join(WITH_A_MATRIX)}; leave the run out, or see its gates with ma.papers."
            "routing_tokens([run])"
        )
    if not names:
        raise ValueError(
            f"the run of {named(run)}, has no {kind}, only {', '.join(map(str, records.data_vars)) or 'empty records'}; "
            "leave it out, or train it again with record_every >= 1"
        )
    return [records[name] for name in names]


def modules(run: Any, kind: str = "router_weight") -> list[str]:
    """Names of the modules whose `kind` the run recorded."""
    return [str(name) for array in recorded(run, kind) for name in array[array.dims[1]].values]


def shared_modules(runs: Sequence[Any]) -> list[str]:
    """Modules whose router every run recorded, in the first run's order.

    Raises ValueError if there is none.

    >>> len(shared_modules(runs)), shared_modules(runs)[0]
    (4, 'layers.2.self_attn.q_proj')
    """
    check_runs(runs)
    found = [modules(run) for run in runs]
    shared = [name for name in found[0] if all(name in names for names in found)]
    if not shared:
        raise ValueError("the runs share no module with a recorded router; train them with the same target_modules")
    return shared


def module_tensor(run: Any, module: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps (T,), router weights (T, experts, features)) of one module, loaded.

    Raises ValueError if the run did not record that module.
    """
    for array in recorded(run, "router_weight"):
        labels = array[array.dims[1]]
        if module in labels.values:
            chosen = array.isel({array.dims[1]: int(np.flatnonzero(labels.values == module)[0])})
            return array["step"].values, chosen.values
    raise ValueError(
        f"module = {module!r} has no router_weight in the run of {named(run)}; choose one of {', '.join(modules(run))}"
    )


def module_frame(run: Any, array: xr.DataArray, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Columns method, seed, step, module, layer and `columns`, each (steps, modules) as the first dimensions of `array`."""
    steps, modules = array["step"].values, [str(name) for name in array[array.dims[1]].values]
    return pd.DataFrame(
        {
            **run_key(run),
            "step": np.repeat(steps, len(modules)),
            "module": np.tile(modules, len(steps)),
            "layer": np.tile([layer_of(name) for name in modules], len(steps)),
            **{name: np.asarray(values, dtype=float).reshape(-1) for name, values in columns.items()},
        }
    )


def seed_bands(frame: pd.DataFrame, keys: Sequence[str], value: str = "value") -> pd.DataFrame:
    """Columns keys, mean, low, high, seeds: over the means of each seed; low and high are the lowest and highest seed.

    >>> frame = pd.DataFrame({"step": 0, "seed": [0, 0, 1], "value": [1.0, 3.0, 4.0]})
    >>> seed_bands(frame, ["step"]).values.tolist()
    [[0.0, 3.0, 2.0, 4.0, 2.0]]
    """
    seeds = frame.groupby([*keys, "seed"], sort=False)[value].mean().reset_index()
    grouped = seeds.groupby(list(keys), sort=False)[value]
    return grouped.agg(mean="mean", low="min", high="max", seeds="count").reset_index()


def check_by(by: str) -> None:
    """Raise ValueError unless bands can be drawn by this."""
    if by not in ("layer", "module"):
        raise ValueError(f'by = {by!r} is unknown; choose "layer" or "module"')


def blocks(array: xr.DataArray) -> Iterator[np.ndarray]:
    """The values (steps of one chunk, module, …) of a lazy array, chunk after chunk."""
    start = 0
    for size in array.chunks[0] if array.chunks else (array.sizes["step"],):
        yield array.isel(step=slice(start, start + size)).values
        start += size


def stride(array: xr.DataArray) -> int:
    """Training steps between two records; raises ValueError if they are not equally spaced."""
    gaps = np.unique(np.diff(array["step"].values))
    if len(gaps) != 1:
        raise ValueError(
            f"{array.name} has records {gaps.tolist()} steps apart; smoothness needs at least two records that are "
            "equally spaced: train with one value of record_every"
        )
    return int(gaps[0])


def gate_entropy(runs: Sequence[Any]) -> pd.DataFrame:
    """How evenly the routers spread a token over training: columns method, seed, step, entropy.

    entropy: of a token's gates, mean over the batch's tokens and over modules; 1 for equal gates, 0 for one expert.

    >>> entropy = gate_entropy(runs)
    >>> len(entropy), bool(entropy["entropy"].between(0, 1).all())
    (24, True)
    """
    check_runs(runs)
    frames = []
    for run in runs:
        arrays = recorded(run, "gate_entropy")
        entropy = np.concatenate([array.values for array in arrays], axis=1).mean(1)  # (T,)
        frames.append(pd.DataFrame({**run_key(run), "step": arrays[0]["step"].values, "entropy": entropy}))
    return pd.concat(frames, ignore_index=True)


def normalized_entropy(weights: np.ndarray) -> np.ndarray:
    """Entropy over the last axis of weights ≥ 0, divided by the log of its length: 1 for equal weights, 0 if one has all.

    NaN for an axis of length 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = weights / weights.sum(-1, keepdims=True)
        terms = np.where(share == 0, 0.0, share * np.log(share))
        return np.maximum(-terms.sum(-1), 0.0) / np.log(weights.shape[-1])
