"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import completion

OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", envvar="MOE_ANALYSIS_RUNS", help="Folder of the runs.")
]
# of a command inside `runs`, which takes the folder in either place
InnerOutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Folder of the runs.", show_default="runs, or $MOE_ANALYSIS_RUNS"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
IdsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="Ids as `runs` lists them; a beginning, the hash at the end, or a pattern such as 'T-REX*' will do.",
        autocompletion=completion.run_ids,
        show_default=False,
    ),
]
StatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        autocompletion=completion.states,
        show_default=False,
        help=f"Only runs in this state: {', '.join(completion.STATES)}. Repeat for several.",
    ),
]
