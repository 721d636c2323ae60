"""Claims as cards, on the pages of figures and in the gallery: the verdict, and the interval drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .charts import svg
from .whose import whose

if TYPE_CHECKING:
    from markupsafe import Markup

# verdict -> (class in cards.css, mark that shows it without color)
MARKS = {
    "reproduced": ("yes", "✓"),
    "holds": ("yes", "✓"),
    "supported": ("yes", "✓"),
    "in part": ("open", "◐"),
    "not reproduced": ("no", "✗"),
    "contradicted": ("no", "↯"),
    "fails": ("no", "✗"),
    "not supported": ("no", "✗"),
    "undecided": ("open", "?"),
    "not testable here": ("open", "–"),
}
CLAIM_FIELDS = ("source", "claim", "paper", "measured", "spread", "verdict")
NUMBERS = ("effect", "low", "high", "smallest", "paper_effect", "confidence")
AXIS = 26  # pixels from the top of a drawn interval


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored claim as the cards show it: six texts, and kind, whose, note and more, which may be missing.

    A claim written by hand has only texts, and one stored before a reproduction's claims were counted separately has kind
    "paper" and its source.

    Args:
        row: source, claim, paper, measured, spread, verdict, and what else `evidence.described` gives.

    >>> brief = {"source": "beyond Fig. 2", "claim": "a", "paper": None, "measured": 2, "spread": "", "verdict": "undecided"}
    >>> shown(brief)["paper"], shown(brief)["measured"], shown(brief)["whose"], shown(brief)["low"]
    ('–', '2', 'own', None)
    """
    texts = {field: text(row[field]) for field in CLAIM_FIELDS}
    by = row.get("whose") or whose(row.get("kind"), texts["source"], texts["claim"])
    return {
        **texts,
        "name": row.get("name") or f"{texts['source']}: {texts['claim']}",
        "kind": row.get("kind") or by,
        "whose": by,
        **{name: row.get(name) or "" for name in ("compares", "endpoint", "note")},
        **{name: row.get(name) for name in NUMBERS},
        "parts": [shown(part) for part in row.get("parts") or ()],
    }


def text(value: Any) -> str:
    """A claim's value for a reader; a dash if it was not measured."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def slug(verdict: str) -> str:
    """
    >>> slug("not reproduced")
    'not-reproduced'
    """
    return verdict.replace(" ", "-")


def over(claim: Mapping[str, Any]) -> str:
    """What an interval is over, as `evidence.described` gives it: "3 seeds"."""
    return str(claim["spread"]).rpartition(" over ")[2]


def interval(claim: Mapping[str, Any]) -> Markup:
    """The effect with its interval, zero, the smallest effect that matters and the paper's, drawn as an SVG.

    Args:
        claim: as `evidence.described` gives it. Empty where it has no interval.
    """
    from markupsafe import Markup

    low, high, effect = claim["low"], claim["high"], claim["effect"]
    if low is None or high is None or not isinstance(effect, int | float):
        return Markup("")
    smallest, paper = claim["smallest"], claim["paper_effect"]
    shown = [0.0, low, high, effect, *(value for value in (smallest, paper) if value is not None)]
    least, reach = min(shown), max(shown) - min(shown) or 1.0

    def at(value: float) -> str:
        return f"{6 + 88 * (value - least) / reach:.2f}%"

    confidence = 100 * (claim["confidence"] or 0.95)
    told = [f"Effect {effect:.3g}, {confidence:.3g} % interval {low:.3g} to {high:.3g}"]
    parts = [
        f'<line class="axis" x1="0" x2="100%" y1="{AXIS}" y2="{AXIS}"/>',
        f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="14" y2="38"/>',
        f'<text x="{at(0)}" y="51" text-anchor="middle">0</text>',
    ]
    if smallest is not None:
        told.append(f"the smallest effect that matters is {smallest:.3g}")
        parts.append(f'<line class="matters" x1="{at(smallest)}" x2="{at(smallest)}" y1="14" y2="38"/>')
        anchor = "end" if (smallest - least) / reach > 0.6 else "start"
        parts.append(f'<text x="{at(smallest)}" y="10" text-anchor="{anchor}">matters from {smallest:.3g}</text>')
    parts += [
        f'<line class="reach" x1="{at(low)}" x2="{at(high)}" y1="{AXIS}" y2="{AXIS}"/>',
        f'<circle class="effect" cx="{at(effect)}" cy="{AXIS}" r="6"/>',
    ]
    if paper is not None:
        told.append(f"the {'reproduction' if claim['whose'] == 'reproduction' else 'paper'}'s effect is {paper:.3g}")
        parts.append(f'<text class="paper" x="{at(paper)}" y="{AXIS + 6}" text-anchor="middle">◇</text>')
    return svg(f"interval {MARKS[claim['verdict']][0]}", parts, f"{'; '.join(told)}.", 'width="100%" height="54"')
