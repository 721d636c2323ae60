"""What every study returns: the tables behind a figure, both drawings of it, and the claims that it decides.

A result is the `Result` subclass of its study's `measure.py`. The drawings, claims and controls are in the modules next
to it, found by name, so that measuring imports no drawing library.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from ..cards.in_words import FROM_STORED, counted_verdicts
from ..evidence import Claim, claims_frame, counted, described
from .asked import bound_to
from .in_short import in_short

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..drawing.save import Picture


@dataclass(frozen=True, eq=False)
class Result:
    """A figure as an object. Subclasses are frozen dataclasses whose fields are what was measured.

    Args:
        runs: the runs that were measured, which controls may read again; empty if none was needed.
        sample: what was measured, in words, if it was not runs: "8 seeds of the synthetic bench, 300 steps".
        stored: the file of stored results that the tables come from; empty if they were computed now.
    """

    item: ClassVar[str]  # id in `papers`, and the name of its files
    title: ClassVar[str]
    question: ClassVar[str]
    how_to_read: ClassVar[str]  # of the picture
    how_to_explore: ClassVar[str] = ""  # of the interactive page, if its drawing is a different one
    drawing: ClassVar[str] = "draw"  # modules of the study's folder
    judging: ClassVar[str] = "claims"
    exploring: ClassVar[str] = "explore"
    saved: ClassVar[tuple[str, ...]] = ()  # fields and properties that `numbers` has; empty for the tables

    runs: Sequence[Any] = field(default=(), kw_only=True, repr=False)
    sample: str = field(default="", kw_only=True)
    stored: str = field(default="", kw_only=True)

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.__repr__ = cls.__repr__  # type: ignore[method-assign]  # else `dataclass` gives it one of all tables

    def __repr__(self) -> str:
        """One line: "RouterPaths(trex_fig2: 9 runs of 3 seeds, 100 steps each, …)"."""
        return f"{type(self).__name__}({self.item}: {self.origin})"

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The numbers behind everything that is drawn: all fields that are tables, by name."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, pd.DataFrame)}

    @property
    def numbers(self) -> Mapping[str, Any]:
        """The numbers that `save` writes with the pictures; the tables, unless a study chooses others."""
        return {name: getattr(self, name) for name in self.saved} or self.tables

    @cached_property
    def judged(self) -> list[Claim]:
        """The claims as objects, each with its verdict."""
        return list(self._module(self.judging).claims(self)) if self._has(self.judging) else []

    @property
    def claims(self) -> pd.DataFrame:
        """One row per claim, its parts after it; columns as in `evidence.claims_frame`."""
        return claims_frame(self.judged)

    def plot(self, ax: Axes | None = None) -> Figure | Axes:
        """Draw with matplotlib.

        Args:
            ax: your own axes, in which the figure is drawn and which are returned. Only for results of a single panel.

        Returns:
            A new figure, or `ax`.

        Raises:
            ValueError: with `ax`, for a result of several panels.
        """
        draw = self._module(self.drawing).plot
        if ax is None:
            return draw(self)
        if "ax" not in inspect.signature(draw).parameters:
            raise ValueError(
                f"ax = {ax!r} is one panel but {self.item} has several; call plot() without it, or draw from `tables`"
            )
        return draw(self, ax)

    def interactive(self) -> go.Figure:
        """The plotly figure; every call returns a copy, which the user may change."""
        import plotly.graph_objects as go

        return go.Figure(self._interactive)

    def widget(self, **start: Any) -> Any:
        """Controls with the figure below, for notebooks.

        Args:
            **start: the first settings of the controls, by the names of the arguments of the study's `explore.widget`,
                such as `k` of the map.

        Raises:
            ValueError: if there are no controls, for an unknown control, and for a setting that a control does not have.
        """
        if not self._has(self.exploring):
            raise ValueError(f"{self.item} has no controls; use plot() or interactive()")
        widget = self._module(self.exploring).widget
        bound_to(inspect.signature(partial(widget, self)), f"the widget of {self.item}", (), start)
        return widget(self, **start)

    def save(self, folder: str | Path | None = None) -> dict[str, Path]:
        """Write `<item>.png`, `.pdf`, `.html` and `.json`; the same result gives the same bytes.

        Args:
            folder: None is the folder of figures (`drawing.save.figures_folder`). A path that ends in .html gives a
                single page, which needs no other file.

        Returns:
            The path of each file by its ending.

        Raises:
            SaveError: for a name with another file ending, such as "own.docx", if there is no folder of that name.
        """
        from ..drawing import save, save_page
        from ..drawing.save import check_folder

        if folder is not None and Path(folder).suffix.lower() == ".html":
            return {"html": save_page(folder, self.item, self.interactive(), self.judged, self.page_caption)}
        if folder is not None:
            check_folder(folder)  # before anything is drawn
        return save(
            self.item,
            self._picture,
            self.interactive(),
            self.numbers,
            runs=self.runs,
            claims=self.judged,
            folder=folder,
            caption=self.caption,
            on_page=self.page_caption,
        )

    @property
    def caption(self) -> dict[str, str]:
        """title, question, how_to_read, and origin: runs, seeds, steps, settings, or the stored file."""
        return {
            "title": self.title,
            "question": self.question,
            "how_to_read": self.how_to_read,
            "origin": self.origin,
        }

    @property
    def page_caption(self) -> dict[str, str]:
        """The same for the interactive page, which has its own how_to_read if its drawing is a different one."""
        return self.caption | {"how_to_read": self.how_to_explore or self.how_to_read}

    @property
    def origin(self) -> str:
        """What was measured, in one sentence."""
        measured = self.sample or origin_of(self.runs)
        stored = f"{FROM_STORED} {self.stored}" if self.stored else ""
        return "; ".join(part for part in (measured, stored) if part)

    def note(self, marks: str) -> str:
        """The line below a picture: what was measured, then the meaning of its marks."""
        measured = self.sample or counted_runs(self.runs)
        return f"{measured[0].upper()}{measured[1:]}. {marks}"

    @property
    def verdicts(self) -> str:
        """Such as "2 claims: 1 reproduced, 1 undecided"."""
        counts = Counter(claim.verdict for claim in self.judged)
        return f"{counted(len(self.judged), 'claim')}: {counted_verdicts({'': counts})}" if counts else "no claims"

    @property
    def in_short(self) -> str:
        """The first result with its interval, and the counted verdicts; empty if the result decides no claim."""
        return in_short([described(claim) for claim in self.judged])

    def _repr_html_(self) -> str:
        """For a notebook: the question, the figure, what came out, the claims as cards, and the tables folded."""
        from ..drawing.notebook import shown_html

        tables = {f"Table: {name} ({len(table)} rows)": table.round(4) for name, table in self.tables.items()}
        return shown_html(self.caption, self._picture.png, self.in_short, self.judged, tables)

    @cached_property
    def _picture(self) -> Picture:
        """The picture that is shown and saved; `plot` draws another one, which the user may change."""
        from ..drawing.save import Picture

        return Picture(self._module(self.drawing).plot(self))

    @cached_property
    def _interactive(self) -> go.Figure:
        """Drawn once: setting a figure's properties takes plotly twenty times as long as copying it."""
        return self._module(self.drawing).interactive(self)

    def _module(self, name: str) -> Any:
        return import_module(f"{self._folder}.{name}")

    def _has(self, name: str) -> bool:
        return find_spec(f"{self._folder}.{name}") is not None

    @property
    def _folder(self) -> str:
        return type(self).__module__.rpartition(".")[0]


def origin_of(runs: Sequence[Any]) -> str:
    """ "9 runs of 3 seeds, 100 steps each, backbone compact, suite embedded, prompt form options"; different values are
    listed."""
    if not runs:
        return counted_runs(runs)
    told = {"backbone": "backbone", "suite": "suite", "form": "prompt form"}
    settings = [f"{words} {', '.join(map(name_of, values_of(runs, name)))}" for name, words in told.items()]
    return ", ".join([counted_runs(runs), *settings])


def counted_runs(runs: Sequence[Any]) -> str:
    """ "9 runs of 3 seeds, 100 steps each"."""
    if not runs:
        return "exact, without training"
    steps = ", ".join(map(str, values_of(runs, "steps")))
    each = " each" * (len(runs) > 1)
    return f"{counted(len(runs), 'run')} of {counted(len(values_of(runs, 'seed')), 'seed')}, {steps} steps{each}"


def values_of(runs: Sequence[Any], name: str) -> list[Any]:
    """The distinct values of a setting."""
    return list(dict.fromkeys(getattr(run.config, name, None) for run in runs))


def name_of(value: Any) -> str:
    """The last name of a path, which is the same on every machine."""
    return Path(str(value)).name
