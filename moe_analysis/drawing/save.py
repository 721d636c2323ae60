"""A figure on disk: the picture, its interactive page, and the numbers behind both with their origin."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..atomic import write_whole
from ..cards.claims import CLAIM_FIELDS, shown
from ..evidence import Claim, described
from ..evidence.verdict import FAILS, HOLDS, IN_PART, OF_OURS, OF_PAPERS
from ..places import computed_figures
from .page import page

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

DPI = 160
VERDICTS = tuple(dict.fromkeys((*OF_PAPERS, IN_PART, *OF_OURS, HOLDS, FAILS)))
PACKAGES = (
    "accelerate",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "plotly",
    "scikit-learn",
    "torch",
    "transformers",
    "umap-learn",
    "xarray",
)
SETTINGS = ("PRESET", "SUITE", "BACKBONE", "EMBEDDER", "SEEDS")
SCRIPT = "plotly.min.js"
FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")  # .docx and .png, but not a version such as the .2 of v1.2


class SaveError(ValueError):
    """A figure whose numbers or claims cannot be stored, or a folder that cannot be written.

    >>> ma.drawing.save("My Figure", None, None, {})
    Traceback (most recent call last):
        ...
    moe_analysis.drawing.save.SaveError: item = 'My Figure' names the files; use lower-case letters, digits, ...
    """


def save(
    item: str,
    figure: Figure | Picture | None,
    interactive: go.Figure | None,
    numbers: pd.DataFrame | Mapping[str, Any],
    runs: Iterable[Any] = (),
    claims: pd.DataFrame | Iterable[Mapping[str, Any] | Claim] = (),
    folder: str | Path | None = None,
    caption: Mapping[str, str] | None = None,
    on_page: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Write `<item>.png`, `.pdf`, `.html` and `.json` into `folder`; out: {"png": path, "pdf": path, …}.

    numbers: a frame (a list of records in the file) or a dictionary of frames, arrays and plain values; NaN becomes
    null. runs: `Run`s or their ids; the seeds of `Run`s are stored too. claims: rows with `source, claim, paper,
    measured, spread, verdict`, the verdict one of `VERDICTS`, or `Claim`s. caption: title, question, how_to_read,
    origin, which the page shows; on_page: another caption for the page. folder: by default the variable
    MOE_ANALYSIS_FIGURES, or else figures/<preset> of the project. figure or interactive may be None; then its file is
    not written.
    The same arguments give the same bytes. Raises `SaveError` before anything is written, and each file is written
    completely or not at all.

    >>> claim = {"source": "arithmetic", "claim": "1 + 1 = 2", "paper": "2", "measured": "2", "spread": "none: counted",
    ...          "verdict": "reproduced"}
    >>> files = save("toy_sum", None, None, {"sum": 2}, claims=[claim], folder=folder)
    >>> files["json"].name
    'toy_sum.json'
    """
    if not item or set(item) - set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
        raise SaveError(f"item = {item!r} names the files; use lower-case letters, digits, _ and - only")
    if folder is not None:
        check_folder(folder)
    runs = list(runs)
    record = {
        "item": item,
        "numbers": _plain(numbers, "numbers"),
        "claims": _claims(claims),
        "runs": [str(getattr(run, "id", run)) for run in runs],
        "seeds": sorted({int(run.config.seed) for run in runs if hasattr(run, "config")}),
        "versions": _versions(),
        "preset": _preset(),
        **({"caption": dict(caption)} if caption else {}),
    }
    contents = {"json": (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()}
    if figure is not None:
        picture = figure if isinstance(figure, Picture) else Picture(figure)
        contents["png"], contents["pdf"] = picture.png, picture.pdf
    if interactive is not None:
        cards = [shown(row) for row in record["claims"]]
        contents["html"] = page(interactive, item, on_page or caption, cards, picture=figure is not None).encode()
    folder = figures_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if interactive is not None:
            _write_script(folder / SCRIPT)
        return {kind: write_whole(folder / f"{item}.{kind}", contents[kind]) for kind in sorted(contents, reverse=True)}
    except OSError as error:
        raise SaveError(
            f"folder = {str(folder)!r} cannot be written ({error.strerror}); "
            "pass another folder, or set MOE_ANALYSIS_FIGURES"
        ) from error


def save_page(
    path: str | Path,
    item: str,
    interactive: go.Figure,
    claims: Iterable[Claim] = (),
    caption: Mapping[str, str] | None = None,
) -> Path:
    """Write one page that needs no other file and no network, about five megabytes; out: its path.

    path: a file that ends in .html; missing folders are created. The rest is as for `save`. Raises `SaveError` for
    claims that `save` refuses, for another ending, and for a place that cannot be written.

    >>> import plotly.graph_objects as go
    >>> save_page(folder / "mine.html", "toy_sum", go.Figure(go.Bar(y=[2]))).name
    'mine.html'
    """
    from plotly.offline import get_plotlyjs

    check_page(path)
    cards = [shown(row) for row in _claims(claims)]
    text = page(interactive, item, caption, cards, script=get_plotlyjs())
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, text.encode())
    except OSError as error:
        raise SaveError(f"path = {str(path)!r} cannot be written ({error.strerror}); pass another file") from error


def figures_folder(folder: str | Path | None = None) -> Path:
    """Where figures go: `folder`, else the variable MOE_ANALYSIS_FIGURES, else `places.computed_figures`."""
    return Path(folder or os.environ.get("MOE_ANALYSIS_FIGURES") or computed_figures())


def check_folder(folder: str | Path) -> None:
    """Refuse what looks like the name of one file; a folder that is there may be called as it likes.

    >>> check_folder("figures/v1.2")
    >>> check_folder("own.docx")
    Traceback (most recent call last):
        ...
    moe_analysis.drawing.save.SaveError: folder = 'own.docx' ends in .docx, and several files are written; pass a ...
    """
    suffix = Path(folder).suffix
    if FILE_SUFFIX.fullmatch(suffix) and not Path(folder).is_dir():
        raise SaveError(
            f"folder = {str(folder)!r} ends in {suffix}, and several files are written; pass a folder, or of a result "
            "save('name.html') for a single page and plot().savefig('name.png') for a picture"
        )


def check_page(path: str | Path) -> None:
    """Raise `SaveError` for a page whose name does not end in .html."""
    if Path(path).suffix.lower() != ".html":
        raise SaveError(f"path = {str(path)!r} is not a page; pass a name that ends in .html")


class Picture:
    """A figure as the bytes of its two files, each drawn once, however often it is shown and saved."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    @cached_property
    def png(self) -> bytes:
        """As it is stored; the note below the picture is also its "Description", for screen readers."""
        note = " ".join(self.figure.get_supxlabel().split())
        # the version of matplotlib would change the bytes of an unchanged picture
        return self._drawn("png", {"Software": None} | ({"Description": note} if note else {}), dpi=DPI)

    @cached_property
    def pdf(self) -> bytes:
        """As vectors, at the width of a column of a paper."""
        return self._drawn("pdf", {"CreationDate": None, "Creator": None, "Producer": None})

    def _drawn(self, kind: str, metadata: dict[str, str | None], **options: Any) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=kind, metadata=metadata, **options)
        return buffer.getvalue()


def _write_script(path: Path) -> None:
    from plotly.offline import get_plotlyjs

    content = get_plotlyjs().encode()
    if not path.exists() or path.stat().st_size != len(content):
        write_whole(path, content)


def _claims(claims: pd.DataFrame | Iterable[Mapping[str, Any] | Claim]) -> list[dict[str, Any]]:
    given: list[Any] = claims.to_dict("records") if isinstance(claims, pd.DataFrame) else list(claims)
    rows = [described(row) if isinstance(row, Claim) else dict(row) for row in given]
    for index, row in enumerate(rows):
        if missing := [field for field in CLAIM_FIELDS if field not in row]:
            raise SaveError(f"claims[{index}] has no {', '.join(missing)}; a claim has {', '.join(CLAIM_FIELDS)}")
        if row["verdict"] not in VERDICTS:
            raise SaveError(f"claims[{index}] has the verdict {row['verdict']!r}; use one of {', '.join(VERDICTS)}")
    return [_plain(row, f"claims[{index}]") for index, row in enumerate(rows)]


def _plain(value: Any, where: str) -> Any:
    """`value` in JSON's types; infinity and NaN become null. Raises `SaveError` for a value that JSON cannot store."""
    if isinstance(value, pd.DataFrame):
        return [_plain(row, where) for row in value.to_dict("records")]
    if isinstance(value, pd.Series | pd.Index):
        value = value.tolist()
    elif isinstance(value, np.ndarray | np.generic) or (hasattr(value, "detach") and hasattr(value, "tolist")):
        value = value.tolist()  # arrays and tensors
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | int | float | str):
        return value
    raise SaveError(
        f"{where} = {value!r} is {type(value).__name__}, which JSON cannot store; pass numbers, texts, "
        "frames, arrays, lists or dictionaries"
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a package that is not installed was not used
    return found


def _preset() -> dict[str, str]:
    """The settings given in the environment; of a path only its last name, which is the same on every machine."""
    asked = {name.lower(): os.environ.get(f"MOE_ANALYSIS_{name}") for name in SETTINGS}
    return {
        name: Path(value).name if os.sep in value and Path(value).exists() else value
        for name, value in asked.items()
        if value
    }
