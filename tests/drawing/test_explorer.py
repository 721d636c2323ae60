"""The plumbing under every widget: pictures, words, refusals, failures, and what starts outside a control."""

from __future__ import annotations

import base64
import gc
import io
import re
import threading
import weakref

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from moe_analysis.drawing.explorer import DPI, INCH, Explorer, View, choice, decimal, slider, stops
from moe_analysis.drawing.style import figure


def picture(explorer: Explorer) -> np.ndarray:
    """The pixels (height, width, 3) that a reader sees."""
    source = re.search(r'src="data:image/png;base64,([^"]+)"', explorer.picture.value)
    assert source, explorer.picture.value[:200]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))


def test_the_newest_setting_is_the_one_that_is_left() -> None:
    """Controls may be answered in several threads, and the older picture may take longer."""
    began, let_go = threading.Event(), threading.Event()

    def draw(n: int) -> View:
        if n == 2:
            began.set()
            assert let_go.wait(20)
        return View(figure(2.0, 1.0), f"{n}", f"n = {n}")

    explorer = Explorer({"n": slider("n", "Number n", 1, 1, 6, "A number")}, draw)

    def move(n: int) -> threading.Thread:
        thread = threading.Thread(target=lambda: setattr(explorer.controls["n"], "value", n))
        thread.start()
        return thread

    older = move(2)
    assert began.wait(20)
    newer = move(3)
    newer.join(0.5)
    let_go.set()
    older.join()
    newer.join()
    assert "n = 3" in explorer.note.value


class Squares:
    """Draws n squared as so many points, refuses 4, breaks at 5, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.figures: list[weakref.ref] = []

    def __call__(self, n: int) -> View:
        self.asked.append(n)
        if n == 4:
            raise ValueError("n = 4 is too <large>;\npass less")
        if n == 5:
            raise ZeroDivisionError("a <bug>")
        drawn = figure(2.0, 1.0)
        drawn.subplots().plot(range(n * n), "o")
        self.figures.append(weakref.ref(drawn))
        return View(drawn, f'{n} "squared" & drawn', f"n² = {n * n}\nsecond <line>")


@pytest.fixture
def squares() -> tuple[Squares, Explorer]:
    draw = Squares()
    return draw, Explorer({"n": slider("n", "Number n", 1, 1, 6, "Squared")}, draw)


def test_a_moved_slider_changes_picture_and_note(squares):
    _, explorer = squares
    before = picture(explorer)
    explorer.controls["n"].value = 3
    assert "n² = 9<br>second &lt;line&gt;" in explorer.note.value
    assert picture(explorer).shape == before.shape == (DPI, 2 * DPI, 3)
    assert (picture(explorer) != before).any()


def test_the_picture_has_its_words_and_its_size_on_the_page(squares):
    _, explorer = squares
    assert 'alt="1 &quot;squared&quot; &amp; drawn"' in explorer.picture.value
    assert f'width="{2 * INCH}" height="{INCH}"' in explorer.picture.value
    assert f"max-width: 100%; min-width: {2 * INCH}px" in explorer.picture.value  # narrow pages


def test_a_setting_that_was_shown_before_is_not_computed_again(squares):
    draw, explorer = squares
    first = explorer.picture.value
    for number in (2, 1, 2, 1):
        explorer.controls["n"].value = number
    assert draw.asked == [1, 2] and explorer.picture.value == first


def test_a_refused_setting_is_named_and_the_last_picture_stays(squares):
    _, explorer = squares
    first = explorer.picture.value, explorer.note.value
    explorer.controls["n"].value = 4
    assert "n = 4 is too &lt;large&gt;;<br>pass less" in explorer.message.value
    assert 'role="alert"' in explorer.message.value and "Traceback" not in explorer.message.value
    assert (explorer.picture.value, explorer.note.value) == first
    explorer.controls["n"].value = 2
    assert explorer.message.value == "" and "n² = 4" in explorer.note.value


def test_a_failure_of_ours_is_shown_with_its_traceback(squares):
    _, explorer = squares
    explorer.controls["n"].value = 5
    assert "Traceback" in explorer.message.value and "ZeroDivisionError: a &lt;bug&gt;" in explorer.message.value


def test_what_the_first_setting_lacks_is_raised_in_the_cell():
    with pytest.raises(ValueError, match="too <large>"):
        Explorer({"n": slider("n", "Number n", 4, 1, 6, "Squared")}, Squares())


def test_no_figure_is_left_behind(squares):
    draw, explorer = squares
    for number in (2, 3, 6):
        explorer.controls["n"].value = number
    gc.collect()
    assert len(draw.figures) == 4 and not any(reference() for reference in draw.figures) and plt.get_fignums() == []


def test_every_control_says_what_it_is_and_none_computes_while_it_is_dragged():
    for control in (
        slider("n", "Number n", 1, 1, 6, "Squared"),
        decimal("p", "Exponent p", 0.5, 0, 1, 0.1, "Power"),
        stops("g", "Gate g", 0.1, [0.1, 0.2], "Gate"),
        choice("of", "Kind", "a", ["a", "b"], "Which"),
    ):
        assert control.description and control.tooltip and control.style.description_width == "initial"
        assert getattr(control, "continuous_update", False) is False
        assert control.layout.max_width == "100%"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: slider("k", "k", 60, 2, 48, ""), "k = 60 is not a whole number from 2 to 48"),
        (lambda: slider("k", "k", 2.5, 2, 48, ""), "k = 2.5 is not a whole number"),
        (lambda: decimal("power", "p", 1.5, 0.0, 1.0, 0.1, ""), "power = 1.5 is not a number from 0 to 1"),
        (lambda: decimal("power", "p", float("nan"), 0.0, 1.0, 0.1, ""), "power = nan is not a number"),
        (lambda: stops("gate", "g", 0.3, [0.1, 0.2], ""), "gate = 0.3 is not a stop; choose one of 0.1, 0.2"),
        (lambda: choice("seed", "Seed", 9, [0, 1], ""), "seed = 9 is unknown; choose one of 0, 1"),
    ],
)
def test_a_start_outside_a_control_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
