"""Where files are: those that come with the package, and a user's figures and runs.

A clone has campaigns/, data/ and notebooks/ next to the package, and figures and runs are written next to them. A wheel
has all three inside the package, where nothing is ever written: figures and runs go to the folder in which the program
was started.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
IN_CLONE = not (PACKAGE / "data").is_dir()
USUAL_PRESET, USUAL_SUITE = "quick", "embedded"


def shipped(name: str) -> Path:
    """A folder that comes with the package: "campaigns", "data" or "notebooks".

    Example:
        >>> (shipped("data") / "embedded" / "manifest.json").is_file()
        True
    """
    return (PACKAGE.parent if IN_CLONE else PACKAGE) / name


def home() -> Path:
    """The folder that gets figures/ and runs/: the clone, or the current folder if there is no clone.

    Raises:
        ValueError: In a folder of the installed package, such as that of its notebooks.

    Example:
        >>> home() == shipped("data").parent  # in a clone
        True
    """
    if IN_CLONE:
        return PACKAGE.parent
    if (here := Path.cwd().resolve()).is_relative_to(PACKAGE):
        raise ValueError(
            f"{here} belongs to the installed package; copy the notebook to your own folder and start there"
        )
    return here


def figures_home() -> Path:
    """The folder of the gallery. A clone's shipped figures are next to its page; computed figures are in folders below."""
    return home() / "figures"


def computed_figures(preset: str | None = None, suite: str | None = None) -> Path:
    """Where figures computed here go: figures/<preset>, and a folder in it for a suite other than the embedded one.

    Args:
        preset: Its name; None is the one that the environment names.
        suite: Its name as a part of a file's name; None is the embedded one.

    Example:
        >>> computed_figures("long", "my_suite").relative_to(home()).as_posix()
        'figures/long/my_suite'
    """
    folder = figures_home() / (preset or os.environ.get("MOE_ANALYSIS_PRESET") or USUAL_PRESET)
    return folder / suite if suite and suite != USUAL_SUITE else folder


def runs_home() -> Path:
    """Where the runs behind the figures are kept: the variable MOE_ANALYSIS_RUNS, else runs/ of `home`."""
    return Path(os.environ.get("MOE_ANALYSIS_RUNS") or home() / "runs")
