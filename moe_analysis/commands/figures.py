"""`figures` and `gallery`: make the papers' figures, and the pages that show them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import figures as making
from ..cards.in_words import counted
from ..figures import Item
from ..places import IN_CLONE, USUAL_SUITE, computed_figures, figures_home
from ..presets import PRESETS
from ..presets import preset as named
from . import options
from .options import JsonOption, check_folder, exits_of, page
from .program import BAD, FINE, INTERRUPTED, kept
from .terminal import Memory, NotebookBars, answer, emit, note, show, spinner, table

if TYPE_CHECKING:
    from ..gallery.records import Record

HELP = page(
    """
    Regenerate the papers' figures by executing their notebooks.

    Reads the suite, the backbone and finished runs, which are never trained again. Writes a picture (PNG and
    PDF), an interactive HTML page and the numbers (JSON) of every figure into figures/PRESET, and figures/index.html, a
    gallery of these figures next to the shipped ones. The quick preset is made for two cores; long and full need more time or a GPU.
    An undecided claim says how many seeds would decide it.

    The time left is estimated from the previous call, or from the cells so far. Ctrl-C stops the kernels and their
    training; the same command resumes from there.
    """,
    examples=[
        "figures --list",
        "figures --only trex_fig2 --only gr_fig1",
        "figures --preset tiny --out /tmp/figures",
        "figures --only trex_fig2 --seeds 8",
        "figures --suite my_suite --backbone my_model",
        "figures --preset long --ship",
    ],
    exits=exits_of(FINE, INTERRUPTED, own={BAD: "bad input, or a notebook stopped"}),
)
GALLERY_HELP = page(
    """
    Write index.html: every figure with its claims, its numbers and where they come from.

    Reads the records (JSON) next to the figures. Writes one page that needs no network. `figures` does this too; you
    need this command only after you copied or deleted figures by hand.
    """,
    examples=["gallery", "gallery --folder /tmp/figures"],
    exits=exits_of(FINE, own={BAD: "no such folder, or files in it that are not records; each is named"}),
)


def shipped_folder(
    items: Sequence[Item], preset: str, suite: str | None, out: Path | None, seeds: int | None = None
) -> Path:
    """The folder of the shipped figures, after a check that none of them would be replaced by a smaller preset's, or by
    one of fewer seeds.

    Raises:
        ValueError: Outside a clone, together with another folder or suite, and where a figure that the items' notebooks
            would write was made with a larger preset or more seeds; it names each of them.
    """
    if not IN_CLONE:
        raise ValueError("--ship writes the figures of a clone, but this is an installed package; omit --ship")
    if out is not None:
        raise ValueError(
            f"--ship writes {figures_home()}, not --out {out} (or $MOE_ANALYSIS_FIGURES); omit one of them"
        )
    if suite not in (None, USUAL_SUITE):
        raise ValueError(f"--ship works only with the suite {USUAL_SUITE!r}, not {suite!r}; omit --ship or --suite")
    if larger := made_larger(items, preset, seeds, figures_home()):
        told = ", ".join(f"{name} ({made})" for name, made in larger.items())
        raise ValueError(
            f"preset = {size_told(preset, seeds)!r} is smaller than what these shipped figures were made with: {told}; "
            "pass a larger --preset or --seeds, or omit --ship"
        )
    return figures_home()


def made_larger(items: Sequence[Item], preset: str, seeds: int | None, folder: Path) -> dict[str, str]:
    """Records in the folder that the items' notebooks would write and that a larger preset made, or the same one with
    more seeds: name -> preset and seeds."""
    from ..gallery.entries import notebook_of
    from ..gallery.records import read_records

    known = {item.id: item.notebook for item in making.ITEMS}
    notebooks = {item.notebook for item in items}
    written = {
        name: record
        for name, record in read_records(folder).items()
        if (known.get(name) or notebook_of(name)) in notebooks
    }
    return {
        name: size_told(record.preset.get("preset", "quick"), seeds_of(record.preset))
        for name, record in written.items()
        if is_larger(record, preset, seeds)
    }


def is_larger(record: Record, preset: str, seeds: int | None) -> bool:
    """Whether a larger preset made a record, or the same one with more seeds; None stands for the preset's seeds."""
    sizes, made = list(PRESETS), record.preset.get("preset", "quick")  # from the smallest
    if made != preset:
        return made in sizes[sizes.index(preset) + 1 :]
    asked, usual = seeds_of(record.preset), len(PRESETS[preset].seeds)
    if seeds is None:
        return asked is not None and asked > usual
    return (asked or len(record.seeds) or usual) > seeds


def seeds_of(preset: Mapping[str, str]) -> int | None:
    """The number of seeds that a record's settings name."""
    told = preset.get("seeds", "")
    return int(told) if told.isdecimal() else None


def size_told(preset: str, seeds: int | None) -> str:
    """
    >>> size_told("quick", None), size_told("quick", 8)
    ('quick', 'quick, 8 seeds')
    """
    return preset if seeds is None else f"{preset}, {counted(seeds, 'seed')}"


def figures(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="A figure's id or a notebook; repeat for several. Default: all.",
            autocompletion=options.figure_names,
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"How much is computed: {', '.join(PRESETS)}.",
            envvar="MOE_ANALYSIS_PRESET",
            autocompletion=options.presets,
        ),
    ] = "quick",
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="How many seeds of everything that is trained.",
            envvar="MOE_ANALYSIS_SEEDS",
            show_default="the preset's",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="SUITE",
            help="embedded, a folder of JSONL or Parquet files, or a name inside "
            "$MOE_ANALYSIS_DATA. Its figures go to figures/PRESET/SUITE.",
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
            show_default="runs of the clone, or of the current folder",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where figures are written.",
            envvar="MOE_ANALYSIS_FIGURES",
            show_default="figures/PRESET of the clone, or of the current folder",
        ),
    ] = None,
    ship: Annotated[
        bool,
        typer.Option(
            "--ship",
            help="For maintainers: write the figures that the project ships, which git keeps. "
            "Refused if one of them was made with a larger preset.",
        ),
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Only list ids, titles and notebooks.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Regenerate the figures of `only`; see HELP."""
    items = making.choose(only or [])
    if list_only:
        listing(items, as_json)
        return
    named(preset)  # an unknown one is reported
    suite = checked_suite(suite)
    checked_backbone(backbone)
    if runs and runs.exists() and not runs.is_dir():
        raise ValueError(f"--runs = {str(runs)!r} is not a folder; pass the folder of your runs")
    usual = computed_figures(preset, suite_label(suite))
    folder = shipped_folder(items, preset, suite, out, seeds) if ship else out or usual
    values = {
        "PRESET": preset,
        "SEEDS": str(seeds) if seeds else None,
        "SUITE": suite,
        "BACKBONE": backbone,
        "RUNS": str(runs.resolve()) if runs else None,
        "FIGURES": str(folder.resolve()),
    }
    check_folder("--out", folder)  # minutes before it is needed
    started = time.monotonic()
    paths = executed(items, {f"MOE_ANALYSIS_{name}": value for name, value in values.items()})
    from ..gallery import build

    gallery = build(figures_home() if folder in (figures_home(), computed_figures(preset)) else folder)
    told(items, paths, gallery, time.monotonic() - started, as_json)


def checked_suite(suite: str | None) -> str | None:
    """The suite as a notebook finds it from any folder."""
    if not suite:
        return None
    from ..tasks.suite import load_suite

    load_suite(suite)  # a wrong suite is reported now, not minutes into a notebook
    return str(Path(suite).resolve()) if Path(suite).is_dir() else suite


def checked_backbone(backbone: str | None) -> None:
    """Raise BackboneError for a backbone that is not there, before a notebook starts."""
    if backbone:
        with spinner("loading transformers"):
            from ..backbones import load_config

        load_config(backbone)


def suite_label(suite: str | None) -> str | None:
    """The folder in figures/PRESET that the figures of a suite go to."""
    from ..tasks.file_names import label_of

    return label_of(suite) if suite else None


def executed(items: list[Item], values: dict[str, str | None]) -> list[Path]:
    from ..tasks.cache import cache_folder

    settings = " ".join(values[f"MOE_ANALYSIS_{name}"] or "-" for name in ("PRESET", "SUITE", "BACKBONE", "SEEDS"))
    saved = "finished figures and runs are kept, and the other runs resume from their last checkpoints."
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
    """Write the gallery of `folder`; see GALLERY_HELP."""
    with spinner("writing the gallery"):
        from ..gallery import build

        page = build(folder or figures_home())
    if as_json:
        emit({"gallery": str(page)})
    else:
        answer(str(page))
