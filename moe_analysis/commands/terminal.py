"""What goes where: results to stdout, all else to stderr, and with --json one document alone on stdout."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

results = Console()
notes = Console(stderr=True)


def emit(value: Any) -> None:
    """One JSON document on stdout; NaN is refused, as JSON has none."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame as JSON values; NaN becomes null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def table(*columns: str, title: str | None = None, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table without vertical lines; the columns named in `numbers` are set flush right and never broken."""
    empty = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for name in columns:
        if name in numbers:
            empty.add_column(name, justify="right", no_wrap=True)
        else:
            empty.add_column(name, overflow="fold")
    return empty


def show(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal; in a file or a pipe as wide as they are, a row a line."""
    for one in tables:
        if results.is_terminal:
            results.print(one)
        else:
            wide = Console(width=10_000)
            wide.print(one, width=Measurement.get(wide, wide.options, one).maximum, highlight=False)


def answer(text: str) -> None:
    """One line of a result on stdout."""
    results.print(escape(text), highlight=False, soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """A line for a person, on stderr."""
    notes.print(escape(text), style=style, highlight=False, soft_wrap=True)


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number for a table; nothing for None and NaN."""
    if value is None or value != value:
        return ""
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
