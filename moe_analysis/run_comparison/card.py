"""Runs side by side as a card in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..cards.charts import Curve, curves
from ..cards.in_words import signed
from ..cards.templates import cell_html
from .draw import colors_of, curve
from .settings import cells

HERE = Path(__file__).parent


def comparison_html(compared: Any) -> str:
    """The fields that differ with their meaning, the losses on one axis, and the outcomes with their differences."""
    colors = colors_of(compared.names)
    drawn = [Curve(name, *curve(run)) for name, run in zip(compared.names, compared.runs)]
    differences = [
        {"field": row["field"], "meaning": row["meaning"], "values": cells([row[run.id] for run in compared.runs])}
        for _, row in compared.differences.iterrows()
    ]
    return cell_html(
        "card.html",
        HERE,
        title=f"{len(compared.runs)} runs side by side",
        names=compared.names,
        differences=differences,
        losses=curves(drawn, "training loss", colors),
        legend={one.name: color for one, color in zip(drawn, colors) if one.steps},
        final=[outcome(row) for row in compared.final.to_dict("records")],
        opens="compared.interactive(), compared.save('compared.html')",
    )


def outcome(row: dict[str, Any]) -> dict[str, str]:
    told = {
        name: "–" if pd.isna(row[f"test_{name}"]) else f"{row[f'test_{name}']:.3f}" for name in ("loss", "accuracy")
    }
    return {"label": row["label"], "state": row["state"], **told, **{f"{name}_gap": gap(row, name) for name in told}}


def gap(row: dict[str, Any], measure: str) -> str:
    """Such as "+0.012 [-0.003, +0.027]"; empty for the first run."""
    names = (f"{measure}_difference", f"{measure}_low", f"{measure}_high")
    value, low, high = ("" if pd.isna(row.get(name)) else signed(row[name], 3) for name in names)
    return f"{value} [{low}, {high}]" if low else value
