"""The gallery: one page, `index.html`, that shows every figure with its claims, their origin and how to make it again.

It stands beside the figures and needs no network. What it says is read from the figures' records alone.
"""

from __future__ import annotations

from pathlib import Path

from .records import PAGE, GalleryError

__all__ = ["GalleryError", "build"]


def build(folder: str | Path = "figures") -> Path:
    """Write `<folder>/index.html` from the figures' records there; out: its path.

    folder: where `drawing.save` put `<item>.json`, `.png` and `.html`; what lies in its folders that are named as presets
    is shown beside it, and items of the papers that are nowhere are listed with the command that makes them. The same files give the same bytes, and the page appears whole or not at all.
    Raises `GalleryError`, before anything is written, for a folder that is not there or cannot be written and for every
    JSON file in it that is no record of a figure, by its name.

        >>> build("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        moe_analysis.gallery.records.GalleryError: folder = 'no/such/folder' is no folder; ...
    """
    from ..atomic import write_whole
    from .entries import collect
    from .page import render
    from .shelves import read_shelves

    folder = Path(folder)
    content = render(collect(read_shelves(folder))).encode()
    try:
        return write_whole(folder / PAGE, content)
    except OSError as error:
        raise GalleryError(
            f"folder = {str(folder)!r} cannot be written ({error.strerror}); make it writable or copy "
            "the figures to another one"
        ) from error
