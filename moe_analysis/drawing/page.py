"""An interactive figure as a page of its own, which changes its arrangement with the width of the window."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

from .panels import has_bar
from .rooms import DESK
from .screens import least_width, narrow

if TYPE_CHECKING:
    import plotly.graph_objects as go

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0; background: #ffffff; }}
.page {{ overflow-x: auto; }}
.page > div {{ min-width: {least}px; }}
</style>
</head>
<body>
<div class="page" tabindex="0" role="region" aria-label="{title}"><div id="{item}"></div></div>
<script charset="utf-8" src="plotly.min.js"></script>
<script>
{script}</script>
</body>
</html>
"""

# only the fields that differ are set, so that what a reader chose from a menu stays chosen; drawn anew, because plotly
# leaves the numbers of a bar of colours behind when it turns
SCRIPT = """\
const plot = document.getElementById("%(item)s"), small = matchMedia("(max-width: %(width)dpx)");
let figure = %(figure)s;
const screens = %(screens)s;
const set = (settings, path, value) => {
  const names = path.replace(/\\[(\\d+)\\]/g, ".$1").split("."), last = names.pop();
  for (const name of names) settings = settings[name] ??= {};
  if (value === null) delete settings[last]; else settings[last] = value;
};
const arrange = ({layout, traces}) => {
  for (const path in layout) set(figure.layout, path, layout[path]);
  for (const number in traces) for (const path in traces[number]) set(figure.data[number], path, traces[number][path]);
};
const draw = () => {
  const {data, layout} = figure, config = {responsive: true, displayModeBar: small.matches ? false : "hover"};
  plot.style.height = layout.height ? layout.height + "px" : "100vh";
  Plotly.newPlot(plot, data, layout, config);
  figure = plot; // which a reader changes
};
small.addEventListener("change", () => { arrange(screens[small.matches ? "narrow" : "wide"]); draw(); });
if (small.matches) arrange(screens.narrow);
draw();
"""


def page(fig: go.Figure, item: str) -> str:
    """The text of an HTML page that shows `fig` as it is, and below 800 pixels of width as `narrow` arranges it.

    plotly.min.js is expected beside it. item: the id of the figure's element, and the page's title where the figure
    has none.
    """
    small = narrow(fig)
    screens = json.dumps({"wide": difference(small, fig), "narrow": difference(fig, small)}, ensure_ascii=False)
    texts = {"figure": fig.to_json(), "screens": screens.replace("<", "\\u003c")}  # no text of theirs ends the script
    script = SCRIPT % {"item": item, "width": DESK.width, **texts}
    title = html.escape(re.sub("<[^>]*>", " ", fig.layout.title.text or item))
    return PAGE.format(title=title, least=least_width(fig), item=item, script=script)


NOT_ARRANGED = {"template", "buttons"}  # the same on every screen


def difference(before: go.Figure, after: go.Figure) -> dict[str, Any]:
    """What makes the first figure's arrangement the second's: {"layout": {path: value}, "traces": {number: the same}}.

    None where a field is taken away.
    """
    bars = {
        number: changed({"colorbar": trace.colorbar}, {"colorbar": after.data[number].colorbar})
        for number, trace in enumerate(before.data)
        if has_bar(trace)
    }
    return {"layout": changed(before.layout, after.layout), "traces": bars}


def changed(before: Any, after: Any) -> dict[str, Any]:
    old, new = fields(before), fields(after)
    return {
        name: new.get(name)
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    }


def fields(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by their path as plotly writes it: {"legend": {"x": 0}} -> {"legend.x": 0}, and
    "annotations[1].text" for what stands in a list of settings."""
    found: dict[str, Any] = {}
    value = value.to_plotly_json() if hasattr(value, "to_plotly_json") else value
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in NOT_ARRANGED:
                found |= fields(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            found |= fields(item, f"{name}[{number}]")
    else:
        found[name] = list(value) if isinstance(value, tuple) else value
    return found
