"""A text as HTML: tokens in the colors of their experts, and the gates of the token under the pointer."""

from __future__ import annotations

from html import escape

from ...drawing.style import text_on
from .draw_gates import card, expert_color
from .measure_tokens import RoutedTokens

# The cards of all tokens are in one place below the text, so that a cell's edge cuts none off. The card of a focused
# token (by a click or the tab key) stays; that of the token under the pointer is shown above it.
STYLE = """
.moe-text{position:relative;padding:4px 0 15.5em;line-height:2.05;font:15px/2.05 ui-monospace,'DejaVu Sans Mono',monospace;
color:#1d2129;background:#fff;overflow-wrap:anywhere;white-space:pre-wrap}
.moe-token{border-radius:4px;padding:2px 1px;cursor:pointer;outline-offset:1px}
.moe-token:hover,.moe-token:focus{outline:2px solid #1d2129}
.moe-card,.moe-hint{position:absolute;left:0;right:0;bottom:0;height:15em;overflow:auto;box-sizing:border-box;padding:6px 10px;
border:1px solid #c9c9c4;border-radius:8px;background:#fff;color:#1d2129;font:13px/1.45 system-ui,'DejaVu Sans',sans-serif;
white-space:normal;cursor:default}
.moe-hint{color:#59616e;background:#fafaf7}
.moe-card{display:none}
.moe-token:focus .moe-card{display:block;z-index:1}
.moe-token:hover .moe-card{display:block;z-index:2}
.moe-card table{border-collapse:collapse;margin:6px 0 0;font-size:12px;color:#1d2129;background:none}
.moe-card td,.moe-card th{padding:2px 7px;text-align:right;border:1px solid #e4e4e0;background:none;color:#1d2129}
.moe-card .moe-list td,.moe-card .moe-list th{border:0}
.moe-card .moe-bar{width:14em;text-align:left}
.moe-card .moe-bar i{display:block;height:10px;border-radius:3px;min-width:1px}
.moe-card svg{display:block;max-width:100%;height:auto;max-height:11em;margin-top:4px}
"""
HINT = "Point at a token, or tap it, to see all its gates."


def texts_html(found: RoutedTokens) -> str:
    """All texts, one after another, in the colors of the router in the picture."""
    return "".join(text_html(found, found.middle, row) for row in range(len(found.texts)))


def text_html(found: RoutedTokens, name: str, row: int) -> str:
    """One text in the colors of the named router; a page or a cell may show several.

    Example:
        >>> html = text_html(sentence, sentence.middle, 0)
        >>> html.count('class="moe-token"') == int((sentence.tokens["row"] == 0).sum())
        True
    """
    router = found.routers[name]
    spans = []
    for token in found.tokens.index[found.tokens["row"] == row]:
        space, piece = found.tokens.loc[token, ["space", "piece"]]
        expert = int(router.strongest[token])
        color = expert_color(expert)
        said = f"{piece}: expert {router.name(expert)}" if expert >= 0 else f"{piece}: no expert"
        spans.append(
            f'{escape(space)}<span class="moe-token" tabindex="0" aria-label="{escape(said)}" '
            f'style="background:{color};color:{text_on(color)}">{escape(piece)}{card(found, name, int(token))}</span>'
        )
    return f'<style>{STYLE}</style><div class="moe-text">{"".join(spans)}<span class="moe-hint">{HINT}</span></div>'
