"""Which final runs of a table count: those of the configuration that the tuning chose, even if the grid grew later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from ..places import shipped
from .campaign import FINAL, MEASURES, TUNE

ALWAYS_DIFFER = ("seed", "name")  # of two runs of one system


def declared_choice(study: str) -> str:
    """What the shipped campaign of a study chooses its cells by; "accuracy" for a study that has none or tunes nothing.

    >>> declared_choice("compact"), declared_choice("optimizers"), declared_choice("one of mine")
    ('accuracy', 'loss', 'accuracy')
    """
    file = shipped("campaigns") / f"{study}.yaml"
    tune = yaml.safe_load(file.read_text(encoding="utf-8")).get("tune") if file.is_file() else None
    return str((tune or {}).get("choose_by", "accuracy"))


def chosen_finals(runs: pd.DataFrame, choose_by: str = "accuracy") -> tuple[pd.DataFrame, list[str]]:
    """The runs of a table without final runs of configurations that its tuning did not choose.

    A campaign whose grid grew may choose another cell than before; what it trained at the former one is left out and
    named, never pooled. A system without tuning runs keeps all of its final runs.

    Args:
        runs: one row per run: stage, system, configuration, config (a dictionary or JSON), accuracy, accuracy_norm
            and loss.
        choose_by: what the campaign chose by, one of MEASURES; of equal cells the one with the lower loss.

    Returns:
        The runs that count, in their order, and a sentence for each configuration that does not; one for all of them
        where there are more than two.

    Raises:
        ValueError: choose_by is another.

    >>> from moe_analysis.campaigns.results import result_runs
    >>> runs = result_runs(results_file)
    >>> kept, left_out = chosen_finals(runs)
    >>> len(kept) == len(runs), left_out
    (True, [])
    """
    if choose_by not in MEASURES:
        raise ValueError(f"choose_by = {choose_by!r} is unknown; choose one of {', '.join(MEASURES)}")
    stale, told, whose = pd.Series(False, runs.index), [], []
    for system, own in runs.groupby("system", sort=False):
        tune, final = (own[own["stage"] == stage] for stage in (TUNE, FINAL))
        if tune.empty or final.empty:
            continue
        best = best_configuration(tune, choose_by, final)
        chosen = config_of(tune.loc[tune["configuration"] == best, "config"].iloc[0])
        axes = tuned_axes(tune, final)
        for _, rows in final.groupby("configuration", sort=False):
            config = config_of(rows["config"].iloc[0])
            if other := [axis for axis in axes if config.get(axis) != chosen.get(axis)]:
                stale[rows.index] = True
                whose.append(str(system))
                told.append(
                    f"{len(rows)} final run{'s' * (len(rows) != 1)} of {system} at {values(config, other)} left out: "
                    f"the tuning chose {values(chosen, other)}"
                )
    if len(told) > 2:
        names = ", ".join(dict.fromkeys(whose))
        told = [f"{stale.sum()} final runs of configurations that the tuning did not choose left out (of {names})"]
    return runs[~stale], told


def best_configuration(tune: pd.DataFrame, choose_by: str, final: pd.DataFrame | None = None) -> str:
    """The digest of the best of one system's cells; a loss that is not a number is the worst.

    Of equal cells (LoRA has no router, so it is the same at every rate of one) it is the one of the final runs, which the
    campaign took because its grid lists it first; without final runs, the one that the table has first.

    Args:
        tune: one row per tuning run: configuration, MEASURES, and config if there is `final`.
        choose_by: one of MEASURES.
        final: one row per final run: config.
    """
    means = tune.groupby("configuration", sort=False)[list(MEASURES)].mean()
    order = means.assign(first=means["loss"] if choose_by == "loss" else -means[choose_by])[["first", "loss"]]
    ordered = order.fillna(float("inf")).sort_values(["first", "loss"])
    equal = [str(digest) for digest in ordered.index[(ordered == ordered.iloc[0]).all(axis=1)]]
    if final is None or len(equal) == 1:
        return equal[0]
    axes = tuned_axes(tune, final)
    cells = dict(zip(tune["configuration"], map(config_of, tune["config"])))
    trained = [config_of(one) for one in final["config"]]
    return next((one for one in equal if any(same(cells[one], config, axes) for config in trained)), equal[0])


def same(config: Mapping[str, Any], other: Mapping[str, Any], axes: list[str]) -> bool:
    return all(config.get(axis) == other.get(axis) for axis in axes)


def tuned_axes(tune: pd.DataFrame, final: pd.DataFrame) -> list[str]:
    """The fields that the tuning varied and that a final run takes from it: not those in which whole stages differ."""
    tried, trained = ([config_of(one) for one in rows["config"]] for rows in (tune, final))
    found = []
    for name in tried[0]:
        there = {json.dumps(config.get(name), sort_keys=True) for config in tried}
        taken = {json.dumps(config.get(name), sort_keys=True) for config in trained}
        if name not in ALWAYS_DIFFER and len(there) > 1 and there & taken:
            found.append(name)
    return found


def config_of(value: Any) -> Mapping[str, Any]:
    return json.loads(value) if isinstance(value, str) else value


def values(config: Mapping[str, Any], names: list[str]) -> str:
    """ "lr = 0.01, router_lr = 0.001"."""
    found = {name: config.get(name) for name in names}
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in found.items()
    )
