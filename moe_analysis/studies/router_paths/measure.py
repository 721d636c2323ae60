"""From runs to the result of T-REX Fig. 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...evidence.intervals import method_summary, paired_differences
from ...tasks import baselines, load_suite, task_roles
from ..asked import Runs, asked
from ..chosen_module import meant
from ..convergence import MEASURES as CONVERGENCE
from ..convergence import accuracy_by_dataset, accuracy_by_role, convergence, loss_bands, loss_curves
from ..records import check_runs, gate_entropy, shared_modules
from ..result import Result
from .paths import PathAxes, distinct_experts, moving_module, path_axes, router_paths
from .smoothness import MEASURES, METHOD, OTHERS, gradient_noise, smoothness

REFERENCES = ("momentum_tortuosity", "momentum_angle", "walk_tortuosity")
NOISE = ("gradient_norm", "successive_cosine", "noise_share")


@dataclass(frozen=True, eq=False)
class RouterPaths(Result):
    """The paths of the routers of one module, and how smooth paths are in all modules.

    Args:
        module: the layer that is drawn.
        axes: the three directions of the drawing.
        paths: one row per method, seed, expert and step, as `router_paths` returns it.
        smooth: one row per method, seed and module, as `smoothness` returns it.
        converged: one row per method and seed, as `convergence` returns it.
        bands: the smoothed losses, as `loss_bands` returns them.
        distinct: how many different paths the experts took.
        noise: gradients at successive records, as `gradient_noise` returns it.
        entropy: of the gates over training.
        accuracy: by role of the data set, one row per method and seed.
        by_dataset: accuracy, with that of guessing.
    """

    item = "trex_fig2"
    title = "T-REX Fig. 2: paths of the router weights"
    question = "Does intuition make the path of the router's weights smoother?"
    how_to_read = (
        "Each line is one expert's row of a router, relative to its start, on axes that all methods share: three axes "
        "at the top, the first two of them below. Thick lines are three experts that end far from each other, a ring is "
        "the start, dots are ends; ×8 marks a path that eight experts share. At the bottom, dots are seeds, bars are "
        "95 % intervals over seeds, and dashes show what pure noise with momentum would give."
    )
    how_to_explore = (
        "Each line is one expert's row of a router, relative to its start, on three axes that all methods share; the "
        "menu chooses the seed. Thick lines are experts that end far from each other; ×8 marks the end of a path "
        "that eight experts share. Point at a line for its step and loss."
    )

    module: str
    axes: PathAxes
    paths: pd.DataFrame
    smooth: pd.DataFrame
    converged: pd.DataFrame
    bands: pd.DataFrame
    distinct: pd.DataFrame
    noise: pd.DataFrame
    entropy: pd.DataFrame
    accuracy: pd.DataFrame
    by_dataset: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """In the order in which they are drawn."""
        return list(dict.fromkeys(self.paths["method"]))

    @property
    def smoothness(self) -> pd.DataFrame:
        """Means over seeds with their 95 % intervals, one row per measure and method."""
        return method_summary(self.smooth, MEASURES)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "module": self.module,
            "axes": self.axes.by_method,
            "distinct": self.distinct,
            "smoothness": self.smoothness,
            "differences": paired_differences(self.smooth, MEASURES, METHOD, OTHERS),
            "references": method_summary(self.smooth, REFERENCES),
            "gradient_noise": method_summary(self.noise, NOISE),
            "convergence": self.converged,
            "convergence_summary": method_summary(self.converged, CONVERGENCE),
            "accuracy": self.accuracy,
            "accuracy_by_dataset": self.by_dataset.reset_index(),
        }


@asked()
def measure(runs: Runs, module: int | str | None = None) -> RouterPaths:
    """Measure the paths of recorded routers.

    Args:
        runs: of one backbone and suite, with recorded routers; usually LoRA-MoE, mix-and-match and T-REX at the same
            seeds.
        module: the layer to draw, by its number, a name or a part of a name. If several match, or if it is None, the
            one whose routers move furthest is drawn.

    Raises:
        ValueError: for runs without records, without a common recorded module, or of several suites, and for a module
            that they did not record.

    Example:
        >>> found = measure(runs)
        >>> found.methods, len(found.paths) > 0
        (['LoRA-MoE', 'mix-and-match', 'T-REX'], True)
    """
    check_runs(runs)
    suites = {run.config.suite for run in runs}
    if len(suites) > 1:
        raise ValueError(f"runs are of the suites {', '.join(map(str, suites))}; measure those of one suite at a time")
    suite = suites.pop()
    modules = shared_modules(runs)
    module = moving_module(runs, modules if module is None else meant(modules, module))
    axes = path_axes(runs, module)
    curves = loss_curves(runs)
    return RouterPaths(
        module=module,
        axes=axes,
        paths=router_paths(runs, module, axes),
        smooth=smoothness(runs),
        converged=convergence(curves),
        bands=loss_bands(curves),
        distinct=distinct_experts(runs),
        noise=gradient_noise(runs),
        entropy=gate_entropy(runs),
        accuracy=accuracy_by_role(runs, task_roles(suite, runs[0].evaluation)),
        by_dataset=accuracy_by_dataset(runs, baselines(load_suite(suite))),
        runs=tuple(runs),
    )
