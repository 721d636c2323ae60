"""Controls above a figure: the common form of all widgets here, and how a setting becomes a picture.

The functions of the static figures draw a setting. It is shown as a PNG inside an HTML element, which needs no network
and looks the same in JupyterLab, in VS Code and in a classic notebook.
"""

from __future__ import annotations

import base64
import io
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import extra

with extra("notebooks"):
    import ipywidgets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 144  # sharp on dense screens; 192 takes 1.5 times as long to draw
INCH = 96  # CSS pixels
READABLE = 420  # CSS pixels; a page narrower than this scrolls sideways inside the figure
KEPT = 64  # pictures of settings that were shown before, about 100 kB each
WIDE = "20em"  # of a slider: three fit side by side in JupyterLab
TEXT = "line-height: 1.45; max-width: 62em"
REFUSED = f"{TEXT}; border-left: 4px solid #C62828; padding: 2px 0 2px 8px; margin: 4px 0"


@dataclass(frozen=True)
class View:
    """What one setting shows. alt: the figure in words. note: the numbers to read, plain text, one line per number."""

    figure: Figure
    alt: str
    note: str = ""


class Explorer(ipywidgets.VBox):
    """Labeled controls in a row, a line for errors, the figure, and a note with the numbers behind it.

    controls: name -> an ipywidgets control, in the order of the tab key; their values are the keyword arguments of
    `draw`, which returns a `View`. beside: name of a control -> another element in front of it, such as a play button.
    The parts are `controls`, `message`, `picture` and `note`. The first setting is drawn at once, and its errors are
    raised; later errors are shown in `message`, above the last setting that could be drawn.
    """

    def __init__(
        self, controls: Mapping[str, Any], draw: Callable[..., View], beside: Mapping[str, Any] | None = None
    ) -> None:
        self.controls = dict(controls)
        self.drawing = RLock()  # newer kernels use several threads, and without a lock an older picture could come last
        self.message, self.picture, self.note = (ipywidgets.HTML(layout={"width": "auto"}) for _ in range(3))
        pairs = [((beside or {}).get(name), control) for name, control in self.controls.items()]
        row = ipywidgets.HBox(
            [element for pair in pairs for element in pair if element is not None],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        self._shown = lru_cache(KEPT)(lambda *values: rendered(draw(**dict(zip(self.controls, values)))))
        self.picture.value, self.note.value = self._shown(*self.values)
        super().__init__([row, self.message, self.picture, self.note])
        for control in self.controls.values():
            control.observe(self._update, "value")

    @property
    def values(self) -> tuple[Any, ...]:
        """The setting: the value of every control, in order."""
        return tuple(control.value for control in self.controls.values())

    def _update(self, _: Any) -> None:
        with self.drawing:
            try:
                picture, note = self._shown(*self.values)
            except ValueError as error:  # a setting that the package refuses, with the reason and the remedy
                self.message.value = alert(str(error))
            except Exception:  # Jupyter would write it only to a log that nobody opens
                self.message.value = alert("This setting failed. Please report this error:", traceback.format_exc())
            else:
                self.message.value, self.picture.value, self.note.value = "", picture, note


def rendered(view: View) -> tuple[str, str]:
    """(the figure as an image with its words, the note), both HTML."""
    width, height = (round(INCH * inches) for inches in view.figure.get_size_inches())
    source = base64.b64encode(png(view.figure)).decode()
    least = min(width, READABLE)
    picture = (
        f'<div style="overflow-x: auto"><img alt="{escape(view.alt)}" width="{width}" height="{height}" '
        f'style="max-width: 100%; min-width: {least}px; height: auto" '
        f'src="data:image/png;base64,{source}"></div>'
    )
    return picture, noted(view.note)


def noted(text: str) -> str:
    """HTML of the numbers to read, which a screen reader announces when they change."""
    return f'<div role="status" style="{TEXT}">{lines(text)}</div>'


def png(figure: Figure) -> bytes:
    """The picture at DPI. Drawn once; `savefig` would go through all artists twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DPI)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def alert(reason: str, details: str = "") -> str:
    """HTML that says why a setting is not shown, and that the picture is the previous one."""
    more = f'<pre style="overflow-x: auto">{escape(details)}</pre>' if details else ""
    return (
        f'<div role="alert" style="{REFUSED}"><b>Not drawn:</b> {lines(reason)}{more}'
        "<br>Below is the last setting that could be drawn.</div>"
    )


def lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.splitlines())


def slider(
    name: str, label: str, value: int, least: int, most: int, tooltip: str, step: int = 1, live: bool = False
) -> Any:
    """A slider of whole numbers; ValueError, with the argument's name, for a number outside.

    It draws when it is released; with `live`, also while it moves, for drawings that take only milliseconds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} = {value!r} is not a whole number from {least} to {most}; start with one of these")
    return ipywidgets.IntSlider(value, least, most, step, continuous_update=live, **labeled(label, tooltip, WIDE))


def decimal(name: str, label: str, value: float, least: float, most: float, step: float, tooltip: str) -> Any:
    """Like `slider`, for decimal numbers."""
    if not least <= value <= most:
        raise ValueError(f"{name} = {value!r} is not a number from {least:g} to {most:g}; start with one of these")
    look = labeled(label, tooltip, WIDE)
    return ipywidgets.FloatSlider(
        value, min=least, max=most, step=step, continuous_update=False, readout_format=".2f", **look
    )


def stops(name: str, label: str, value: float, options: Sequence[float], tooltip: str) -> Any:
    """A slider with fixed stops; ValueError, with the argument's name, for any other value."""
    if value not in options:
        raise ValueError(
            f"{name} = {value!r} is not a stop; choose one of {', '.join(f'{stop:.3g}' for stop in options)}"
        )
    pairs = [(f"{stop:.2g}", stop) for stop in options]
    look = labeled(label, tooltip, WIDE)
    return ipywidgets.SelectionSlider(options=pairs, value=value, continuous_update=False, **look)


def choice(name: str, label: str, value: Any, options: Sequence[Any] | Mapping[str, Any], tooltip: str) -> Any:
    """A list to choose from, values or {text: value}; ValueError, with the argument's name, for any other value."""
    known = list(options.values() if isinstance(options, Mapping) else options)
    if value not in known:
        raise ValueError(f"{name} = {value!r} is unknown; choose one of {', '.join(map(str, known))}")
    pairs = list(options.items()) if isinstance(options, Mapping) else [(str(option), option) for option in known]
    return ipywidgets.Dropdown(options=pairs, value=value, **labeled(label, tooltip, "max-content"))


def labeled(label: str, tooltip: str, width: str) -> dict[str, Any]:
    """The arguments that all controls have: label, tooltip and size."""
    style = {"description_width": "initial"}
    return {"description": label, "tooltip": tooltip, "style": style, "layout": spaced(width)}


def spaced(width: str) -> dict[str, str]:
    return {"width": width, "max_width": "100%", "margin": "2px 16px 2px 0"}
