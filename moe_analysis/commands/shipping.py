"""`figures --ship`: the figures that a clone ships are only replaced by those of a preset that is as large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..figures import Item
from ..places import IN_CLONE, USUAL_SUITE, figures_home
from ..presets import PRESETS


def shipped_folder(items: Sequence[Item], preset: str, suite: str | None, out: Path | None) -> Path:
    """The folder of the shipped figures, once it is sure that none of them would go backwards.

    Raises:
        ValueError: Outside a clone, together with another folder or suite, and where a figure that the items' notebooks
            would write was made with a larger preset; it names each of them.
    """
    if not IN_CLONE:
        raise ValueError("--ship writes the figures of a clone, and this is an installed package; leave --ship out")
    if out is not None:
        raise ValueError(f"--ship writes {figures_home()}, not --out {out} (or $MOE_ANALYSIS_FIGURES); leave one out")
    if suite not in (None, USUAL_SUITE):
        raise ValueError(f"--ship is for the suite {USUAL_SUITE!r}, not for {suite!r}; leave one of the two out")
    if larger := made_larger(items, preset, figures_home()):
        told = ", ".join(f"{name} ({made})" for name, made in larger.items())
        raise ValueError(
            f"preset = {preset!r} is smaller than what these shipped figures were made with: {told}; pass a larger "
            "--preset, or leave --ship out"
        )
    return figures_home()


def made_larger(items: Sequence[Item], preset: str, folder: Path) -> dict[str, str]:
    """Records in the folder that the items' notebooks would write and that a larger preset made: name -> preset."""
    from ..figures import ITEMS
    from ..gallery.entries import notebook_of
    from ..gallery.records import read_records

    sizes = list(PRESETS)  # from the smallest
    known = {item.id: item.notebook for item in ITEMS}
    notebooks = {item.notebook for item in items}
    made = {
        name: record.preset.get("preset", "quick")
        for name, record in read_records(folder).items()
        if (known.get(name) or notebook_of(name)) in notebooks
    }
    return {name: one for name, one in made.items() if one in sizes[sizes.index(preset) + 1 :]}
