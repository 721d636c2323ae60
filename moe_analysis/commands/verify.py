"""`verify`: check the papers' theorems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from .options import JsonOption, check_folder, exits_of, page
from .program import BAD, FAILED, FINE, INTERRUPTED
from .terminal import counted, emit, note, records, results, show, spinner, table

HELP = page(
    """
    Check the papers' theorems, lemmas and formulas of cost.

    Computes every statement on the real modules and compares it with what the paper says. Writes no file without --save.
    Takes about a minute.
    """,
    examples=["verify", "verify --only 'smore_*'", "verify --json > claims.json", "verify --save figures"],
    exits=exits_of(FINE, BAD, INTERRUPTED, own={FAILED: "a claim does not hold"}),
)

VERDICTS = {True: "[green]yes[/]", False: "[red]no[/]"}


def verify(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A claim's name, or a pattern such as 'trex_*'; repeat for several.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Save the verdicts in FOLDER/verify.csv for `papers.table`. With --only, the others in it stay.",
        ),
    ] = None,
) -> None:
    """Check the claims of `only`; see HELP."""
    if save is not None:
        check_folder("--save", save)  # a minute before it is needed
    claims = checked(only)
    if save is not None:
        stored(claims, save, only is not None)
    if as_json:
        emit(records(claims))
    else:
        show(claims_table(claims))
        failed = int((~claims["holds"]).sum())
        note(f"{len(claims) - failed} of {len(claims)} claims hold", style="red" if failed else "green")
    raise typer.Exit(FINE if claims["holds"].all() else FAILED)


def stored(claims: Any, folder: Path, only_some: bool) -> None:
    """Write one row per claim; if only some claims were checked, the rows of the others stay as they are."""
    import pandas as pd

    from ..atomic import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "verify.csv"
    rows = claims[["name", "source", "statement"]].assign(verdict=claims["holds"].map({True: "holds", False: "fails"}))
    if only_some and path.is_file():
        every = pd.concat([pd.read_csv(path), rows])
        rows = every.drop_duplicates("name", keep="last").set_index("name").loc[every["name"].unique()].reset_index()
    write_whole(path, rows.to_csv(index=False).encode())


def checked(only: list[str] | None) -> Any:
    """The frame of `theory.verify`, with a bar over the claims."""
    with spinner("loading torch"):
        import pandas as pd

        from ..theory import verify as check
        from ..theory.claim import selected

    names = selected(only)
    return pd.concat([check(name) for name in counted(names)], ignore_index=True)


def claims_table(claims: Any) -> Any:
    """A claim a row; in a terminal all that is said of it stands below its name: wide tables cannot be read there."""
    if not results.is_terminal:
        return wide_table(claims)
    listed = table("holds", "claim")
    for claim in claims.itertuples():
        numbers = f"measured {claim.measured}, expected {claim.expected}, residual {claim.residual:.2g}"
        lines = (f"[cyan]{claim.name}[/] [dim]{escape(claim.source)}[/]", escape(claim.statement), escape(numbers))
        listed.add_row(VERDICTS[claim.holds], "\n".join(lines))
        listed.add_section()
    return listed


def wide_table(claims: Any) -> Any:
    listed = table("claim", "source", "statement", "measured", "expected", "residual", "holds", numbers=("residual",))
    for claim in claims.itertuples():
        texts = (claim.name, claim.source, claim.statement, str(claim.measured), str(claim.expected))
        listed.add_row(*map(escape, texts), f"{claim.residual:.2g}", VERDICTS[claim.holds])
    return listed
