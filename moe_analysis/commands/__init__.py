"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from . import figures, results, runs, sweep, train, verify
from .options import page
from .program import DEBUG_VARIABLE, MEANING, SCRIPT, Command, Program
from .terminal import answer

__all__ = ["app"]

HELP = page(
    f"""
    Train mixtures of low-rank experts, regenerate the papers' figures, check their theorems.

    Every command has its own help page: what it reads and writes, examples, options. Results go to stdout, progress and
    errors to stderr. Ctrl-C stops cleanly and prints how to resume.

    Run [cyan]{SCRIPT} --install-completion[/] once, and your shell completes commands, options, figures and runs of
    {SCRIPT}, which is the same program. It cannot complete the words after python -m.
    """,
    examples=["figures --only trex_fig2", "verify", "train config.json", "sweep grid.yaml --workers 2", "runs --help"],
    exits=MEANING,
)

app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=HELP,
)
app.command(cls=Command, help=figures.HELP)(figures.figures)
app.command(cls=Command, help=verify.HELP)(verify.verify)
app.command(cls=Command, help=train.HELP)(train.train)
app.command(cls=Command, help=sweep.HELP)(sweep.sweep)
app.command(cls=Command, help=train.WATCH_HELP)(train.watch)
app.add_typer(runs.app, name="runs")
app.add_typer(results.app, name="results")
app.command(cls=Command, help=figures.GALLERY_HELP)(figures.gallery)


def version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        answer(f"moe_analysis {version('moe_analysis')}")
        raise typer.Exit


@app.callback()
def before_the_command(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show tracebacks of errors and warnings of libraries."),
    ] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the program, before the command; `Program` reads them."""
