"""Type a sentence and see which experts its tokens take, layer by layer; two sentences can be compared."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import lru_cache
from html import escape
from threading import Lock
from typing import Any

from ...drawing.explorer import alert, choice, png
from ...drawing.style import figure, use_style
from ...extras import extra
from ..records import layer_title
from .draw_text import text_html
from .draw_tokens import draw_flow
from .measure_tokens import RoutedTokens

with extra("notebooks"):
    import ipywidgets

KEPT = 32  # texts whose gates stay in memory
HALF = {"flex": "1 1 320px", "min_width": "min(320px, 100%)", "max_width": "100%", "margin": "0 12px 0 0"}
PLACEHOLDERS = ("Type a text, then press Show", "A second text to compare (optional)")


class TokenExplorer(ipywidgets.VBox):
    """Two boxes for texts, lists of layers and of places in a layer, and each text with its flow below.

    The parts are `boxes`, `show`, `layer`, `place`, `message`, `texts` and `flows`. A text is read when its box loses
    focus or `show` is pressed. If it cannot be read, `message` says why, and the last texts stay.
    """

    def __init__(self, found: RoutedTokens) -> None:
        first = found.routers[found.middle]
        self.drawing = Lock()  # newer kernels use several threads, and without a lock an older text could come last
        self.read: Callable[[str], RoutedTokens] = lru_cache(KEPT)(lambda text: found.again([text]))
        texts = (*found.texts, "")
        self.boxes = [
            ipywidgets.Textarea(
                texts[side],
                placeholder=PLACEHOLDERS[side],
                continuous_update=False,
                rows=3,
                layout={"width": "100%"},
            )
            for side in (0, 1)
        ]
        layers = {layer_title(layer): layer for layer in dict.fromkeys(one.layer for one in found.routers.values())}
        places = found.places
        self.layer = choice("layer", "Layer", first.layer, layers, "The layer whose router colors the tokens")
        self.place = choice("place", "Router", first.place, places, "The router of the layer")
        self.show = ipywidgets.Button(description="Show", tooltip="Read the texts", button_style="primary")
        self.message = ipywidgets.HTML(layout={"width": "auto"})
        self.texts = [ipywidgets.HTML(layout={"width": "auto"}) for _ in (0, 1)]
        self.flows = [ipywidgets.HTML(layout={"width": "auto"}) for _ in (0, 1)]
        self.halves = [
            ipywidgets.VBox([box, text, flow], layout=HALF)
            for box, text, flow in zip(self.boxes, self.texts, self.flows)
        ]
        self._draw()
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        row = ipywidgets.HBox([self.layer, self.place, self.show], layout=wrap)
        sides = ipywidgets.HBox(self.halves, layout=wrap | {"align_items": "flex-start"})
        super().__init__([row, self.message, sides])
        for control in (*self.boxes, self.layer, self.place):
            control.observe(self._update, "value")
        self.show.on_click(self._update)

    def _update(self, _: Any) -> None:
        with self.drawing:
            try:
                self._draw()
            except ValueError as error:  # a text that the package refuses, with the reason and the remedy
                self.message.value = alert(str(error))
            else:
                self.message.value = ""

    def _draw(self) -> None:
        asked = [box.value for box in self.boxes]
        if not any(text.strip() for text in asked):
            raise ValueError("both texts are empty; type at least one word")
        drawn = [self._drawn(text) if text.strip() else ("", "") for text in asked]
        for (text, flow), shown, path in zip(drawn, self.texts, self.flows):
            shown.value, path.value = text, flow

    def _drawn(self, text: str) -> tuple[str, str]:
        """(the text, its flow) as HTML."""
        found = self.read(text)
        name = next(
            (
                one
                for one, router in found.routers.items()
                if (router.layer, router.place) == (self.layer.value, self.place.value)
            ),
            None,
        )
        if name is None:
            layers = ", ".join(layer_title(layer) for layer in found.at(self.place.value))
            raise ValueError(
                f"{layer_title(self.layer.value)} has no router {self.place.value}; choose one of {layers}"
            )
        return text_html(found, name, 0), flow_html(found, self.place.value)


def widget(found: RoutedTokens) -> TokenExplorer:
    """The measured texts at first, then whatever is typed."""
    return TokenExplorer(found)


def flow_html(found: RoutedTokens, place: str) -> str:
    """The flow of all tokens through the routers at one place, as a picture; empty for a single layer."""
    layers = [layer_title(layer) for layer in found.at(place)]
    if len(layers) < 2:
        return ""
    with use_style():
        fig = figure(4.0, 2.7)  # as wide as a phone, so that the names are readable there
        draw_flow(fig.subplots(), found, place)
    alt = f"Flow of {len(found.tokens)} tokens between the strongest experts of {', '.join(layers)}, {place}."
    source = base64.b64encode(png(fig)).decode()
    return f'<img alt="{escape(alt)}" style="width:100%;max-width:560px" src="data:image/png;base64,{source}">'
