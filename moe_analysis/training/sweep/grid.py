"""Grid files: many configurations written as one YAML file."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ..adapter_source import NOT_PART_OF_A_RUN
from ..config import TrainConfig, default_adapter
from ..files import as_hinted, plain

FIELDS = [entry.name for entry in fields(TrainConfig)]
NESTED = ("adapter", "optimizer_options")
SECTIONS = ("base", "grid", "list", "seeds", "slurm")
# YAML 1.1 requires a dot in a number with an exponent and would read 1e-3 as text
FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


def build(layers: Iterable[dict[str, Any]]) -> TrainConfig:
    """A TrainConfig of its defaults and of layers of changes, the later ones over the earlier ones.

    In a layer, whole values are set before dotted names change a part of them. Raises ValueError naming a field that
    does not exist or a value of a wrong type. A LORA adapter is one of a causal language model, as ours are.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in sorted(layer.items(), key=lambda item: "." in item[0]):
            top, dot, rest = name.partition(".")
            if dot:
                start = adapter_values(default_adapter()) if top == "adapter" else {}
                set_inside(values.setdefault(top, start), rest, value, name)
            else:
                values[top] = copy.deepcopy(value)
    if "adapter" in values and not isinstance(values["adapter"], dict):
        raise ValueError(f"adapter = {values['adapter']!r} is not a mapping; write one with a peft_type and its fields")
    if unread := sorted(set(values.get("adapter", {})).intersection(NOT_PART_OF_A_RUN)):
        raise ValueError(f"adapter.{unread[0]} is not a field that a run can choose, as PEFT fills it in; remove it")
    return TrainConfig.from_dict(as_hinted(values, TrainConfig))


def adapter_values(adapter: Any) -> dict[str, Any]:
    """What a default adapter sets, as a grid file would write it."""
    names = [entry.name for entry in fields(adapter) if entry.name not in NOT_PART_OF_A_RUN]
    return {name: plain(getattr(adapter, name)) for name in names}


def set_inside(values: Any, path: str, value: Any, name: str) -> None:
    """Set `values["a"]["b"] = value` for the path "a.b"."""
    *parents, last = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else values
    if not isinstance(values, dict):
        raise ValueError(f"{name} is inside {values!r}, which is not a mapping; set the whole value instead")
    values[last] = copy.deepcopy(value)


class GridError(ValueError):
    """A grid file that cannot be swept; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class Grid:
    """configs, in the order of the file, and the parameters for a cluster's queue."""

    configs: list[TrainConfig]
    slurm: dict[str, Any] = field(default_factory=dict)


class Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number and a key may not come twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise GridError(f"line {key.start_mark.line + 1}: {key.value} appears twice; keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def read_grid(path: str | Path) -> Grid:
    """Read a grid file and make every configuration of it.

    base: fields of a TrainConfig that all runs share; its adapter is a mapping with a peft_type. grid: field -> list of
    values, of which every combination is taken. list: mappings of changes, each combined with the whole grid. seeds:
    list of seeds, each for all of these. slurm: parameters of the cluster's queue. A field inside another has a dotted
    name, such as adapter.r; an adapter given as a mapping replaces the whole one before dotted names change it.
    Order: list, then the grid's fields as written, then seeds. Raises GridError before anything is trained.
    """
    path = Path(path)
    try:
        sections = yaml.load(path.read_text(encoding="utf-8"), Loader)  # a SafeLoader
        if not isinstance(sections, dict):
            raise GridError(f"is not a mapping; write sections from {', '.join(SECTIONS)}")
        return Grid(expand(sections), mapping_of(sections, "slurm"))
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(f"{path} cannot be read ({error}); pass a YAML file like the one in `sweep --help`") from error
    except yaml.YAMLError as error:
        raise GridError(
            f"{path} is not valid YAML: {error}; check the indents and the space after every colon"
        ) from error
    except GridError as error:
        raise GridError(f"{path}: {error}") from error


def expand(sections: dict[str, Any]) -> list[TrainConfig]:
    """The configurations that the sections of a grid file stand for; raises GridError naming the section and key."""
    if unknown := [name for name in sections if name not in SECTIONS]:
        raise GridError(f"section {unknown[0]!r} is unknown; use {', '.join(SECTIONS)} (fields of a run go below base)")
    base, runs = mapping_of(sections, "base"), list(combinations(sections))
    check_names(base, "base")
    configs: dict[str, TrainConfig] = {}
    first: dict[str, str] = {}
    for changes in runs:
        label = ", ".join(f"{name} = {value}" for name, value in changes.items()) or "base"
        try:
            config = build([base, changes])
            config.check()
        except ValueError as error:
            raise GridError(f"run {label}: {error}") from error
        if config.run_name in configs:
            raise GridError(f"run {label} is the same as run {first[config.run_name]}; remove one of them")
        configs[config.run_name], first[config.run_name] = config, label
    return list(configs.values())


def combinations(sections: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The changes of each run: an entry of the list, a point of the grid and a seed."""
    axes = mapping_of(sections, "grid")
    if "grid" in sections and not axes:
        raise GridError("grid is empty; give a field and its values, such as lr: [0.001, 0.005], or omit grid")
    check_names(axes, "grid")
    for name, values in axes.items():
        values_of(values, f"grid: {name}")
    entries = values_of(sections.get("list", [{}]), "list")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise GridError(f"list: entry {number} is {entry!r}; write a mapping of fields, such as {{lr: 0.001}}")
        check_names(entry, f"list: entry {number}")
        if both := sorted(set(entry) & set(axes)):
            raise GridError(f"{both[0]} is in grid and in list entry {number}; keep one of them")
    seeds: list[dict[str, Any]] = [{}]
    if "seeds" in sections:
        if any("seed" in changes for changes in [axes, *entries]):
            raise GridError("seed is in grid or list, and seeds is set too; keep one of them")
        seeds = [{"seed": seed} for seed in values_of(sections["seeds"], "seeds")]
    for entry, point, seed in product(entries, product(*axes.values()), seeds):
        yield copy.deepcopy({**entry, **dict(zip(axes, point)), **seed})


def check_names(names: Iterable[Any], where: str) -> None:
    """Raise GridError unless a TrainConfig can have fields of these names; an adapter's fields depend on its type."""
    for name in names:
        top, dot, rest = str(name).partition(".")
        if top not in FIELDS:
            known = ", ".join(FIELDS)
            raise GridError(f"{where}: {name} is not a field of a TrainConfig; it has {known}, and adapter.<field>")
        if dot and (top not in NESTED or not rest):
            raise GridError(f"{where}: {name} names a field inside {top}, which only {' and '.join(NESTED)} have")


def mapping_of(sections: dict[str, Any], name: str) -> dict[str, Any]:
    values = sections.get(name)
    if values is not None and not isinstance(values, dict):
        raise GridError(f"{name} = {values!r} is not a mapping; write a line `field: value` below it for every field")
    return values or {}


def values_of(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list):
        raise GridError(f"{where} = {values!r} is not a list; write [{values}]")
    if not values:
        raise GridError(f"{where} is an empty list; give a value or omit it")
    for place, value in enumerate(values):
        if value in values[:place]:
            raise GridError(f"{where} has {value!r} twice; remove one of them")
    return values
