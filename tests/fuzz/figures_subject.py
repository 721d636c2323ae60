"""Sound records of figures, and the gallery that is made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from moe_analysis import gallery
from moe_analysis.cards.claims import CLAIM_FIELDS
from moe_analysis.drawing.save import save
from moe_analysis.evidence import Claim, Effect
from moe_analysis.gallery.records import GalleryError, read_records

ERRORS = (GalleryError,)


def build(folder: Path) -> None:
    from matplotlib.figure import Figure

    claims = [
        {
            "source": "Fig. 2",
            "claim": "it is smooth",
            "paper": "a drawing",
            "measured": 2.5,
            "spread": None,
            "verdict": "not reproduced",
        }
    ]
    ahead = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", paper_effect=0.02)
    measured = [ahead.with_effect(Effect(gaps)) for gaps in ([0.03, 0.02, 0.04], [0.03, -0.02, 0.04])]
    caption = {"title": "Paths", "question": "Smooth?", "how_to_read": "Left to right.", "origin": "3 runs"}
    run = SimpleNamespace(id="T-REX-embedded-s0-0123456789", config=SimpleNamespace(seed=0))
    numbers = pd.DataFrame({"step": [1, 2], "value": [0.5, np.nan]})
    save("trex_fig2", Figure((1, 1)), None, numbers, [run], [*claims, ahead.with_parts(measured)], folder, caption)
    save("smore_tree", None, None, {"trees": np.arange(3)}, claims=claims[:1] * 2, folder=folder)


def readings(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "read_records", lambda: check_figures(read_records(folder))
    yield "build", lambda: check_page(folder)


def check_figures(found: dict[str, Any]) -> None:
    for item, record in found.items():
        assert record.item == item
        assert all(isinstance(claim[field], str) for claim in record.claims for field in CLAIM_FIELDS)


def check_page(folder: Path) -> None:
    """The page is made of a copy, as it belongs into the folder; nothing is written beside what cannot be read."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        copy.mkdir()
        for path in folder.iterdir():
            (copy / path.name).symlink_to(path)
        try:
            page = gallery.build(copy)
        except GalleryError:
            assert len(list(copy.iterdir())) == len(list(folder.iterdir()))
            raise
        assert page.read_text(encoding="utf-8").startswith("<!")
