"""Numbers that are written on the cells of a heat map can be read on every color that a cell may have."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from moe_analysis.studies.optimizers.draw_exponent import draw_differences
from moe_analysis.studies.routing.draw_one_token import draw_matrix
from moe_analysis.studies.subspace.draw_span import draw_heat
from moe_analysis.studies.systems.draw_tasks import task_figure

from .drawn_texts import pale

SIDE = 8
CELLS = np.linspace(-1, 1, SIDE * SIDE)
ROWS, COLUMNS = np.divmod(np.arange(SIDE * SIDE), SIDE)


def gates() -> Figure:
    figure = Figure()
    draw_matrix(figure.subplots(), SimpleNamespace(gates=CELLS[None], matrix=(SIDE, SIDE)), 0)
    return figure


def spans() -> Figure:
    figure = Figure()
    draw_heat(figure.subplots(), pd.DataFrame({"J": ROWS, "I": COLUMNS, "measured": np.arange(SIDE * SIDE)}))
    return figure


def exponents() -> Figure:
    figure, differences = Figure(), CELLS.copy()
    differences[[3, 5]] = np.nan, np.inf  # of runs that diverged
    table = pd.DataFrame({"entropy": ROWS / 10, "power": COLUMNS / 10, "difference": differences, "decided": True})
    draw_differences(figure.subplots(), table)
    return figure


def tasks() -> Figure:
    table = pd.DataFrame({"dataset": ROWS.astype(str), "method": COLUMNS.astype(str), "difference": CELLS})
    return task_figure(table.assign(part="originals", low=-1.0, high=1.0, base=0.5))


@pytest.mark.parametrize("draw", [gates, spans, exponents, tasks])
def test_numbers_on_cells_have_the_contrast_of_readable_text(draw) -> None:
    figure = draw()
    assert sum(len(panel.texts) for panel in figure.axes if panel.images) >= SIDE * SIDE
    assert pale(figure) == []
