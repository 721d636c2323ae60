"""plotly's figures as widgets that are as wide as the page, whose width they do not know when they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..extras import extra

with extra("notebooks"):
    from anywidget import AnyWidget

if TYPE_CHECKING:
    from plotly.graph_objects import FigureWidget


class Width(AnyWidget):
    """An element without height that tells the figures next to it when their width on the page changes.

    plotly draws at 700 pixels before its element is on the page, and afterwards notices only changes of the window.
    """

    _esm = """export default { render({ el }) {
        new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(el);
    } };"""


def wide_figure() -> FigureWidget:
    """An empty FigureWidget that adapts when a `Width` next to it reports a change."""
    import plotly.graph_objects as go

    figure = go.FigureWidget()
    figure._config = {**figure._config, "responsive": True}
    return figure
