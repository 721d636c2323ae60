"""Boxes, factors, gates and arrows of the papers' drawings of architectures."""

from __future__ import annotations

from typing import Any

from matplotlib.colors import to_rgba
from matplotlib.patches import Ellipse, FancyBboxPatch, Polygon

SIGNAL = "#3A3A3A"
EXPERT_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A", "#B8A800")


def box(
    panel: Any,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    color: str,
    edge: str = SIGNAL,
    rotation: float = 0,
    light: bool = False,
) -> None:
    """A rounded box centered at (x, y); light: filled with a pale tint of its color."""
    panel.add_patch(
        FancyBboxPatch(
            (x - width / 2 + 0.1, y - height / 2 + 0.1),
            width - 0.2,
            height - 0.2,
            boxstyle="round,pad=0.1",
            facecolor=to_rgba(color, 0.3) if light else color,
            edgecolor=color if light else edge,
            linewidth=0.9,
            zorder=2,
        )
    )
    panel.text(x, y, text, ha="center", va="center", fontsize=7.5, rotation=rotation, zorder=3)


def trapezoid(
    panel: Any, x: float, foot: float, height: float, wide: float, narrow: float, color: str, text: str
) -> None:
    """A factor: its wide side at `foot` is the features, its narrow side the rank; a negative height points down."""
    corners = [
        (x - wide / 2, foot),
        (x + wide / 2, foot),
        (x + narrow / 2, foot + height),
        (x - narrow / 2, foot + height),
    ]
    panel.add_patch(Polygon(corners, facecolor=to_rgba(color, 0.3), edgecolor=color, linewidth=0.9, zorder=2))
    panel.text(x, foot + height * 0.42, text, ha="center", va="center", fontsize=6.5, zorder=3)


def circle(panel: Any, x: float, y: float, radius: float, text: str) -> None:
    """A gate or a sum: a circle with a short text."""
    panel.add_patch(
        Ellipse((x, y), 2 * radius, 2 * radius, facecolor="white", edgecolor=SIGNAL, linewidth=0.9, zorder=3)
    )
    panel.text(x, y, text, ha="center", va="center", fontsize=6.2, zorder=4)


def arrow(
    panel: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    head: bool = True,
    dashed: bool = False,
    color: str = SIGNAL,
) -> None:
    """A straight arrow from start to end; without its head, a plain line."""
    style = {
        "arrowstyle": "-|>" if head else "-",
        "color": color,
        "linewidth": 1,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 7,
        "linestyle": (0, (3, 2)) if dashed else "-",
    }
    panel.annotate("", end, start, arrowprops=style, zorder=1)
