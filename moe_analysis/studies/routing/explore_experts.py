"""Which experts a data set uses: controls for system, seed, layer, projection and pool of the shown router."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ...drawing.explorer import Explorer, View, choice
from .draw_experts import lift_grid, specialists_figure
from .measure import RoutingExperts

POOL = " pool "  # between a module's name and the number of its pool, as `split_routers` writes it
MOST_NAMES = 40  # experts; the numbers of more do not fit below a map
READABLE = 6.5  # size of these numbers in points
FIELDS = ("method", "seed", "layer", "projection")


def widget(
    found: RoutingExperts,
    method: str | None = None,
    seed: int | None = None,
    layer: int | None = None,
    projection: str | None = None,
) -> Explorer:
    """Lists of systems, seeds, layers, projections and pools, and the chosen router's experts and data sets.

    The arguments are the first values; None takes the first in the table. Raises ValueError for a value that is not in
    the table.
    """
    shares = found.shares
    routers = shares[["method", "seed", "module", "layer"]].drop_duplicates()
    routers = routers.assign(projection=routers["module"].map(projection_of), pool=routers["module"].map(pool_of))
    options = {name: list(dict.fromkeys(routers[name])) for name in FIELDS}
    first: dict[str, Any] = {
        name: options[name][0] if value is None else value
        for name, value in zip(FIELDS, (method, seed, layer, projection))
    }

    def draw(method: str, seed: int, layer: int, projection: str, pool: int) -> View:
        module = chosen_module(routers, method, seed, layer, projection, pool)
        shown = shares[(shares["module"] == module) & (shares["seed"] == seed) & (shares["method"] == method)]
        alt = (
            f"Heat map of experts and data sets for {method}, {module}, seed {seed}: how much more often than "
            "the average token a data set uses an expert."
        )
        figure, experts = specialists_figure(shown), lift_grid(shown).columns
        panel = figure.axes[0]
        if len(experts) <= MOST_NAMES:
            panel.set_xticks(range(len(experts)), experts, fontsize=READABLE)
        return View(figure, alt, specialist_note(shown))

    pools = sorted(set(routers["pool"]))
    controls = {
        "method": choice("method", "System", first["method"], options["method"], "The system whose experts are shown"),
        "seed": choice("seed", "Seed", first["seed"], options["seed"], "The run of the system"),
        "layer": choice("layer", "Layer", first["layer"], options["layer"], "The layer of the backbone"),
        "projection": choice(
            "projection", "Projection", first["projection"], options["projection"], "The adapted linear layer"
        ),
        "pool": choice("pool", "Pool", pools[0], pools, "The pool, for systems with several; the lowest is 0"),
    }
    return Explorer(controls, draw)


def projection_of(module: str) -> str:
    """ "layers.3.mlp.up_proj pool 1" -> "up_proj"."""
    return module.split(".")[-1].split(POOL)[0]


def pool_of(module: str) -> int:
    """ "layers.3.mlp.up_proj pool 1" -> 1; 0 for a module without pools."""
    return int(module.split(POOL)[1]) if POOL in module else 0


def chosen_module(routers: pd.DataFrame, method: str, seed: int, layer: int, projection: str, pool: int) -> str:
    """The router that the controls choose; ValueError if the system has no such layer, projection or pool."""
    asked = {"method": method, "seed": seed, "layer": layer, "projection": projection, "pool": pool}
    rows = routers[(routers[list(asked)] == pd.Series(asked)).all(axis=1)]
    if rows.empty:
        own = routers[routers["method"] == method]
        raise ValueError(
            f"{method} has no router of pool {pool} in layer {layer}, {projection}, at seed {seed}; "
            f"choose one of the pools {listed(own['pool'])}, the layers {listed(own['layer'])} and the "
            f"projections {listed(own['projection'])}"
        )
    return str(rows["module"].iloc[0])


def listed(values: pd.Series) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))


def specialist_note(shown: pd.DataFrame) -> str:
    """The router, and the three pairs of data set and expert with the highest lift."""
    top = shown.sort_values("log_lift", ascending=False, na_position="last").head(3)
    pairs = [
        f"{str(row['label']).replace('_', ' ')} uses expert {row['expert']} {2 ** row['log_lift']:.1f} times as "
        "often as the average token"
        for row in top.to_dict("records")
    ]
    return "\n".join([f"{shown['method'].iloc[0]}, {shown['module'].iloc[0]}", *pairs])
