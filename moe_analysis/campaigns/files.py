"""Campaign files: a long study as one page of YAML, and the systems that it names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ..comparison import LABELS, fitted, lora_budget, meta_backbone
from ..presets import recipes
from ..tasks.file_names import check_file_name
from ..theory.budget import TOLERANCE
from ..training.config import TrainConfig
from ..training.files import wrong_type
from ..training.sweep.grid import GridError, Loader, check_names, values_of
from .campaign import LR_MULTIPLIER, MEASURES, ROUTER_MULTIPLIER, Campaign, CampaignError, Endpoints, Final, Tuning
from .endpoints import check_endpoints
from .table import Row

OWN_SECTIONS = ("study", "comparison", "recipes", "systems", "tune", "final", "endpoints")  # which no grid file has
SET_BY_STAGE = ("seed", "name", "holdout_rows")


@dataclass(frozen=True)
class File:
    """The sections of a campaign file."""

    study: str
    final: dict
    endpoints: dict
    about: str = ""
    base: dict = field(default_factory=dict)
    comparison: dict | None = None
    recipes: list[str] = field(default_factory=list)
    systems: dict = field(default_factory=dict)
    tune: dict | None = None
    slurm: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The section `comparison`: systems of `moe_analysis.comparison` by label, all with as many trainable parameters
    (None: as LoRA at the reference rank)."""

    systems: list[str] = field(default_factory=lambda: list(LABELS))
    trainable: int | None = None
    targets: list[str] | None = None
    tolerance: float = TOLERANCE


def is_campaign(path: str | Path) -> bool:
    """Whether a YAML file is meant as a campaign and not as a grid; False for one that cannot be read."""
    try:
        sections = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError, GridError):
        return False
    return isinstance(sections, dict) and any(name in sections for name in OWN_SECTIONS)


def read_campaign(path: str | Path, rows: Iterable[Row] = ()) -> Campaign:
    """Read a campaign file, make every configuration that may come of it, and refuse what cannot be run.

    study: the name of its table. about: a sentence. base: fields of a TrainConfig that all runs share. Systems, in the
    order given: comparison (systems of `comparison.systems` at one budget: systems, trainable, targets, tolerance),
    recipes (methods of `presets.recipes` by label), systems (label -> fields). tune: the fields of `Tuning`; final: of
    `Final`; endpoints: of `Endpoints`. slurm: parameters of the cluster's queue.

    Args:
        path: of the YAML file.
        rows: of the campaign's table, which stand for a suite that is not here when only the table is read.

    Raises:
        CampaignError: Naming the file, the key, the value and the remedy.
    """
    path = Path(path)
    try:
        sections = yaml.load(path.read_text(encoding="utf-8"), Loader)  # a SafeLoader
        return campaign_of(sections, rows)
    except (OSError, UnicodeDecodeError) as error:
        raise CampaignError(f"{path} cannot be read ({error}); pass a YAML file like campaigns/compact.yaml") from error
    except yaml.YAMLError as error:
        raise CampaignError(
            f"{path} is not valid YAML: {error}; check the indents and the space after every colon"
        ) from error
    except ValueError as error:  # of the campaign, its grid or its suite
        raise CampaignError(f"{path}: {error}") from error


def campaign_of(sections: Any, rows: Iterable[Row] = ()) -> Campaign:
    file = section(File, sections, "")
    try:
        check_file_name("study", file.study)
    except ValueError as error:
        raise CampaignError(str(error)) from error
    check_fields(file.base, "base")
    final = section(Final, file.final, "final")
    values_of(final.seeds, "final: seeds")
    check_fields(final.changes, "final: changes")
    campaign = Campaign(
        file.study,
        systems_of(file),
        file.base,
        tuning_of(file.tune, final.seeds),
        final,
        section(Endpoints, file.endpoints, "endpoints"),
        file.slurm,
    )
    campaign.check()
    check_endpoints(campaign, rows)
    return campaign


def section(kind: type, values: Any, name: str) -> Any:
    """The dataclass of a section; raises CampaignError for an unknown or missing key or a value of a wrong type."""
    place, known = f"{name}: " if name else "", get_type_hints(kind)
    if not isinstance(values, dict):
        raise CampaignError(f"{name or 'the file'} = {values!r:.100} is not a mapping; use the keys {', '.join(known)}")
    if unknown := [key for key in values if key not in known]:
        raise CampaignError(f"{place}{unknown[0]} is unknown; use {', '.join(known)}")
    if fault := wrong_type(values, known, place):
        raise CampaignError(f"{fault}; correct it")
    try:
        return kind(**values)
    except TypeError as error:  # of a key that has no default
        missing = [key for key in known if key not in values and f"'{key}'" in str(error)]
        raise CampaignError(f"{place}{', '.join(missing)} is missing; add it") from error


def check_fields(values: Mapping[str, Any], where: str) -> None:
    """Raise CampaignError for a name that no TrainConfig has, or that the campaign sets itself."""
    check_names(values, where)
    if taken := [name for name in values if name in SET_BY_STAGE]:
        raise CampaignError(
            f"{where}: {taken[0]} is set by the campaign itself; remove it, and use seeds, labels "
            "and tune: holdout_rows"
        )


def tuning_of(values: dict | None, final_seeds: list[int]) -> Tuning | None:
    if values is None:
        return None
    tune = section(Tuning, values, "tune")
    if not tune.grid:
        raise CampaignError("tune: grid is empty; give an axis and its values, such as lr: [1e-3, 3e-3], or omit tune")
    for axis, choices in tune.grid.items():
        values_of(choices, f"tune: grid: {axis}")
        if axis not in (LR_MULTIPLIER, ROUTER_MULTIPLIER):
            check_fields({axis: None}, "tune: grid")
    check_rates(tune.grid)
    values_of(tune.seeds, "tune: seeds")
    if shared := sorted(set(tune.seeds) & set(final_seeds)):
        raise CampaignError(
            f"tune: seeds has {shared[0]}, which is also in final; use different seeds for tuning and testing"
        )
    if tune.holdout_rows < 1:
        raise CampaignError(
            f"tune: holdout_rows = {tune.holdout_rows} must be at least 1, because tuning may not use test rows"
        )
    check_fields(tune.changes, "tune: changes")
    if tune.choose_by not in MEASURES:
        raise CampaignError(f"tune: choose_by = {tune.choose_by!r} is unknown; choose one of {', '.join(MEASURES)}")
    return tune


def check_rates(grid: Mapping[str, list[Any]]) -> None:
    for name in ("lr", LR_MULTIPLIER, ROUTER_MULTIPLIER):
        for value in grid.get(name, []):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise CampaignError(f"tune: grid: {name} has {value!r}; write positive numbers")
    if "lr" in grid and LR_MULTIPLIER in grid:
        raise CampaignError(f"tune: grid: lr and {LR_MULTIPLIER} set the same rate; keep one of them")
    if ROUTER_MULTIPLIER in grid and "router_lr" in grid:
        raise CampaignError(f"tune: grid: router_lr and {ROUTER_MULTIPLIER} set the same rate; keep one of them")
    if ROUTER_MULTIPLIER in grid and not {"lr", LR_MULTIPLIER} & grid.keys():
        raise CampaignError(f"tune: grid: {ROUTER_MULTIPLIER} is a multiple of lr; give lr or {LR_MULTIPLIER} too")


def systems_of(file: File) -> dict[str, dict[str, Any]]:
    """label -> fields, as written out in a file, of everything that the three sections of systems name."""
    found: dict[str, dict[str, Any]] = {}
    if file.comparison is not None:
        found |= compared(section(Comparison, file.comparison, "comparison"), file.base)
    known = recipes() if file.recipes else {}
    for label in file.recipes:
        if label not in known:
            raise CampaignError(f"recipes: {label!r} is not a recipe; choose from {', '.join(known)}")
        add(found, label, plain_fields(known[label]), "recipes")
    for label, fields in file.systems.items():
        if not isinstance(fields, dict):
            raise CampaignError(
                f"systems: {label} = {fields!r} is not a mapping; write fields of a TrainConfig below it"
            )
        check_fields(fields, f"systems: {label}")
        add(found, str(label), fields, "systems")
    if not found:
        raise CampaignError("no system is given; fill in one of comparison, recipes and systems")
    for label in found:
        try:
            check_file_name("label", label)
        except ValueError as error:
            raise CampaignError(f"systems: {error}") from error
    return found


def compared(wanted: Comparison, base: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Systems at one budget on the backbone of the base."""
    values_of(wanted.systems, "comparison: systems")
    try:
        model = meta_backbone(str(base.get("backbone", "compact")))
        budget = wanted.trainable
        if budget is None:
            budget = lora_budget(targets=wanted.targets, backbone=model)
        return {
            label: plain_fields({"adapter": fitted(label, budget, wanted.targets, model, wanted.tolerance)})
            for label in wanted.systems
        }
    except ValueError as error:
        raise CampaignError(f"comparison: {error}") from error


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a TrainConfig with the adapter as a file would write it."""
    adapter = TrainConfig(adapter=fields["adapter"]).to_dict()["adapter"]
    return {**fields, "adapter": adapter}


def add(found: dict[str, dict[str, Any]], label: str, fields: dict[str, Any], where: str) -> None:
    if label in found:
        raise CampaignError(f"{where}: {label} appears twice; give one of them another label")
    found[label] = fields
