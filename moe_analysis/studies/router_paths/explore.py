"""The layer and the training step of a router's path, with a play button: T-REX Fig. 2 while it happens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...drawing.explorer import Explorer, View, choice, slider, spaced
from ...drawing.style import FULL_WIDTH, figure, method_color, use_style
from ...extras import extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .measure import RouterPaths
    from .paths import PathAxes

FRAMES = 25  # of the whole path when it is played
INTERVAL = 600  # milliseconds a frame


def widget(found: RouterPaths) -> Explorer:
    """Layer, seed and step of the paths that were measured."""
    return trajectory_widget(found.runs, found.paths, found.axes)


def trajectory_widget(
    runs: Sequence[Any], paths: pd.DataFrame, axes: PathAxes, step: int | None = None, seed: int | None = None
) -> Explorer:
    """A list of layers, a list of seeds, a slider and a play button for the step, and the paths up to that step.

    In: the runs; what `router_paths` and `path_axes` returned for the layer shown first. Another layer is read from the
    runs when it is chosen, which takes a moment once. step: where the paths end at first (None: at their end).
    Raises ValueError for paths without two records, an unknown seed, or a step outside them.
    """
    with extra("notebooks"):
        import ipywidgets

    from ..records import shared_modules
    from .paths import path_axes, router_paths

    steps = sorted(int(value) for value in paths["step"].unique())
    if len(steps) < 2:
        raise ValueError(f"paths holds the steps {steps}; a path needs two records: train longer, or record more often")
    seeds = list(dict.fromkeys(paths["seed"]))

    @lru_cache(maxsize=8)
    def of_module(module: str) -> tuple[pd.DataFrame, PathAxes]:
        if module == axes.module:
            return paths, axes
        own = path_axes(runs, module)
        return router_paths(runs, module, own), own

    def draw(module: str, seed: int, step: int) -> View:
        from .draw import of_seed

        lines, own = of_module(module)
        shown = of_seed(lines, seed)
        alt = (
            f"Paths of the router weights of {module} from their start to step {step}, seed {seed}, in three "
            f"dimensions, one panel each for {', '.join(dict.fromkeys(shown['method']))}."
        )
        return View(path_figure(shown, own, step), alt, path_note(shown, step))

    frame = max(1, round((steps[-1] - steps[1]) / FRAMES))
    controls = {
        "module": choice("axes.module", "Layer", axes.module, shared_modules(runs), "The layer whose router is drawn"),
        "seed": choice("seed", "Seed", seeds[0] if seed is None else seed, seeds, "The run of every method"),
        "step": slider(
            "step",
            "Training step",
            steps[-1] if step is None else step,
            steps[1],
            steps[-1],
            "Paths are drawn from the start to this step",
        ),
    }
    play = ipywidgets.Play(
        value=controls["step"].value,
        min=steps[1],
        max=steps[-1],
        step=frame,
        interval=INTERVAL,
        tooltip="Play the training from this step on",
        layout=spaced("max-content"),
    )
    explorer = Explorer(controls, draw, beside={"step": play})
    # linked in the page: a kernel that draws slowly then skips frames instead of falling behind
    explorer.link = ipywidgets.jslink((play, "value"), (controls["step"], "value"))
    return explorer


def path_figure(paths: pd.DataFrame, axes: PathAxes, step: int) -> Figure:
    """A panel per method with the paths of one seed up to a step, on the scale and in the colors of whole paths."""
    from .draw import axis_labels, common_limits, draw_paths, dress_panel, power_of_ten

    until, methods = paths[paths["step"] <= step], list(dict.fromkeys(paths["method"]))
    limits, exponent = common_limits(paths), power_of_ten(paths)
    with use_style():
        drawing = figure(FULL_WIDTH, 2.5)
        # placed by hand: automatic layout leaves half of the width empty around panels in three dimensions
        drawing.set_layout_engine("none")
        width = 0.92 / len(methods)
        for number, method in enumerate(methods):
            panel = drawing.add_axes((number * width - 0.02, 0.0, width, 1.0), projection="3d")
            lines = draw_paths(panel, until[until["method"] == method], paths["step"].max())
            dress_panel(panel, limits, axis_labels(axes, exponent), exponent)
            panel.set_title(method, color=method_color(method), loc="center", fontweight="bold", y=0.94)
        bar = drawing.colorbar(lines, cax=drawing.add_axes((0.945, 0.24, 0.011, 0.48)))
        bar.ax.set_title("step", fontsize=7, loc="center")
    return drawing


def path_note(paths: pd.DataFrame, step: int) -> str:
    """Step, and for each method how far its experts are from their start, and the training loss there."""
    last = paths.loc[paths["step"] <= step, "step"].max()
    now = paths[paths["step"] == last].groupby("method", sort=False)[["distance", "loss"]].mean()
    parts = [f"{row.Index}: {row.distance:.3g} from the start, loss {row.loss:.3f}" for row in now.itertuples()]
    return "\n".join(
        [
            f"Record at step {last} of {paths['step'].max()}; distances are means over the experts, in the "
            "space of all weights of an expert's row",
            *parts,
        ]
    )
