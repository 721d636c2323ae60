"""Boxes and arrows of the drawings of architectures, in the units of their panel."""

from __future__ import annotations

from typing import Any

SIGNAL = "#3A3A3A"


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
    """A rounded box centered at (x, y); light: in a pale tint of its color."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

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


def arrow(
    panel: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    head: bool = True,
    dashed: bool = False,
    color: str = SIGNAL,
) -> None:
    """A line from one place to another, with a head at its end."""
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
