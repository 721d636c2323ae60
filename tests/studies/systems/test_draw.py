"""What the figures of systems and their interactive twins contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import method_color
from moe_analysis.studies.systems.draw import MOST_NAMES, RADAR_METHODS, transfer_explorer, transfer_figure, write_key
from moe_analysis.studies.systems.draw_tasks import task_explorer, task_figure
from moe_analysis.studies.systems.scores import part_summary, scores, task_differences

from .test_scores import INSIDE_TASKS, NINE, OOD_TASKS, compare, levels_of


@pytest.fixture(scope="module")
def frames():
    frame = scores(*compare({"T-REX": 0.1}, seeds=(0, 1, 2)))
    return frame, part_summary(frame), levels_of()


@pytest.fixture(scope="module")
def panels(frames):
    fig = transfer_figure(*frames)
    radar, *dots = fig.axes
    return radar, dict(zip(("originals", "variants", "ood"), dots, strict=True)), fig


@pytest.fixture(scope="module")
def differences(frames):
    return task_differences(frames[0])


def mean_of(frame, method, part):
    return frame[(frame["method"] == method) & (frame["part"] == part)]["accuracy"].mean()


def test_the_radar_has_the_papers_methods_on_every_ood_task(panels, frames):
    lines = {line.get_label(): line for line in panels[0].lines}
    assert tuple(lines) == RADAR_METHODS
    for method, line in lines.items():
        own = frames[0].query("part == 'ood' and method == @method").groupby("dataset")["accuracy"].mean()
        np.testing.assert_allclose(line.get_ydata(), own.loc[[*OOD_TASKS, OOD_TASKS[0]]])
        assert line.get_color() == method_color(method)
    assert {text.get_text().replace("\n", " ") for text in panels[0].texts} == {
        name.replace("_", " ") for name in OOD_TASKS
    }


def test_every_method_has_its_dot_and_seeds_in_every_part(panels, frames):
    frame, summary, _ = frames
    assert [tick.get_text() for tick in panels[1]["originals"].get_yticklabels()] == list(NINE)
    for part, panel in panels[1].items():
        dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}
        assert dots == pytest.approx({place: mean_of(frame, method, part) for place, method in enumerate(NINE)})
        assert [len(line.get_xdata()) for line in panel.lines if line.get_marker() == "|"] == [3] * len(NINE)
        tasks = summary.set_index("part").loc[part, "tasks"].iloc[0]
        assert panel.get_title(loc="left").endswith(f"({tasks} tasks)")


def test_levels_are_lines_and_those_far_off_are_written_down(frames):
    frame, summary, _ = frames
    for value, far in ((mean_of(frame, "LoRA", "ood"), False), (0.02, True)):
        panel = transfer_figure(frame, summary, levels_of(untrained=value)).axes[-1]
        drawn = [line for line in panel.lines if line.get_label() == "untrained backbone"]
        assert len(drawn) == 1 and len(drawn[0].get_xdata()) == (0 if far else 2)
        note = " ".join(text.get_text() for text in panel.texts)
        assert ("untrained backbone 0.02" in note) == far and "chance 0.10" in note


def test_no_text_of_the_figure_leaves_it(panels):
    radar, dots, fig = panels
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    renderer, page = canvas.get_renderer(), fig.bbox
    title = next(text for text in fig.findobj(Text) if text.get_text().startswith("accuracy by task"))
    for text in (*radar.texts, *(panel._left_title for panel in dots.values()), title):
        box = text.get_window_extent(renderer)
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, text.get_text()


def test_a_radar_of_absent_methods_or_tasks_is_refused(frames):
    frame, summary, levels = frames
    with pytest.raises(ValueError, match="radar_methods names DoRA, which have no runs; choose from LoRA"):
        transfer_figure(frame, summary, levels, ("DoRA",))
    with pytest.raises(ValueError, match="no out-of-distribution tasks; pass scores"):
        transfer_figure(frame[frame["part"] != "ood"], summary, levels)


def test_a_suite_without_variants_has_two_panels_of_dots(tmp_path):
    frame = scores(*compare(seeds=(0, 1), methods=RADAR_METHODS, suite=str(tmp_path)))
    levels = levels_of().replace({"part": {"originals": "in-distribution", "variants": "in-distribution"}})
    titles = [panel.get_title(loc="left") for panel in transfer_figure(frame, part_summary(frame), levels).axes[1:]]
    assert titles == ["in distribution\n(5 tasks)", "out of distribution\n(4 tasks)"]


def test_many_tasks_are_numbered_around_the_radar_and_named_below_it(frames):
    frame, _, levels = frames
    names = [f"task_{letter}" for letter in "abcdefghijklmnop"]
    assert len(names) > MOST_NAMES
    away, level = frame[frame["dataset"] == "swap_tracking"], levels[levels["dataset"] == "swap_tracking"]
    many, their = (pd.concat([one.assign(dataset=name) for name in names]) for one in (away, level))
    fig = transfer_figure(many, part_summary(many), their)
    assert [text.get_text() for text in fig.axes[0].texts] == [str(number) for number in range(1, 17)]
    key = "\n".join(text.get_text() for text in fig.findobj(Text) if "task" in text.get_text()).splitlines()
    assert [f"{number} {name.replace('_', ' ')}" for number, name in enumerate(names, 1)] == [
        line for line in key if line[0].isdigit()
    ]


def test_the_key_s_columns_stand_beside_each_other_however_long_the_names_are():
    part = Figure(figsize=(3.0, 1.0))
    write_key(part, [f"reasoning about the order of many objects in {number} steps" for number in range(16)])
    left, right = (text.get_window_extent() for text in part.texts)
    assert left.x1 < right.x0


def test_the_heat_map_holds_points_and_marks_clear_differences(differences):
    panel = task_figure(differences).axes[0]
    cells = np.asarray(panel.images[0].get_array())
    assert cells.shape == (9, 8)
    assert [tick.get_text() for tick in panel.get_yticklabels()] == [
        name.replace("_", " ") for name in INSIDE_TASKS + OOD_TASKS
    ]
    row = differences.query("dataset == 'swap_tracking' and method == 'T-REX'").iloc[0]
    assert cells[7, 7] == pytest.approx(100 * row["difference"])
    bold = sum(text.get_fontweight() == "bold" for text in panel.texts)
    assert bold == ((differences["low"] > 0) | (differences["high"] < 0)).sum() > 0


def test_the_explorer_shows_one_part_and_measure_at_a_time(frames):
    frame, summary, levels = frames
    fig = transfer_explorer(frame, summary, levels)
    radar = [trace for trace in fig.data if trace.type == "scatterpolar"]
    assert [trace.name for trace in radar] == ["guessing", *NINE]
    assert [trace.name for trace in radar if trace.visible is True] == ["guessing", *RADAR_METHODS]
    buttons = fig.layout.updatemenus[0].buttons
    assert len(buttons) == 6 and buttons[5].label == "loss, out of distribution"
    assert [trace.visible for trace in fig.data] == list(buttons[0].args[0]["visible"])
    for button, traces in zip(buttons, (5, 5, 5, 3, 3, 3)):  # of the levels only the backbone has a loss
        shown = [trace for trace, visible in zip(fig.data, button.args[0]["visible"]) if visible is True]
        dots = [trace for trace in shown if trace.type == "scatter"]
        assert len(dots) == traces and list(dots[1].y) == list(NINE)
    last = [trace for trace, visible in zip(fig.data, buttons[2].args[0]["visible"]) if visible is True][-4]
    assert last.x[0] == pytest.approx(mean_of(frame, "LoRA", "ood"), rel=1e-5)


def test_the_task_explorer_has_a_map_for_each_measure(frames, differences):
    fig = task_explorer({"accuracy": differences, "loss": task_differences(frames[0], measure="loss")})
    assert [trace.visible for trace in fig.data] == [True, False]
    np.testing.assert_allclose(fig.data[0].z, -fig.data[1].z, atol=1e-6)  # the losses are made as 1 - accuracy
    assert fig.data[0].y[7] == "out of distribution: swap tracking" and fig.data[0].x[7] == "T-REX"


def test_both_figures_are_saved(frames, differences, tmp_path):
    for item, fig, twin, numbers in (
        ("trex_fig3", transfer_figure(*frames), transfer_explorer(*frames), dict(zip(("a", "b", "c"), frames))),
        ("trex_fig3_tasks", task_figure(differences), task_explorer({"accuracy": differences}), differences),
    ):
        assert save(item, fig, twin, numbers, folder=tmp_path)["png"].stat().st_size > 10_000
