"""`gallery`: one page of all figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..places import figures_home
from .options import JsonOption, exits_of, page
from .program import BAD, FINE
from .terminal import answer, emit, spinner

HELP = page(
    """
    Write index.html: every figure with its claims, its numbers and where they come from.

    Reads the records (JSON) beside the figures. Writes one page that needs no network. `figures` does this too; it is
    needed alone when figures were copied or deleted by hand.
    """,
    examples=["gallery", "gallery --folder /tmp/figures"],
    exits=exits_of(FINE, **{f"code_{BAD}": "no folder, or a file in it that is no record; every such file is named"}),
)


def gallery(
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the figures are.",
            envvar="MOE_ANALYSIS_FIGURES",
            show_default="figures of the clone, or of the current folder",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the gallery of `folder`; see HELP."""
    with spinner("writing the gallery"):
        from ..gallery import build

        page = build(folder or figures_home())
    if as_json:
        emit({"gallery": str(page)})
    else:
        answer(str(page))
