"""The gallery: a page, `index.html`, that shows every figure with its claims, their origin and how to make it again.

Next to it are `reproducibility.html`, every item of the papers with what was measured, and in a clone `contract.html`,
what the adapters do in which situation. They are in the folder of the figures and need no network. They are made from
the figures' records, the list of items and the manual only.
"""

from __future__ import annotations

from pathlib import Path

from .records import CONTRACT, PAGE, REPORT, GalleryError

__all__ = ["GalleryError", "build"]


def build(folder: str | Path = "figures") -> Path:
    """Write `<folder>/index.html` and the pages next to it from the figures' records there.

    Figures in subfolders that are named like presets are shown next to those of the folder. Items of the papers that
    are not made yet are listed with the command that makes them. The same files give the same bytes.

    Args:
        folder: where `drawing.save` put `<item>.json`, `.png` and `.html`.

    Returns:
        The path of index.html. Each page is written completely or not at all.

    Raises:
        GalleryError: before anything is written, for a folder that does not exist or cannot be written, and for JSON
            files in it that are not records of figures; it names them all.

    Example:
        >>> build("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        moe_analysis.gallery.records.GalleryError: folder = 'no/such/folder' is not a folder; ...
    """
    from ..atomic import write_whole
    from .entries import collect
    from .manual import contract_page
    from .page import render
    from .report import report_page, states_of
    from .shelves import read_shelves

    folder = Path(folder)
    shelves = read_shelves(folder)
    groups = collect(shelves)
    contract = contract_page()
    gallery = render(groups, states_of(groups, shelves), contract=bool(contract))
    pages = {REPORT: report_page(groups, shelves), CONTRACT: contract, PAGE: gallery}
    try:
        for name, text in pages.items():
            if text:
                write_whole(folder / name, text.encode())
        return folder / PAGE
    except OSError as error:
        raise GalleryError(
            f"folder = {str(folder)!r} cannot be written ({error.strerror}); make it writable or copy "
            "the figures to another one"
        ) from error
