"""The interactive figure of runs side by side: settings and outcomes in lanes, and losses on one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..drawing.layout import arranged
from ..drawing.style import METHOD_COLORS, PALETTE
from .settings import cells, title
from .tables import task_loss

SETTINGS = 7  # lanes in addition to those of the outcomes
TOLD = 4  # values of a lane that are written at it; of more the first and the last
LANE, LEAST = 62, 420  # pixels of a lane, and of the figure
POINTS = 300  # of a loss curve
SMOOTHED = 10  # a curve is smoothed over this fraction (1 / SMOOTHED) of its steps
DASHES = ("solid", "dash", "dot")
OUTCOMES = {"test_loss": "test loss", "test_accuracy": "test accuracy"}
LONG, WORDY = 14, 8  # characters of a lane's name, and of a value at it
LEFT, RIGHT = 0.8, 0.5  # of a lane's length: the room for values at its ends; names of lanes stand left of it


class Lane(NamedTuple):
    """One row of parallel coordinates. places: from 0 to 1, NaN for a run without it. marks: place -> text."""

    name: str
    places: list[float]
    texts: list[str]
    marks: dict[float, str]


def colors_of(names: Sequence[str]) -> list[str]:
    """A system's own color where each run is named after another system, else those of the palette in turn.

    >>> colors_of(["LoRA", "T-REX"]) == [METHOD_COLORS["LoRA"], METHOD_COLORS["T-REX"]]
    True
    >>> colors_of(["T-REX, seed 0", "T-REX, seed 1"]) == list(PALETTE[:2])
    True
    """
    own = [METHOD_COLORS[name] for name in names if name in METHOD_COLORS]
    if len(set(own)) == len(names):
        return own
    return [PALETTE[place % len(PALETTE)] for place in range(len(names))]


def interactive(compared: Any) -> go.Figure:
    """Parallel coordinates at the left, smoothed training losses at the right; a run has one color in both.

    Args:
        compared: as `compare_runs` gives it.
    """
    found, colors = lanes(compared), colors_of(compared.names)
    fig = make_subplots(
        1,
        2,
        column_widths=[0.55, 0.45],
        horizontal_spacing=0.12,
        subplot_titles=("settings and outcomes", "training loss"),
    )
    for place, (run, name) in enumerate(zip(compared.runs, compared.names)):
        look = {"color": colors[place], "dash": DASHES[place // len(PALETTE) % len(DASHES)]}
        shared = {"name": escape(name), "legendgroup": run.id, "line": {**look, "width": 2}}
        told = [f"{lane.name}: {lane.texts[place]}" for lane in found]
        fig.add_scatter(
            x=[lane.places[place] for lane in found],
            y=list(range(len(found))),
            mode="lines+markers",
            connectgaps=True,
            marker={"size": 8},
            text=[escape(text) for text in told],
            hovertemplate=f"{escape(name)}<br>%{{text}}<extra></extra>",
            row=1,
            col=1,
            **shared,
        )
        steps, values = curve(run)
        fig.add_scatter(
            x=steps,
            y=values,
            mode="lines",
            showlegend=False,
            hovertemplate=f"{escape(name)}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
            row=1,
            col=2,
            **shared,
        )
    mark(fig, found)
    fig.update_xaxes(title="step", row=1, col=2)
    fig.update_yaxes(title="nats per answer token, smoothed", row=1, col=2)
    fig.update_layout(title=compared.caption["title"], height=max(LEAST, LANE * len(found) + 120), hovermode="closest")
    return arranged(fig)


def mark(fig: go.Figure, found: Sequence[Lane]) -> None:
    """Name the lanes, draw each as a line, and write its values below it."""
    for row, lane in enumerate(found):
        fig.add_shape(type="line", x0=0, x1=1, y0=row, y1=row, line={"width": 1}, layer="below", row=1, col=1)
        for place, text in lane.marks.items():
            fig.add_annotation(
                x=place, y=row, text=escape(text), showarrow=False, font={"size": 11}, row=1, col=1, **beside(place)
            )
    fig.update_xaxes(range=[-LEFT, 1 + RIGHT], visible=False, row=1, col=1)
    fig.update_yaxes(
        tickvals=list(range(len(found))),
        ticktext=[f"<b>{lane.name}</b>" if lane.name in OUTCOMES.values() else escape(lane.name) for lane in found],
        range=[len(found) - 0.35, -0.5],
        showgrid=False,
        zeroline=False,
        row=1,
        col=1,
    )


def beside(place: float) -> dict[str, Any]:
    """Where a value is written: outside at the ends of a lane, where no line passes, else below it."""
    if place in (0.0, 1.0):
        return {"xanchor": "right" if place == 0.0 else "left", "yanchor": "middle", "xshift": 16 * place - 8}
    return {"xanchor": "center", "yanchor": "top", "yshift": -5}


def lanes(compared: Any) -> list[Lane]:
    """The settings that differ, the most telling ones first, then the outcomes of finished runs."""
    chosen = [lane(title(name), [one.get(name) for one in compared.settings]) for name in compared.fields[:SETTINGS]]
    final = compared.final
    known = [name for name in OUTCOMES if final[name].notna().any()]
    return chosen + [
        lane(OUTCOMES[name], [None if pd.isna(value) else value for value in final[name]]) for name in known
    ]


def lane(name: str, values: Sequence[Any]) -> Lane:
    """Numbers to scale, on a logarithmic one where they span more than a decade; all else in alphabetical order."""
    name = name if len(name) <= LONG else f"{name[: LONG - 1]}…"
    texts = [f"{value:.3g}" if isinstance(value, float) else text for value, text in zip(values, cells(values))]
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        places = scaled([math.nan if value is None else float(value) for value in values])
    else:
        order = sorted(set(texts))
        places = [order.index(text) / max(len(order) - 1, 1) for text in texts]
    marks = dict(sorted({place: text for place, text in zip(places, texts) if not math.isnan(place)}.items()))
    if len(marks) > TOLD or (len(marks) > 2 and crowded(list(marks))):
        first, *_, last = marks.items()
        marks = dict([first, last])
    return Lane(name, places, texts, {place: short(text) for place, text in marks.items()})


def crowded(places: Sequence[float]) -> bool:
    """Whether texts at these places would overlap."""
    return min(np.diff(places)) < 0.28


def short(text: str) -> str:
    """A text with its middle left out: names of one family differ at their ends.

    >>> short("riemannian_sgd"), short("riemannian_adamw")
    ('ri…n_sgd', 'ri…adamw')
    """
    return text if len(text) <= WORDY else f"{text[:2]}…{text[3 - WORDY :]}"


def scaled(values: Sequence[float]) -> list[float]:
    """Numbers as places from 0 to 1; one value alone, or many that are equal, lie in the middle."""
    known = np.array([value for value in values if not math.isnan(value)])
    numbers = np.array(values)
    if len(known) and known.min() > 0 and known.max() > 10 * known.min():
        numbers, known = np.log(numbers), np.log(known)
    if not len(known) or known.max() == known.min():
        return [value if math.isnan(value) else 0.5 for value in numbers.tolist()]
    return ((numbers - known.min()) / (known.max() - known.min())).tolist()


def curve(run: Any) -> tuple[list[int], list[float]]:
    """Steps and smoothed training losses of a run; empty if it is not finished."""
    if not run.finished:
        return [], []
    losses = task_loss(run)
    window = max(1, len(losses) // SMOOTHED)
    smooth = losses.rolling(window, center=True, min_periods=-(-window // 2)).mean().dropna()
    kept = smooth.iloc[np.unique(np.linspace(0, len(smooth) - 1, POINTS).round().astype(int))]
    return kept.index.tolist(), kept.round(6).tolist()
