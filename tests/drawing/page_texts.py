"""What a page's "How to read it" names and its drawing does not have: panels, letters, places, colors, dashes, menus.
And areas on which a text of one of the two themes cannot be seen, menus without a label of their own, and percent signs
without a space."""

from __future__ import annotations

import colorsys
import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

READING = re.compile(r"<strong>How to read it\.</strong> (.*?)</p>", re.DOTALL)
FIGURE = re.compile(r'id="figure">(.*?)</script>', re.DOTALL)
COLOR = re.compile(r"#[0-9A-Fa-f]{6}\b|rgba?\((?:[\d.]+, ?){2,3}[\d.]+\)")
HUES = {"red": (0, 25), "orange": (10, 50), "green": (70, 175), "blue": (180, 260), "purple": (240, 320)}  # degrees
TIGHT = re.compile(r"[\d.]+%(?!\{)|:[\d.]*%\}")  # 22%, and the formats of Python and plotly that write it
NAMED = {"gray": "#808080", "grey": "#808080", "black": "#000000"}


def untrue(page: str) -> list[str]:
    """The faults of a page."""
    reading = READING.search(page)
    stored = FIGURE.search(page)
    assert stored, "no page of a figure"
    return faults(html.unescape(reading[1]) if reading else "", json.loads(stored[1])["figure"])


def faults(text: str, figure: dict[str, Any]) -> list[str]:
    layout, titles = figure["layout"], set(titles_of(figure["layout"]))
    found = [f"panel “{name}”" for name in re.findall("“([^”]*)”", text) if name not in titles]
    letters = [letter for group in re.findall(r"\(([a-h](?:, [a-h])*)\)", text) for letter in group.split(", ")]
    found += [f"panel ({letter})" for letter in letters if not any(f"({letter})" in title for title in titles)]
    # panels stand side by side on a wide screen alone
    found += re.findall(r"(?:Left|Right|Middle)\b[^.]*?,|[Aa]t the (?:left|right|bottom)", text)
    if len(rows_of(figure)) < 2:
        found += re.findall(r"(?:Above|Below),", text)
    ways = {way for color in COLOR.findall(json.dumps(figure)) for way in words_for(color)}
    ways |= {word for word in NAMED if f'"{word}"' in json.dumps(figure)}
    told = re.findall(r"\b(red|orange|green|blue|purple|gray|black)\b", text.lower())
    found += [word for word in dict.fromkeys(told) if word not in ways]
    needs: dict[str, Any] = {
        r"\bdash": lambda trace: trace.get("line", {}).get("dash", "solid") != "solid",
        r"\brings?\b": lambda trace: "open" in str(trace.get("marker", {}).get("symbol", "")),
    }
    shapes = layout.get("shapes", [])
    found += [
        word for word, has in needs.items() if re.search(word, text) and not any(map(has, figure["data"] + shapes))
    ]
    found += [f"opaque area {shape['fillcolor']}" for shape in shapes if opaque(shape)]
    found += [
        f"menu called {name}" for name, count in Counter(map(label, layout.get("updatemenus", []))).items() if count > 1
    ]
    found += TIGHT.findall(f"{text} {json.dumps(figure)}")
    return found + ["menu"] * ("menu" in text and not layout.get("updatemenus"))


def label(menu: dict[str, Any]) -> str:
    """As the page's script writes it."""
    return menu.get("name", "Show")


def opaque(shape: dict[str, Any]) -> bool:
    """Whether an area hides the ground of the theme, so that texts in it are seen on a light or a dark page alone."""
    fill = shape.get("fillcolor", "rgba(0, 0, 0, 0)")
    alpha = float(fill.rstrip(")").split(",")[-1]) if fill.startswith("rgba") else 1.0
    return alpha * shape.get("opacity", 1.0) > 0.35


def titles_of(layout: dict[str, Any]) -> Iterator[str]:
    yield from (note["text"] for note in layout.get("annotations", []) if "text" in note)
    for name, axis in layout.items():
        if re.match(r"[xyz]axis", name) and (title := axis.get("title", {}).get("text")):
            yield title


def rows_of(figure: dict[str, Any]) -> set[float]:
    """The upper ends of the panels, and of what is drawn without axes."""
    layout = figure["layout"]
    ends = {axis["domain"][1] for name, axis in layout.items() if name.startswith("yaxis") and "domain" in axis}
    ends |= {layout[name]["domain"]["y"][1] for name in layout if name.startswith("polar") and "domain" in layout[name]}
    return {round(end, 2) for end in ends}


def words_for(color: str) -> set[str]:
    """The words that a color may be called by.

    >>> words_for("#0072B2"), words_for("rgba(128, 128, 128, 0.13)")
    ({'blue'}, {'gray'})
    """
    if color.startswith("#"):
        red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    else:
        red, green, blue = (float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3])
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if saturation < 0.15:
        return {"black"} if value < 0.25 else {"gray"} if value < 0.9 else set()
    return {word for word, (low, high) in HUES.items() if low <= 360 * hue <= high}
