"""The folders with the figures of one page: those that come with a clone, and those computed here, by preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..places import IN_CLONE, figures_home
from ..presets import PRESETS
from .records import Record, read_records

ORIGINS = {"shipped": "shipped", "here": "computed on this machine"}


@dataclass(frozen=True)
class Shelf:
    """Records of one folder.

    Args:
        origin: A key of `ORIGINS`.
        folder: Where the files are.
        place: The path from the page to the files: "", or for example "quick/".
        records: By item.
    """

    origin: str
    folder: Path
    place: str
    records: Mapping[str, Record]


def read_shelves(folder: Path) -> list[Shelf]:
    """The records of a folder and of its subfolders that are named like presets, the largest preset first.

    Raises:
        GalleryError: for files that are not records of figures; it names them all.
    """
    own = "shipped" if IN_CLONE and folder.resolve() == figures_home().resolve() else "here"
    found = [Shelf(own, folder, "", read_records(folder))]
    for name in reversed(PRESETS):
        if (inside := folder / name).is_dir():
            found.append(Shelf("here", inside, f"{name}/", read_records(inside)))
    return [shelf for shelf in found if shelf.records]
