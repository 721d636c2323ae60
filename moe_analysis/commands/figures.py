"""`figures`: execute the notebooks that make the papers' figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .. import figures as making
from ..figures import Item
from ..presets import PRESETS
from . import completion
from .exit_codes import BAD, FINE, INTERRUPTED
from .interrupts import kept
from .options import JsonOption
from .pages import exits_of, page
from .terminal import answer, emit, note, show, table

HELP = page(
    """
    Regenerate the papers' figures by executing their notebooks.

    Reads the suite, the backbone and the runs that are finished already, which are never trained again. Writes a PNG,
    an interactive HTML page and the numbers (JSON) of every figure, and index.html, the gallery of them all. The quick
    preset is made for two cores; long and full want more time or a GPU.

    A time left is judged by the last time, or by the cells so far where there was none. Ctrl-C ends the kernels and
    what they train; the same command goes on from there.
    """,
    examples=[
        "figures --list",
        "figures --only trex_fig2 --only gr_fig1",
        "figures --preset tiny --out /tmp/figures",
        "figures --suite my_suite --backbone my_model",
    ],
    exits=exits_of(FINE, INTERRUPTED, **{f"code_{BAD}": "bad input, or a notebook stopped"}),
)


def figures(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="A figure's id or a notebook; repeat for several. All of them without it.",
            autocompletion=completion.figure_names,
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"How much is computed: {', '.join(PRESETS)}.",
            envvar="MOE_ANALYSIS_PRESET",
            autocompletion=completion.presets,
        ),
    ] = "quick",
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="SUITE",
            help="embedded, a folder of JSONL or Parquet files, or a name inside "
            "$MOE_ANALYSIS_DATA. Figures of it go to figures/SUITE.",
            envvar="MOE_ANALYSIS_SUITE",
            show_default="embedded",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="compact, or the id or folder of a Hugging Face causal language model.",
            envvar="MOE_ANALYSIS_BACKBONE",
            show_default="compact",
        ),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where runs are kept.",
            envvar="MOE_ANALYSIS_RUNS",
            show_default="runs of the project",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where figures are written.",
            envvar="MOE_ANALYSIS_FIGURES",
            show_default="figures of the project",
        ),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List ids, titles and notebooks; make nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Regenerate the figures of `only`; see HELP."""
    from ..presets import preset as named

    items = making.choose(only or [])
    if list_only:
        listing(items, as_json)
        return
    named(preset)
    suite, out = checked_suite(suite, out)
    values = {
        "PRESET": preset,
        "SUITE": suite,
        "BACKBONE": backbone,
        "RUNS": str(runs.resolve()) if runs else None,
        "FIGURES": str(out.resolve()) if out else None,
    }
    started = time.monotonic()
    paths = executed(items, {f"MOE_ANALYSIS_{name}": value for name, value in values.items()})
    from ..gallery import build

    gallery = build(paths[0].parent)
    told(items, paths, gallery, time.monotonic() - started, as_json)


def checked_suite(suite: str | None, out: Path | None) -> tuple[str | None, Path | None]:
    """The suite as a notebook finds it from any folder, and where its figures go."""
    if not suite:
        return None, out
    from ..tasks.file_names import label_of
    from ..tasks.suite import load_suite

    load_suite(suite)  # a wrong suite is told now, not minutes into a notebook
    resolved = str(Path(suite).resolve()) if Path(suite).is_dir() else suite
    return resolved, out or making.PROJECT / "figures" / label_of(resolved)


def executed(items: list[Item], values: dict[str, str | None]) -> list[Path]:
    from ..tasks.cache import cache_folder
    from .notebook_bars import NotebookBars
    from .pace import Memory

    settings = " ".join(values[f"MOE_ANALYSIS_{name}"] or "-" for name in ("PRESET", "SUITE", "BACKBONE"))
    saved = "finished figures and runs are kept, and the other runs go on from their last checkpoints."
    with kept(saved), NotebookBars(Memory(cache_folder() / "cell_seconds.json", settings)) as bars:
        return making.regenerate(items, values, bars.on_cell, bars.on_end)


def listing(items: list[Item], as_json: bool) -> None:
    if as_json:
        emit([vars(item) for item in items])
        return
    listed = table("id", "what it shows", "notebook")
    for item in items:
        listed.add_row(f"[cyan]{item.id}[/]", item.title, item.notebook)
    show(listed)


def told(items: list[Item], paths: list[Path], gallery: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        made = [
            {**vars(item), **{suffix: str(path.with_suffix(f".{suffix}")) for suffix in ("png", "html", "json")}}
            for item, path in zip(items, paths)
        ]
        emit({"figures": made, "gallery": str(gallery), "seconds": round(seconds, 1)})
        return
    for item, path in zip(items, paths):
        answer(f"{item.title:55s} {path}")
    answer(f"{'gallery':55s} {gallery}")
    note(f"done in {seconds:.0f} s")
