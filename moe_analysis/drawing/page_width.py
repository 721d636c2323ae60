"""plotly's figures as widgets: as wide as the page, which they do not know when they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..extras import extra

with extra("notebooks"):
    from anywidget import AnyWidget

if TYPE_CHECKING:
    from plotly.graph_objects import FigureWidget


class Width(AnyWidget):
    """An element without height that tells figures beside it when the page gives them another width.

    plotly draws at 700 pixels before its element stands in the page, and then hears of the window's changes alone.
    """

    _esm = """export default { render({ el }) {
        new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(el);
    } };"""


def wide_figure() -> FigureWidget:
    """An empty FigureWidget that hears what a `Width` beside it tells."""
    import plotly.graph_objects as go

    figure = go.FigureWidget()
    figure._config = {**figure._config, "responsive": True}
    return figure
