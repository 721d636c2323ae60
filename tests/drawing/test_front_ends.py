"""What a widget asks of the program that shows a notebook: elements that each of them has built in, and plotly's figure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import ipywidgets
import pytest

import moe_analysis
from moe_analysis.drawing.explorer import Explorer, View, choice, slider
from moe_analysis.drawing.style import figure

# JupyterLab, Notebook and VS Code ship these two; any other module they fetch from an extension, or from the network
BUILT_IN = {"@jupyter-widgets/base", "@jupyter-widgets/controls"}
TURNING = ("router_paths/explore", "semantic_map/explore_lasso")
SOURCES = sorted(Path(moe_analysis.__file__).parent.glob("studies/*/explore*.py"))


def elements(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """The widget, its layout, its style, and all that it holds or is linked to."""
    yield widget
    held = [*getattr(widget, "children", ()), getattr(widget, "layout", None), getattr(widget, "style", None)]
    for child in filter(None, held):
        yield from elements(child)


def test_every_element_is_built_into_the_programs_that_show_notebooks() -> None:
    play = ipywidgets.Play(min=1, max=3)
    step = slider("step", "Step", 1, 1, 3, "Drawn")
    ipywidgets.jslink((play, "value"), (step, "value"))
    explorer = Explorer(
        {"step": step, "kind": choice("kind", "Kind", "a", ["a", "b"], "Drawn")},
        lambda step, kind: View(figure(2.0, 1.0), kind),
        {"step": play},
    )
    modules = {getattr(element, side) for element in elements(explorer) for side in ("_model_module", "_view_module")}
    assert modules - {None} == BUILT_IN
    kinds = {type(element).__name__ for element in elements(explorer)}
    assert kinds >= {"Play", "HTML", "HBox", "IntSlider", "Dropdown"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.parent.stem)
def test_widgets_bring_no_code_of_their_own_but_plotlys_figure(source: Path) -> None:
    """What turns or has a lasso is a `wide_figure`; all else shows in programs that know ipywidgets alone."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    assert not {name.split(".")[0] for name in names} & {"anywidget", "ipympl", "bqplot"}
    assert ("wide_figure" in names) == (f"{source.parent.stem}/{source.stem}" in TURNING)
