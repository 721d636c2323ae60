"""All gates of one token: as text for a hover label, and as an HTML card."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from ...drawing.style import BASE, DARK, LIGHT, text_on
from ..records import layer_title
from .measure_tokens import NONE, NodesOf, RoutedBy, RoutedTokens

COLORS = LIGHT + BASE + DARK
UNROUTED = "#E4E4E0"
MOST_LISTED = 8  # experts of a list of gates
MOST_LEAVES = 16  # of a drawn tree; wider ones are cut


def expert_color(expert: int) -> str:
    """The color of an expert's number; colors repeat after 24, and gray means no expert."""
    return UNROUTED if expert < 0 else COLORS[expert % len(COLORS)]


def hover_text(found: RoutedTokens, name: str, token: int) -> str:
    """A token's gates in one router, as lines of monospaced text separated by `<br>`."""
    router = found.routers[name]
    gates, piece = router.gates[token], found.tokens["piece"].iloc[token]
    strongest = int(router.strongest[token])
    head = f"<b>{escape(str(piece))}</b> takes expert {router.name(strongest)}, {gate_word(router, token)}"
    if strongest == NONE:
        head = f"<b>{escape(str(piece))}</b> takes no expert"
    nodes = found.trees.get(router.module)
    if nodes:
        return "<br>".join([head, "its tree, with scores:", *tree_lines(nodes, token)])
    if router.matrix:
        return "<br>".join([head, *matrix_lines(gates.reshape(router.matrix))])
    return "<br>".join([head, *listed_lines(router, token)])


def gate_word(router: RoutedBy, token: int) -> str:
    return f"gate {router.gates[token][max(0, int(router.strongest[token]))]:.3g}"


def listed(router: RoutedBy, token: int) -> list[tuple[int, float]]:
    """(expert, gate) of the gates that are not zero, sorted by absolute value, largest first."""
    gates = router.gates[token]
    order = np.argsort(-np.abs(gates), kind="stable")
    return [(int(expert), float(gates[expert])) for expert in order if gates[expert] != 0]


def listed_lines(router: RoutedBy, token: int) -> list[str]:
    gates = listed(router, token)
    lines = [f"expert {router.name(expert)}: {gate:.3f}" for expert, gate in gates[:MOST_LISTED]]
    return [*lines, f"and {len(gates) - MOST_LISTED} smaller gates"] if len(gates) > MOST_LISTED else lines


def matrix_lines(gates: np.ndarray) -> list[str]:
    """Rows are down vectors i, columns up vectors j."""
    head = "i \\ j " + "".join(f"{j:>7}" for j in range(gates.shape[1]))
    rows = [f"{i:>5} " + "".join(f"{gate:>7.3g}" for gate in row) for i, row in enumerate(gates)]
    return [line.replace(" ", "&nbsp;") for line in (head, *rows)]


def tree_lines(nodes: list[NodesOf], token: int, layer: int | None = None, parent: int = 0) -> list[str]:
    """The nodes below one parent, one line per node, with their children indented."""
    layer = len(nodes) - 1 if layer is None else layer
    here = nodes[layer]
    lines = []
    for child, (expert, score) in enumerate(zip(here.ids[token, parent], here.scores[token, parent])):
        depth = "&nbsp;&nbsp;" * (len(nodes) - 1 - layer)
        lines.append(f"{depth}└ {expert} of pool {layer}: {score:.3f}")
        if layer:
            lines += tree_lines(nodes, token, layer - 1, parent * here.ids.shape[2] + child)
    return lines


def card(found: RoutedTokens, name: str, token: int) -> str:
    """HTML: the token, its expert, and all its gates as a matrix, a tree or bars."""
    router = found.routers[name]
    strongest = int(router.strongest[token])
    piece = escape(str(found.tokens["piece"].iloc[token]))
    taken = "takes no expert" if strongest == NONE else f"takes expert {router.name(strongest)}"
    head = f"<b>{piece}</b> {taken} in {escape(layer_title(router.layer))}, {escape(router.place)}"
    nodes = found.trees.get(router.module)
    if nodes:
        body = tree_picture(nodes, token)
    elif router.matrix:
        body = matrix_table(router.gates[token].reshape(router.matrix), strongest)
    else:
        body = bars(router, token)
    return f'<span class="moe-card" role="note">{head}{body}</span>'


def matrix_table(gates: np.ndarray, strongest: int) -> str:
    """The I × J gates: rows are down vectors, columns up vectors; darker is larger."""
    largest = np.abs(gates).max() or 1.0
    head = "".join(f"<th>{j}</th>" for j in range(gates.shape[1]))
    rows = []
    for i, row in enumerate(gates):
        cells = []
        for j, gate in enumerate(row):
            mark = "outline:2px solid #1d2129;outline-offset:-2px;" if i * gates.shape[1] + j == strongest else ""
            shade = 0.75 * abs(float(gate)) / largest
            cells.append(f'<td style="{mark}background:rgba(0,114,178,{shade:.2f})">{gate:.2g}</td>')
        rows.append(f"<tr><th>{i}</th>{''.join(cells)}</tr>")
    return f"<table><tr><th>i \\ j</th>{head}</tr>{''.join(rows)}</table>"


def bars(router: RoutedBy, token: int) -> str:
    """The gates that are not zero as bars, the largest first."""
    gates = listed(router, token)
    largest = max((abs(gate) for _, gate in gates), default=1.0)
    rows = [
        f"<tr><th>{router.name(expert)}</th><td>{gate:.3f}</td>"
        f'<td class="moe-bar"><i style="width:{100 * abs(gate) / largest:.0f}%;background:{expert_color(expert)}"></i>'
        "</td></tr>"
        for expert, gate in gates[:MOST_LISTED]
    ]
    more = (
        f"<tr><td colspan=3>and {len(gates) - MOST_LISTED} smaller gates</td></tr>" if len(gates) > MOST_LISTED else ""
    )
    return f'<table class="moe-list">{"".join(rows)}{more}</table>'


def tree_picture(nodes: list[NodesOf], token: int) -> str:
    """The tree as an inline SVG: experts at the nodes, scores on the edges, the output on top."""
    layers = len(nodes)
    counts = [layer.ids[token].size for layer in nodes]
    leaves, step, high = counts[0], 62, 56
    width, height = step * max(2, min(leaves, MOST_LEAVES)), high * layers + 34
    spots: list[Any] = [None] * (layers + 1)
    spots[0] = (np.arange(leaves) + 0.5) / leaves * width
    for layer in range(layers):
        spots[layer + 1] = spots[layer].reshape(-1, nodes[layer].ids.shape[2]).mean(1)
    edges, marks = [], [mark(spots[layers][0], 16, "x′", "#D9D9D9")]
    for layer in range(layers - 1, -1, -1):
        y = 16 + high * (layers - layer)
        ids, scores = nodes[layer].ids[token].reshape(-1), nodes[layer].scores[token].reshape(-1)
        fanout = nodes[layer].ids.shape[2]
        for number, (expert, score) in enumerate(zip(ids, scores)):
            x, above = spots[layer][number], spots[layer + 1][number // fanout]
            thick = 1 + 4 * min(1.0, abs(float(score)))
            edges.append(
                f'<line x1="{above:.1f}" y1="{y - high}" x2="{x:.1f}" y2="{y}" stroke="#9a9a9a" stroke-width="{thick:.1f}"/>'
            )
            marks.append(mark(x, y, str(int(expert)), expert_color(int(expert))))
            if leaves <= MOST_LEAVES // 2 or layer:
                marks.append(
                    f'<text x="{(x + above) / 2:.1f}" y="{y - high / 2 + 3:.1f}" font-size="10" text-anchor="middle" '
                    f'stroke="#fff" stroke-width="3" paint-order="stroke" fill="#1d2129">{score:.2f}</text>'
                )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="tree of experts">'
        f"{''.join(edges)}{''.join(marks)}</svg>"
    )


def mark(x: float, y: float, label: str, color: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y}" r="12" fill="{color}" stroke="#3a3a3a"/>'
        f'<text x="{x:.1f}" y="{y + 4}" font-size="11" text-anchor="middle" fill="{text_on(color)}">{label}</text>'
    )
