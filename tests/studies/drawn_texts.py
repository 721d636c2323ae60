"""Where the texts of a drawn figure are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from moe_analysis.drawing.style import luminance

TOUCH = 2.0  # pixels: boxes are as high as a line, letters are not


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is seen, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    hidden = {id(text) for panel in figure.findobj(lambda one: hasattr(one, "_axis_map")) for text in undrawn(panel)}
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def undrawn(panel: Any) -> Iterator[Text]:
    """Texts of a panel that matplotlib holds and does not draw: of ticks beyond the limits, and of axes that are off."""
    for axis in panel._axis_map.values():
        shown = axis._update_ticks() if panel.axison and axis.get_visible() else []
        for tick in (*axis.majorTicks, *axis.minorTicks):
            if not any(tick is one for one in shown):
                yield from (tick.label1, tick.label2)
        if not panel.axison or not axis.get_visible():
            yield axis.label
    if panel.name == "3d":
        yield from (axis.offsetText for axis in panel._axis_map.values())


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes meet by more than `TOUCH`."""
    met = []
    for (one, first), (other, second) in combinations(boxes(figure), 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        if min(wide, high) > TOUCH:
            met.append((one, other))
    return met


def outside(figure: Figure) -> list[str]:
    """Texts that the edge of the figure cuts."""
    page = figure.bbox
    return [
        text
        for text, box in boxes(figure)
        if box.x0 < page.x0 - 1 or box.x1 > page.x1 + 1 or box.y0 < page.y0 - 1 or box.y1 > page.y1 + 1
    ]


def pale(figure: Figure) -> list[tuple[str, float]]:
    """Texts on the cells of an image with their contrast, where it is below the 4.5 of WCAG."""
    found = []
    for panel in figure.axes:
        for image, text in product(panel.images, panel.texts):
            x, y = map(round, text.get_position())
            cells = np.ma.filled(image.get_array().astype(float), np.nan)
            if not (0 <= y < cells.shape[0] and 0 <= x < cells.shape[1]):
                continue
            *color, alpha = image.to_rgba(cells[y, x])
            seen = [1 - alpha + alpha * part for part in color]  # on white
            ground, ink = luminance(to_hex(seen)), luminance(to_hex(text.get_color()))
            contrast = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
            if contrast < 4.5:
                found.append((text.get_text(), contrast))
    return found
