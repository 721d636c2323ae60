"""T-REX Fig. 2 as an animation that can be rotated: the paths of a layer's router, step by step, with a play button."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
import pandas as pd

from ...drawing.explorer import alert, choice, noted, slider, spaced
from ...drawing.page_width import Width, wide_figure
from ...extras import extra
from ..records import shared_modules
from .draw import HIGHLIGHTED, axis_labels, common_limits, of_seed
from .draw_traces import path_trace
from .measure import RouterPaths
from .paths import PathAxes, path_axes, path_bundles, router_paths, ways_taken

with extra("notebooks"):
    import ipywidgets

FRAMES = 50  # of the whole path when it is played, and the most points of a thick line, without its ends
THIN = 3  # a thin line has every third of these points, because points are most of the cost of a frame
TICKS = 4  # of an axis, because labels are most of the cost in a browser without a graphics card
INTERVAL = 80  # milliseconds per frame
HEIGHT = 440  # CSS pixels
EYE = {"x": 1.5, "y": -1.5, "z": 1.0}  # far enough that a phone shows the whole cube


def widget(found: RouterPaths, step: int | None = None, seed: int | None = None) -> PathExplorer:
    """Layer, seed and step of the measured paths; `step` and `seed` are the first values."""
    return PathExplorer(found.runs, found.paths, found.axes, step, seed)


class PathExplorer(ipywidgets.VBox):
    """A list of layers, a list of seeds, a slider and a play button for the step, and the paths up to that step.

    The figure rotates, zooms and shows numbers like any plotly figure; the view is kept while the step moves. The parts
    are `controls`, `figure`, `note` and `message`.

    Args:
        runs: the runs; another layer is read from them when it is chosen, which takes a moment the first time.
        paths, axes: what `router_paths` and `path_axes` returned for the first layer.
        step: the step at which the paths end at first; None is their end.
        seed: the seed that is shown first; None is the first one.

    Raises:
        ValueError: for paths without two records, an unknown seed, or a step outside them.
    """

    def __init__(
        self, runs: Sequence[Any], paths: pd.DataFrame, axes: PathAxes, step: int | None = None, seed: int | None = None
    ) -> None:
        steps = sorted(int(value) for value in paths["step"].unique())
        if len(steps) < 2:
            raise ValueError(
                f"paths has the steps {steps}, but a path needs two records; train longer, or record more often"
            )

        @lru_cache(maxsize=8)
        def of_module(module: str) -> tuple[pd.DataFrame, PathAxes]:
            if module == axes.module:
                return paths, axes
            own = path_axes(runs, module)
            return router_paths(runs, module, own), own

        seeds = list(dict.fromkeys(paths["seed"]))
        self.of_module = of_module
        self.controls = {
            "module": choice(
                "axes.module", "Layer", axes.module, shared_modules(runs), "The layer whose router is drawn"
            ),
            "seed": choice("seed", "Seed", seeds[0] if seed is None else seed, seeds, "The run of every method"),
            "step": slider(
                "step",
                "Training step",
                steps[-1] if step is None else step,
                steps[1],
                steps[-1],
                "Paths are drawn from the start to this step",
                live=True,
            ),
        }
        play = ipywidgets.Play(
            value=self.controls["step"].value,
            min=steps[1],
            max=steps[-1],
            step=max(1, round((steps[-1] - steps[1]) / FRAMES)),
            interval=INTERVAL,
            tooltip="Play the training from this step on",
            layout=spaced("max-content"),
        )
        # linked in the browser, so that a slow kernel skips frames instead of falling behind
        self.link = ipywidgets.jslink((play, "value"), (self.controls["step"], "value"))
        self.drawing = RLock()  # newer kernels use several threads, and without a lock an older step could come last
        self.message, self.note = (ipywidgets.HTML(layout={"width": "auto"}) for _ in range(2))
        self.figure = turning_figure()
        self._show_paths()
        module, seed_list, step_slider = self.controls.values()
        row = ipywidgets.HBox(
            [module, seed_list, play, step_slider], layout={"flex_flow": "row wrap", "align_items": "center"}
        )
        super().__init__([row, self.message, self.figure, self.note, Width()])
        module.observe(self._changed, "value")
        seed_list.observe(self._changed, "value")
        step_slider.observe(self._stepped, "value")

    def _changed(self, _: Any) -> None:
        with self.drawing:
            try:
                self._show_paths()
            except ValueError as error:  # a setting that the package refuses, with the reason and the remedy
                self.message.value = alert(str(error))
            else:
                self.message.value = ""

    def _show_paths(self) -> None:
        """Draw the paths of the chosen layer and seed."""
        lines, axes = self.of_module(self.controls["module"].value)
        self.paths = of_seed(lines, self.controls["seed"].value)
        self.traces = traces_of(thinned(self.paths, FRAMES))
        with self.figure.batch_update():
            self.figure.data = []
            self.figure.add_traces([trace for trace, _ in self.traces])
            for name, span, label in zip("xyz", common_limits(self.paths), axis_labels(axes)):
                self.figure.layout.scene[f"{name}axis"].update(
                    range=[float(end) for end in span], title={"text": label}
                )
            self.figure.layout.title.text = f"Router weights during training, {axes.module}"
        self._stepped(None)

    def _stepped(self, _: Any) -> None:
        """Cut the paths at the step: the same traces and view, with new ends."""
        with self.drawing:
            step = self.controls["step"].value
            with self.figure.batch_update():
                for shown, (whole, steps) in zip(self.figure.data, self.traces):
                    for name in "xyz":
                        shown[name] = np.where(steps <= step, whole[name], np.nan)
            self.note.value = noted(path_note(self.paths, step))


def turning_figure() -> Any:
    """An empty scene that keeps its view when its lines change."""
    figure = wide_figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 0, "r": 0, "b": 0, "t": 30},
        template="plotly_white",
        title={"font": {"size": 13}, "x": 0, "xanchor": "left", "y": 0.99, "yanchor": "top"},
        modebar={"orientation": "v"},
        scene={
            "aspectmode": "cube",
            "uirevision": "kept",
            "camera": {"eye": EYE},
            **{f"{name}axis": {"nticks": TICKS, "showspikes": False} for name in "xyz"},
        },
        legend={"orientation": "h", "y": 0, "groupclick": "togglegroup"},
    )
    return figure


def thinned(paths: pd.DataFrame, frames: int) -> pd.DataFrame:
    """The paths at `frames` equally spaced records, including the start and the end, or at all records."""
    steps = np.sort(paths["step"].unique())
    kept = np.linspace(0, len(steps) - 1, min(frames + 1, len(steps))).round().astype(int)
    return paths[paths["step"].isin(steps[kept])]


def traces_of(paths: pd.DataFrame) -> list[tuple[Any, np.ndarray]]:
    """The traces of one seed, and the training step of every point of each trace.

    Experts of lowest rank are thick lines. Other experts that share a path are one thin line.
    """
    found = []
    for (method, seed), run in paths.groupby(["method", "seed"], sort=False):
        bundles = path_bundles(run)
        ways, leads = ways_taken(bundles)[str(method)], run["rank"] <= HIGHLIGHTED
        others = run[~leads & run["expert"].isin(bundles["expert"])]
        for leading, lines in ((True, run[leads]), (False, thinned(others, FRAMES // THIN))):
            if len(lines):
                trace = path_trace(lines, str(method), seed, ways, leading, visible=True)
                trace.customdata = np.nan_to_num(trace.customdata)  # tables in messages to the page cannot contain NaN
                found.append((trace, trace.customdata[:, 1]))
    return found


def path_note(paths: pd.DataFrame, step: int) -> str:
    """The step, and for each method the distance of its experts from their start and the training loss."""
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
