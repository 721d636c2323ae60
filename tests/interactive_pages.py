"""Interactive pages of little data, for tests in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from moe_analysis.drawing.save import save

from .studies.fake_runs import MODULES, fake_run, walk

FIGURES = Path(__file__).parents[1] / "figures"
PROMPT = "Which prompt stands under the pointer? Number"


def save_pages(folder: Path) -> Path:
    """Write three interactive pages into a folder."""
    for item, figure in {"trex_fig2": trajectories(), "trex_fig4": semantic_map(), "smore_tree": tree()}.items():
        save(item, None, figure, {}, folder=folder)
    return folder


def stored(item: str) -> dict:
    return json.loads((FIGURES / f"{item}.json").read_text("utf-8"))


def trajectories():
    """Random walks in place of trained routers: their picture must turn all the same."""
    from moe_analysis.studies.router_paths.draw import trajectory_explorer
    from moe_analysis.studies.router_paths.paths import path_axes, router_paths

    rng = np.random.default_rng(0)
    runs = [fake_run(walk(rng, 8, 8, 16, drift=1.0), method, 0) for method in ("LoRA-MoE", "T-REX")]
    axes = path_axes(runs, MODULES[0])
    return trajectory_explorer(router_paths(runs, MODULES[0], axes), axes)


def semantic_map():
    from moe_analysis.studies.semantic_map.draw_interactive import interactive

    numbers = stored("trex_fig4")["numbers"]
    points = pd.DataFrame(numbers["points"]).head(200)
    prompts = [f"{PROMPT} {row}{' <b>zebra</b>' * (row in (3, 40))}" for row in points.index]
    names = pd.DataFrame(numbers["names"])
    return interactive(SimpleNamespace(points=points.assign(prompt=prompts), names=names, own=None))


def tree():
    from moe_analysis.studies.trees.draw_tree import interactive

    numbers = stored("smore_tree")["numbers"]
    tree = pd.DataFrame(numbers["tree"]).assign(token=0, word="tables", seed=0)
    return interactive(SimpleNamespace(shown=tree, trees=tree, place=numbers["title"]))
