"""A text whose tokens have the colors of their experts, and the paths of tokens through the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from ...drawing.layout import arranged
from ...drawing.marks import menu_of
from ...drawing.style import FULL_WIDTH, figure, note_below, text_on, use_style
from ...evidence import counted
from ..optimizers.draw import spread_out
from ..records import layer_title
from .draw_gates import expert_color, hover_text
from .draw_one_token import draw_gates, has_form
from .measure_tokens import NONE, RoutedBy, RoutedTokens

OTHERS = -2  # experts that are not shown separately
MOST_BARS = 8  # experts of a layer with their own bars
COLUMNS, PHONE_COLUMNS = 96, 46  # characters per line of the picture, and of a page on a phone
LINE, GAP = 0.17, 0.04  # height of a line of text in inches; gap between bars, relative to the flow's height
KEY = 1.3  # lines above the texts for the key of colors
MOST_KEYS = 12  # experts in the key
BETWEEN_NAMES = 0.042  # distance between the names of two bars, relative to the flow's height
MOST_TEXTS = 12  # texts in a picture
MOST_NAMED = 12  # layers; with more, there is no room for the names of experts
NAMES = 24  # pixels of the layers' names below the flow of a page
MOST_TITLES = 7  # layers; with more, only their numbers fit next to each other


@dataclass(frozen=True)
class Placed:
    """The place of a token in characters and lines; `shown` is its text with visible white space."""

    token: int
    line: int
    start: int
    shown: str


def set_in_lines(tokens: pd.DataFrame, columns: int) -> list[Placed]:
    """Tokens in lines of at most `columns` characters; each text starts a new line. Longer tokens end with an ellipsis.

    A line breaks at a newline in the text, or before a token that does not fit.
    """
    placed: list[Placed] = []
    line, at, row = -1, 0, None
    for token, (own, space, piece) in enumerate(zip(tokens["row"], tokens["space"], tokens["piece"])):
        shown = piece.replace("\n", "⏎").replace("\t", "⇥")
        shown = shown if len(shown) <= columns else shown[: columns - 1] + "…"
        begins = own != row
        lead = 0 if begins else min(len(space), 1)
        if begins or at + lead + len(shown) > columns or "\n" in space:
            line, at, lead, row = line + 1 + (begins and row is not None), 0, 0, own
        placed.append(Placed(token, line, at + lead, shown))
        at += lead + len(shown)
    return placed


def plot(found: RoutedTokens, ax: Axes | None = None) -> Figure | Axes:
    """The texts in the colors of one router, and the flow of their tokens through the layers.

    Below them, if they have a structure, all gates of one token, also for the results in `beside`. With `ax`, only the
    texts.
    """
    name = found.middle
    if ax is not None:
        return draw_texts(ax, found, name)
    lines = 1 + max((one.line for one in set_in_lines(shown_tokens(found), COLUMNS)), default=0)
    flows = len(found.at(found.routers[name].place)) > 1
    formed = [one for one in (found, *found.beside) if has_form(one)]
    heights = [0.35 + LINE * (lines + KEY), *[2.6] * flows, *[2.1] * bool(formed)]
    with use_style():
        fig = figure(FULL_WIDTH, sum(heights) + 0.55)
        rows = fig.add_gridspec(len(heights), 1, height_ratios=heights)
        draw_texts(fig.add_subplot(rows[0]), found, name)
        if flows:
            draw_flow(fig.add_subplot(rows[1]), found, found.routers[name].place)
        inside = rows[-1].subgridspec(1, max(1, len(formed)))
        for number, one in enumerate(formed):
            draw_gates(fig.add_subplot(inside[number]), one, name if one is found else one.middle)
        note_below(fig, note(found, formed))
    return fig


def note(found: RoutedTokens, formed: Sequence[RoutedTokens] = ()) -> str:
    """Whose routers are drawn, and what numbers and colors mean."""
    known = found.sample or found.runs  # then the note begins with the model
    text = (
        "Models of other seeds or systems route differently. A number is an expert of one router; across layers, numbers "
        "and colors mean nothing."
    )
    if not known:
        text = f"One model, {found.label}. {text}"
    labels = " and ".join(one.label for one in formed)
    told = f"{text} Last row: all gates of one token in {labels}." if formed else text
    return found.note(told) if known else told


def shown_tokens(found: RoutedTokens) -> pd.DataFrame:
    """The tokens of the first texts, with their index among all tokens."""
    return found.tokens[found.tokens["row"].lt(MOST_TEXTS)]


def draw_texts(panel: Any, found: RoutedTokens, name: str) -> Axes:
    """The texts as boxes in the colors of their strongest experts in the named router."""
    router, tokens = found.routers[name], shown_tokens(found)
    placed = set_in_lines(tokens, COLUMNS)
    draw_key(panel, router, {int(router.strongest[token]) for token in tokens.index})
    for one in placed:
        expert = int(router.strongest[tokens.index[one.token]])
        color = expert_color(expert)
        panel.barh(
            -one.line, len(one.shown), left=one.start, height=0.78, color=color, edgecolor="white", linewidth=0.6
        )
        panel.text(
            one.start + len(one.shown) / 2,
            -one.line,
            one.shown,
            family="monospace",
            fontsize=6.6,
            ha="center",
            va="center",
            color=text_on(color),
            parse_math=False,
        )
    panel.set_xlim(0, COLUMNS)
    panel.set_ylim(-max((one.line for one in placed), default=0) - 0.6, 0.6 + KEY)
    panel.axis("off")
    panel.set_title(f"{found.label}: strongest expert of each token in {layer_title(router.layer)}, {router.place}")
    return panel


def draw_key(panel: Any, router: RoutedBy, taken: set[int]) -> None:
    """Above the texts, one box per expert (of many, only the used ones), and one for no expert if it occurs."""
    count = router.gates.shape[1]
    experts = list(range(count)) if count <= MOST_KEYS else sorted(taken - {NONE})
    labels = {expert: router.name(expert) for expert in experts[:MOST_KEYS]}
    labels |= {NONE: "no expert"} if NONE in taken else {}
    at = 8.0
    panel.text(0, KEY, "expert", fontsize=6.6, va="center")
    for expert, label in labels.items():
        width, color = len(label) + 2.0, expert_color(expert)
        panel.barh(KEY, width, left=at, height=0.78, color=color, edgecolor="white", linewidth=0.6)
        panel.text(at + width / 2, KEY, label, fontsize=6.6, ha="center", va="center", color=text_on(color))
        at += width + 0.6
    if len(experts) > MOST_KEYS:
        panel.text(at + 0.6, KEY, f"and {len(experts) - MOST_KEYS} more", fontsize=6.6, va="center")


def bars_of(found: RoutedTokens, place: str) -> list[pd.DataFrame]:
    """For every layer with a router at the place: expert, tokens, bottom, top of the bars of its busiest experts.

    Experts beyond MOST_BARS are combined as OTHERS. The heights of a layer's bars sum to 1 minus the gaps.
    """
    layers = []
    for router in found.at(place).values():
        counts = pd.Series(router.strongest).value_counts()
        kept = counts.iloc[: MOST_BARS - (len(counts) > MOST_BARS)].sort_index()
        if len(counts) > len(kept):
            kept = pd.concat([kept, pd.Series({OTHERS: counts.sum() - kept.sum()})])
        share = kept.to_numpy() / counts.sum() * (1 - GAP * (len(kept) - 1))
        top = 1 - np.concatenate([[0.0], np.cumsum(share + GAP)[:-1]])
        layers.append(
            pd.DataFrame({"expert": kept.index, "tokens": kept.to_numpy(), "bottom": top - share, "top": top})
        )
    return layers


def ribbons_of(found: RoutedTokens, place: str) -> list[pd.DataFrame]:
    """For every pair of consecutive layers: expert, to_expert, tokens of the flow between the bars of `bars_of`."""
    folded = [
        np.where(np.isin(router.strongest, bars["expert"]), router.strongest, OTHERS)
        for bars, router in zip(bars_of(found, place), found.at(place).values())
    ]
    pairs = [pd.DataFrame({"expert": one, "to_expert": other}) for one, other in zip(folded, folded[1:])]
    return [pair.value_counts(sort=False).sort_index().rename("tokens").reset_index() for pair in pairs]


def draw_flow(panel: Any, found: RoutedTokens, place: str) -> Axes:
    """Bars of the experts of every layer, and ribbons of the tokens between them."""
    layers, width = bars_of(found, place), 0.09
    total = int(layers[0]["tokens"].sum())
    for number, bars in enumerate(layers):
        for bar in bars.itertuples():
            height = bar.top - bar.bottom
            panel.bar(number, height, width, bottom=bar.bottom, color=expert_color(bar.expert), linewidth=0)
        if len(layers) <= MOST_NAMED:
            router, middles = list(found.at(place).values())[number], (bars["bottom"] + bars["top"]) / 2
            for expert, y in zip(bars["expert"], spread_out(middles.to_numpy(), BETWEEN_NAMES)):
                label = bar_name(router, expert)
                panel.text(number + width * 0.65, y, label, fontsize=6.6, ha="left", va="center")
    for number, ribbons in enumerate(ribbons_of(found, place)):
        ends = [dict(zip(bars["expert"], bars["top"])) for bars in layers[number : number + 2]]
        scales = [(bars["top"] - bars["bottom"]).sum() / total for bars in layers[number : number + 2]]
        for one in ribbons.itertuples():
            left, right = ends[0][one.expert], ends[1][one.to_expert]
            down = [one.tokens * scale for scale in scales]
            ends[0][one.expert], ends[1][one.to_expert] = left - down[0], right - down[1]
            start, stop = number + width / 2, number + 1 - width / 2
            middle = (start + stop) / 2
            curve = [(start, left), (middle, left), (middle, right), (stop, right)]
            back = [
                (stop, right - down[1]),
                (middle, right - down[1]),
                (middle, left - down[0]),
                (start, left - down[0]),
            ]
            codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3]
            shape = Path([*curve, *back], codes)
            panel.add_patch(PathPatch(shape, facecolor=expert_color(one.expert), alpha=0.38, linewidth=0, zorder=0))
    panel.set_xlim(-0.15, len(layers) - 0.7)
    panel.set_ylim(0, 1)
    panel.set_xticks(range(len(layers)), layer_names(list(found.at(place))))
    panel.set_yticks([])
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.tick_params(length=0)
    panel.set_title(f"{counted(total, 'token')} through {place}")
    return panel


def layer_names(layers: Sequence[str], most: int = 24) -> list[str]:
    """ "layer 3" for every layer; only the number if there are many, and empty if there is no room."""
    titles = [layer_title(layer) for layer in layers]
    if len(titles) > MOST_TITLES:
        titles = [title.removeprefix("layer ") for title in titles]
    stride = -(-len(titles) // most)
    return [title if number % stride == 0 else "" for number, title in enumerate(titles)]


def bar_name(router: RoutedBy, expert: int) -> str:
    return "others" if expert == OTHERS else "no expert" if expert == NONE else router.name(expert)


def interactive(found: RoutedTokens) -> go.Figure:
    """The texts in the colors of the router that a list chooses, and the flow at its place; hover shows all gates."""
    tokens = shown_tokens(found)
    placed = set_in_lines(tokens, PHONE_COLUMNS)
    lines = 1 + max(one.line for one in placed)
    flowing = [place for place in found.places if len(found.at(place)) > 1]
    traces = [text_trace(found, name, tokens, placed) for name in found.routers]
    traces += [flow_trace(found, place) for place in flowing]
    first = list(found.routers).index(found.middle)
    menu = {}
    for name, router in found.routers.items():
        shown = [other == name for other in found.routers] + [place == router.place for place in flowing]
        menu[f"{layer_title(router.layer)}, {router.place}"] = [{"visible": shown}]
    chosen = [name == found.middle for name in found.routers] + [place == found.places[0] for place in flowing]
    for trace, visible in zip(traces, chosen):
        trace.visible = visible
    flow_height = 340 if flowing else 0
    text_height = 24 * lines
    floor = NAMES / (flow_height + text_height + 40)
    below = flow_height / (flow_height + text_height + 40) if flowing else 0.0
    for trace in traces[len(found.routers) :]:
        trace.domain = {"x": [0, 1], "y": [floor, max(floor + 0.05, below - 0.06)]}
    fig = go.Figure(traces)
    fig.update_xaxes(visible=False, range=[0, PHONE_COLUMNS], fixedrange=True)
    fig.update_yaxes(visible=False, range=[lines - 0.4, -0.6], fixedrange=True, domain=[min(0.95, below), 1])
    ladders: list[tuple[str, ...]] = list({tuple(found.at(place)) for place in flowing})
    if len(ladders) == 1:  # otherwise no name would be right for all
        layers = ladders[0]
        for number, title in enumerate(layer_names(layers, most=12)):
            place = number / (len(layers) - 1)
            anchor = "left" if place == 0 else "right" if place == 1 else "center"
            fig.add_annotation(
                text=title, x=place, y=0, xref="paper", yref="paper", xanchor=anchor, yanchor="bottom", showarrow=False
            )
    return arranged(
        fig,
        note(found),
        title={"text": found.title},
        height=flow_height + text_height + 140,
        barmode="overlay",
        bargap=0.12,
        showlegend=False,
        updatemenus=[menu_of("Router", menu, "restyle") | {"active": first}],
    )


def text_trace(found: RoutedTokens, name: str, tokens: pd.DataFrame, placed: Sequence[Placed]) -> Any:
    """The tokens of all texts as bars in the colors of one router."""
    router = found.routers[name]
    experts = [int(router.strongest[tokens.index[one.token]]) for one in placed]
    colors = [expert_color(expert) for expert in experts]
    return go.Bar(
        orientation="h",
        base=[one.start for one in placed],
        x=[len(one.shown) for one in placed],
        y=[one.line for one in placed],
        width=0.84,
        marker={"color": colors, "line": {"width": 1, "color": "rgba(255,255,255,0.6)"}},
        text=[one.shown.replace("<", "&lt;") for one in placed],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        insidetextfont={"family": "monospace", "size": 12, "color": [text_on(color) for color in colors]},
        hovertext=[hover_text(found, name, int(tokens.index[one.token])) for one in placed],
        hoverinfo="text",
        hoverlabel={"bgcolor": "#ffffff", "font": {"family": "monospace", "size": 12, "color": "#1d2129"}},
    )


def flow_trace(found: RoutedTokens, place: str) -> Any:
    """The flow at one place as plotly's Sankey diagram."""
    layers, ladder = bars_of(found, place), list(found.at(place).values())
    number = {
        (layer, expert): place
        for place, (layer, expert) in enumerate((at, one) for at, bars in enumerate(layers) for one in bars["expert"])
    }
    labels = [bar_name(ladder[layer], expert) for layer, expert in number]
    titles = [layer_title(ladder[layer].layer) for layer, _ in number]
    links = [(at, link) for at, ribbons in enumerate(ribbons_of(found, place)) for link in ribbons.itertuples()]
    return go.Sankey(
        arrangement="fixed",
        node={
            "label": labels,
            "x": [max(1e-3, min(1 - 1e-3, layer / max(1, len(layers) - 1))) for layer, _ in number],
            "y": [
                float(np.clip(1 - (bar.top + bar.bottom) / 2, 1e-3, 1 - 1e-3))
                for bars in layers
                for bar in bars.itertuples()
            ],
            "color": [expert_color(expert) for _, expert in number],
            "customdata": titles,
            "hovertemplate": "expert %{label} of %{customdata}<br>%{value} tokens<extra></extra>",
            "pad": 8,
            "thickness": 14,
            "line": {"width": 0},
        },
        link={
            "source": [number[at, link.expert] for at, link in links],
            "target": [number[at + 1, link.to_expert] for at, link in links],
            "value": [link.tokens for _, link in links],
            "color": [translucent(expert_color(link.expert)) for _, link in links],
            "hovertemplate": "%{source.label} → %{target.label}: %{value} tokens<extra></extra>",
        },
    )


def translucent(color: str) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.4)"
