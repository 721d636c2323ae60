"""From a trained run to the result of gR Fig. 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...peft_bridge import adapter_modules
from ...training.recorders.routing import LayerBatch, layer_batches
from ..asked import Runs, asked, listed
from ..chosen_module import meant
from ..one_thread import one_thread
from ..records import check_runs, first_prompts, named
from ..result import Result
from .geometry import GATES, LocalPicture, curvature, first_order_change, local_picture, over_layers

LAYERS = 2
PROJECTIONS = ("q_proj", "v_proj")
MIN_GATES = 3  # a line through two points always fits exactly


@dataclass(frozen=True, eq=False)
class GateGeometry(Result):
    """One step of the experts of trained layers at several gates.

    Args:
        module: the layer whose step is drawn.
        picture: the plane of one step, as `local_picture` returns it.
        changes: the change of an expert's part of the full matrix by a step, as `first_order_change` returns it, by
            module.
        curvature: how the manifold bends, as `curvature` returns it, by module.
        layers: {module: LayerBatch} of the layers that were measured.
    """

    item = "gr_fig1"
    title = "gR Fig. 1: the manifold of a gated expert"
    question = "How far does one step move an expert with a small gate, and how much does its manifold bend?"
    how_to_read = (
        "With constant gates over a batch, an expert adds g·s·BA to the full matrix. Left: where one step lands on the "
        "manifolds of two gates; lengths are true. Middle and right: dots are measured on a trained layer, lines are the "
        "closed form, and the legends give the fitted powers of g."
    )
    how_to_explore = (
        "With constant gates over a batch, an expert adds g·s·BA to the full matrix. “one step, two gates”: "
        "where one step lands on the manifolds of two gates; lengths are true. “bending of the manifold” and “change "
        "by one step”: dots are measured on a trained layer, lines are the closed form, and the legend gives the "
        "fitted powers of g."
    )

    module: str
    picture: LocalPicture
    changes: pd.DataFrame
    curvature: pd.DataFrame
    layers: Mapping[str, LayerBatch] = field(repr=False)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {**super().tables, "curves": self.picture.curves, "steps": self.picture.steps}

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"module": self.module, **self.tables}


@asked()
def measure(
    runs: Runs, modules: int | str | Sequence[int | str] | None = None, gates: float | Sequence[float] = GATES
) -> GateGeometry:
    """Measure one step on layers of the first run.

    The layers see one test prompt of each data set that the run was trained on, in the prompt form of the run.

    Args:
        runs: the first is measured; its adapter is a LoRA-MoE.
        modules: the layers, one or several, by their numbers, by names or by parts of names; the last one is drawn. None
            takes the last two query or value projections.
        gates: the gates at which steps are taken, three or more.

    Raises:
        ValueError: without a run, for another adapter, a module without an adapter, or fewer than three gates.

    Example:
        >>> found = measure(pair, gates=(0.1, 0.3, 0.9))
        >>> found.claims["verdict"].tolist()
        ['holds', 'fails', 'holds', 'holds', 'holds']
    """
    check_runs(runs)
    gates, modules = listed(gates), None if modules is None else listed(modules)
    if len(set(gates)) < MIN_GATES:
        raise ValueError(
            f"gates = {tuple(gates)} are too few to fit a power of g; pass at least {MIN_GATES} different ones"
        )
    with one_thread():
        layers = layers_of(runs[0], modules)
        drawn: Any = layers[list(layers)[-1]]
        return GateGeometry(
            module=list(layers)[-1],
            picture=local_picture(drawn.adapter, drawn.inputs, drawn.gradient),
            changes=over_layers(first_order_change, layers, gates=gates),
            curvature=over_layers(curvature, layers, gates=gates),
            layers=layers,
            runs=tuple(runs[:1]),
        )


def layers_of(run: Any, modules: Sequence[int | str] | None = None) -> dict[str, LayerBatch]:
    """{module: LayerBatch} of a run's layers on one test prompt of each of its data sets; see `measure`."""
    config = run.config
    if config.system != "moelora":
        raise ValueError(
            f"the run of {named(run)}, has a {config.system} adapter; constant gates need one of MoeLoraConfig"
        )
    model = run.model()
    adapted = list(adapter_modules(model))
    if modules is None:
        names = ([name for name in adapted if name.endswith(PROJECTIONS)] or adapted)[-LAYERS:]
    else:
        names = list(dict.fromkeys(name for one in modules for name in meant(adapted, one, "modules")))
    rows = first_prompts(run, 1)
    return layer_batches(model, run.tokenizer, rows, names, max_length=config.max_length, prompt_form=config.form)
