"""What a campaign's tuning found: the whole grid of every system, and the cell that each is trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .campaign import MEASURES, TUNE, Campaign, Cell
from .row import configuration_digest, unpacked
from .table import Key, Row, key_of


def tuning_table(campaign: Campaign, rows: Iterable[Row]) -> pd.DataFrame:
    """Every cell of every system: system, the grid's axes, runs and of (in the table, and wanted), accuracy,
    accuracy_norm and loss (means over data sets and tuning seeds of the held-out rows), chosen.

    A cell is chosen when all runs of its system are in the table: the best by `choose_by`; of equal cells
    the one with the lower loss, then the one that the grid lists first. A loss that is not a number is the worst.
    """
    if campaign.tune is None:
        return pd.DataFrame(columns=["system", "runs", "of", *MEASURES, "chosen"])
    known, lines = {key_of(row): row for row in rows}, []
    for label in campaign.systems:
        cells = [cell_line(campaign, label, cell, known) for cell in campaign.tune.cells()]
        best = best_of(campaign, cells)
        lines += [{**line, "chosen": place == best} for place, line in enumerate(cells)]
    return pd.DataFrame(lines)


def cell_line(campaign: Campaign, label: str, cell: Cell, known: Mapping[Key, Row]) -> dict[str, Any]:
    tune = campaign.tune
    assert tune is not None
    # the seed is not part of a configuration's digest
    digest = configuration_digest(campaign.config(TUNE, label, cell, tune.seeds[0]))
    found = [scores(known[digest, seed]) for seed in tune.seeds if (digest, seed) in known]
    means = {name: float(np.mean([one[name] for one in found])) if found else np.nan for name in MEASURES}
    return {"system": label, **dict(zip(tune.grid, cell)), "runs": len(found), "of": len(tune.seeds), **means}


def scores(row: Row) -> dict[str, float]:
    """Means over the data sets of the rows that a run was evaluated on."""
    found = {"loss": float(np.mean(row["losses"]))}
    for name, column in (("accuracy", "correct"), ("accuracy_norm", "correct_norm")):
        shares = [unpacked(packed, count).mean() for packed, count in zip(row[column], row["rows"])]
        found[name] = float(np.mean(shares))
    return found


def best_of(campaign: Campaign, lines: list[dict[str, Any]]) -> int | None:
    """The place of the best of a system's cells; None while one of its runs is missing."""
    if campaign.tune is None or any(line["runs"] < line["of"] for line in lines):
        return None
    measure = campaign.tune.choose_by

    def order(place: int) -> tuple[float, float, int]:
        line = lines[place]
        loss = line["loss"] if np.isfinite(line["loss"]) else np.inf
        return (loss if measure == "loss" else -line[measure]), loss, place

    return min(range(len(lines)), key=order)


def chosen_cells(campaign: Campaign, rows: Iterable[Row]) -> dict[str, Cell]:
    """The cell of every system whose tuning is in the table as a whole; all systems where nothing is tuned."""
    if campaign.tune is None:
        return dict.fromkeys(campaign.systems, ())
    table = tuning_table(campaign, rows)
    # by place, as a frame turns whole numbers into reals
    cells, chosen = list(campaign.tune.cells()), table["chosen"].to_numpy().reshape(len(campaign.systems), -1)
    return {label: cells[int(mine.argmax())] for label, mine in zip(campaign.systems, chosen) if mine.any()}


def at_an_end(campaign: Campaign, chosen: Mapping[str, Cell]) -> list[str]:
    """Of each value that was chosen at an end of its axis a sentence: what lies beyond was not tried.

    Axes of fewer than three values are choices and have no end.
    """
    found = []
    for place, (axis, values) in enumerate(campaign.tune.grid.items() if campaign.tune else ()):
        if len(values) < 3 or not all(isinstance(value, int | float) for value in values):
            continue
        for label, cell in chosen.items():
            for end, name in ((min(values), "least"), (max(values), "most")):
                if cell[place] == end:
                    found.append(f"{label}: {axis} = {end:g} is the {name} that was tried; try values beyond it too")
    return found
