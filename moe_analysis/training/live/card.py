"""The panel as HTML, for a notebook: light or dark as the page, and as narrow as a phone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ...cards.charts import spark_bars, spark_curve
from ...cards.templates import environment, inline
from ..run_files import FAILED, FINISHED, RUNNING
from .facts import Fact, facts_of, kept_rows, pace, summary, time_of
from .progress import WAITING, RunProgress

HERE = Path(__file__).parent
MOST_ROWS = 12  # of a sweep that are shown, the running ones first
BADGES = {FINISHED: "yes", FAILED: "no", RUNNING: "now"}  # state -> class in panel.css; others are absent
IN_ROWS = ("loss", "gate entropy", "busiest expert", "dead experts")  # what a row of several has room for


def panel_html(rows: Sequence[RunProgress]) -> str:
    """One run in full, or a row for each of several that have begun, and a summary."""
    several = len(rows) > 1
    begun = [row for row in rows if row.state != WAITING] if several else rows
    kept = kept_rows(begun, MOST_ROWS)
    return template().render(
        style=style(),
        runs=[described(row, several) for row in kept],
        summary=summary(rows, len(begun) - len(kept)) if several else "",
    )


@cache
def template() -> Any:
    return environment(HERE).get_template("panel.html")


@cache
def style() -> Any:
    """For the inside of one rule, so that it reaches nothing else on the page."""
    from markupsafe import Markup

    colors, base = (str(inline(f"{name}.css")) for name in ("colors", "notebook"))
    return Markup("\n".join([colors.replace(":root", "&"), base, (HERE / "panel.css").read_text("utf-8")]))


def described(row: RunProgress, short: bool) -> dict[str, Any]:
    live = row.live
    facts = facts_of(live) if live is not None and live.points else []
    return {
        "name": row.name,
        "state": row.state,
        "badge": BADGES.get(row.state, "absent"),
        "share": 100 * row.step / max(1, row.steps),
        "step": row.step,
        "steps": row.steps,
        "pace": f"{row.step}/{row.steps}" + (f" · {time}" if (time := time_of(row)) else "") if short else pace(row),
        "tests": "" if row.loss is None or not short else f"test loss {row.loss:.3f}, accuracy {row.accuracy:.3f}",
        "facts": [drawn(fact) for fact in facts if not short or fact.label in IN_ROWS],
    }


def drawn(fact: Fact) -> dict[str, Any]:
    """A fact as the template takes it, with its curve or bars."""
    told = f"{fact.label} {fact.value}, {fact.note}" if fact.value else f"{fact.label}, {fact.note}"
    picture = (spark_bars if fact.shares else spark_curve)(fact.values, told)
    return {"label": fact.label, "value": fact.value, "note": fact.note, "picture": picture}
