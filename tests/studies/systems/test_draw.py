"""What the figures of systems and their interactive twins contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.drawing.save import save
from moe_analysis.drawing.style import method_color
from moe_analysis.studies.systems import measure_table
from moe_analysis.studies.systems.draw import RADAR_METHODS, plot, transfer_explorer, transfer_figure
from moe_analysis.studies.systems.draw_tasks import task_explorer, task_figure
from moe_analysis.studies.systems.scores import part_summary, scores, task_differences
from tests.studies.drawn_texts import outside, overlaps
from tests.studies.fake_result import Found

from .test_scores import INSIDE_TASKS, NINE, OOD_TASKS, compare, levels_of


@pytest.fixture(scope="module")
def frames():
    frame = scores(*compare({"T-REX": 0.1}, seeds=(0, 1, 2)))
    return frame, part_summary(frame), levels_of()


@pytest.fixture(scope="module")
def panels(frames):
    fig = plot(Found(methods=NINE, **dict(zip(("scores", "summary", "levels"), frames))))
    *dots, tasks, radar = fig.axes
    return radar, dict(zip(("originals", "variants", "ood"), dots, strict=True)), fig, tasks


@pytest.fixture(scope="module")
def differences(frames):
    return task_differences(frames[0])


def mean_of(frame, method, part):
    return frame[(frame["method"] == method) & (frame["part"] == part)]["accuracy"].mean()


def guess_of(part):
    levels = levels_of()
    return levels.loc[levels["part"] == part, "guess"].mean()


def points_of(frame, method, part):
    return 100 * (mean_of(frame, method, part) - guess_of(part))


NUMBERED = [f"{name.replace('_', ' ')} {number}" for number, name in enumerate(OOD_TASKS, 1)]


def test_the_radar_has_the_papers_methods_on_every_ood_task(panels, frames):
    lines = {line.get_label(): line for line in panels[0].lines}
    assert tuple(lines) == RADAR_METHODS
    for method, line in lines.items():
        own = frames[0].query("part == 'ood' and method == @method").groupby("dataset")["accuracy"].mean()
        np.testing.assert_allclose(line.get_ydata(), own.loc[[*OOD_TASKS, OOD_TASKS[0]]])
        assert line.get_color() == method_color(method)
    assert [tick.get_text() for tick in panels[0].get_xticklabels()] == [str(number) for number in (1, 2, 3, 4)]


def test_every_ood_task_has_a_row_with_its_number_and_points_above_guessing(panels, frames):
    rows = panels[3]
    assert [tick.get_text() for tick in rows.get_yticklabels()] == NUMBERED
    marks = {line.get_label(): line for line in rows.lines if line.get_label() in RADAR_METHODS}
    guess = levels_of().query("part == 'ood'").set_index("dataset")["guess"]
    assert tuple(marks) == RADAR_METHODS
    away = frames[0].query("part == 'ood'")
    for method, line in marks.items():
        own = away[away["method"] == method].groupby("dataset")["accuracy"].mean()
        np.testing.assert_allclose(line.get_xdata(), 100 * (own - guess).loc[list(OOD_TASKS)])
        assert (np.round(line.get_ydata()) == np.arange(4)).all()


def test_every_method_has_its_dot_and_seeds_in_every_part(panels, frames):
    frame, summary, _ = frames
    assert [tick.get_text() for tick in panels[1]["originals"].get_yticklabels()] == list(NINE)
    for part, panel in panels[1].items():
        dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}
        assert dots == pytest.approx({place: points_of(frame, method, part) for place, method in enumerate(NINE)})
        assert [len(line.get_xdata()) for line in panel.lines if line.get_marker() == "|"] == [3] * len(NINE)
        tasks = summary.set_index("part").loc[part, "tasks"].iloc[0]
        assert panel.get_title(loc="left").endswith(f"({tasks} tasks)")


@pytest.mark.parametrize("far", [False, True])
def test_the_untrained_backbone_is_a_line_or_where_it_is_far_off_a_number(frames, far):
    frame, summary, _ = frames
    levels = levels_of(untrained=0.02 if far else mean_of(frame, "LoRA", "ood"))
    panel = transfer_figure(frame, summary, levels).axes[2]
    drawn = [line for line in panel.lines if line.get_label() == "untrained backbone"]
    points = 100 * (levels["untrained"].iloc[0] - guess_of("ood"))
    assert [text.get_text() for text in panel.texts] == [f"untrained ← {points:.0f}"] * far
    assert [line.get_xdata()[0] for line in drawn] == pytest.approx([] if far else [points])


def test_what_is_worse_than_guessing_is_gray(frames):
    frame, summary, levels = frames
    hard = levels.assign(guess=levels["guess"].where(levels["part"] != "ood", 0.95))
    for table, shaded in ((levels, 0), (hard, 1)):
        panel = transfer_figure(frame, summary, table).axes[2]
        assert len(panel.patches) == shaded and (panel.get_xlim()[0] < 0) == bool(shaded)


def test_no_text_meets_another_or_leaves_the_figure_and_the_runs_stand_below(panels):
    fig = panels[2]
    assert overlaps(fig) == [] and outside(fig) == []
    assert fig.get_supxlabel().startswith("2 seeds, 4 steps. Bars: 95 % intervals over seeds")


def test_no_text_of_the_shipped_figure_meets_another() -> None:
    fig = measure_table("compact").plot()  # ten tasks, so that a number is at the bottom of the radar, above the legend
    assert overlaps(fig) == [] and outside(fig) == []


def test_a_radar_of_absent_methods_is_refused(frames):
    frame, summary, levels = frames
    with pytest.raises(ValueError, match="radar_methods names DoRA, which have no runs; choose from LoRA"):
        transfer_figure(frame, summary, levels, ("DoRA",))


def test_without_tasks_that_nobody_trained_on_those_of_training_are_drawn(frames):
    frame = frames[0][frames[0]["part"] != "ood"]
    figure = transfer_figure(frame, part_summary(frame), frames[2])
    titles = [" ".join(panel.get_title(loc="left").split()) for panel in figure.axes]
    assert titles[:3] == ["originals (3 tasks)", "variants (2 tasks)", "task by task, originals"]
    assert transfer_explorer(frame, part_summary(frame), frames[2]).layout.xaxis2.title.text.endswith("originals")


def test_a_suite_without_variants_has_two_panels_of_dots(tmp_path):
    frame = scores(*compare(seeds=(0, 1), methods=RADAR_METHODS, suite=str(tmp_path)))
    levels = levels_of().replace({"part": {"originals": "in-distribution", "variants": "in-distribution"}})
    titles = [panel.get_title(loc="left") for panel in transfer_figure(frame, part_summary(frame), levels).axes[:2]]
    assert titles == ["in distribution\n(5 tasks)", "out of distribution\n(4 tasks)"]


def test_many_tasks_have_a_row_each_and_their_number_around_the_radar(frames):
    frame, _, levels = frames
    names = [f"{letter}_reasoning_about_many_objects" for letter in "abcdefghijklmnop"]
    away, level = frame[frame["dataset"] == "swap_tracking"], levels[levels["dataset"] == "swap_tracking"]
    many, their = (pd.concat([one.assign(dataset=name) for name in names]) for one in (away, level))
    fig = transfer_figure(many, part_summary(many), their)
    rows, radar = fig.axes[-2:]
    expected = [f"{name.replace('_', ' ')} {number}" for number, name in enumerate(names, 1)]
    assert [tick.get_text() for tick in rows.get_yticklabels()] == expected
    assert [tick.get_text() for tick in radar.get_xticklabels()] == [str(number) for number in range(1, 17)]
    assert overlaps(fig) == []


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
    frame, summary, _ = frames
    fig = transfer_explorer(frame, summary, levels_of(untrained=0.5))
    radar = [trace for trace in fig.data if trace.type == "scatterpolar"]
    assert [trace.name for trace in radar] == ["guessing", *NINE]
    assert [trace.name for trace in radar if trace.visible is True] == ["guessing", *RADAR_METHODS]
    by_task = [trace for trace in fig.data if trace.type == "scatter" and trace.yaxis == "y2"]
    assert [trace.name for trace in by_task] == list(NINE) and list(by_task[0].text) == NUMBERED
    buttons = fig.layout.updatemenus[0].buttons
    assert len(buttons) == 6 and buttons[5].label == "loss, out of distribution"
    assert [trace.visible for trace in fig.data] == list(buttons[0].args[0]["visible"])
    for button, traces in zip(buttons, (3, 3, 3, 3, 3, 3)):  # guessing is far off, and a loss has none
        shown = [trace for trace, visible in zip(fig.data, button.args[0]["visible"]) if visible is True]
        dots = [trace for trace in shown if trace.type == "scatter" and trace.yaxis == "y"]
        assert len(dots) == traces and list(dots[1].y) == list(NINE)
    last = [trace for trace, visible in zip(fig.data, buttons[2].args[0]["visible"]) if visible is True][-2]
    assert last.x[0] == pytest.approx(points_of(frame, "LoRA", "ood"), rel=1e-5)
    assert fig.layout.title.subtitle.text.startswith("3 seeds. Bars")


def test_the_task_explorer_has_a_map_for_each_measure(frames, differences):
    fig = task_explorer({"accuracy": differences, "loss": task_differences(frames[0], measure="loss")})
    assert [trace.visible for trace in fig.data] == [True, False]
    np.testing.assert_allclose(fig.data[0].z, -fig.data[1].z, atol=1e-6)  # the losses are made as 1 - accuracy
    assert fig.data[0].y[7] == "out of distribution: swap tracking" and fig.data[0].x[7] == "T-REX"


def test_two_seeds_that_agree_on_a_task_make_no_cell_bold():
    table = task_differences(scores(*compare({"T-REX": 0.1}, seeds=(0, 1))))
    assert table["difference"].notna().all() and table[["low", "high"]].isna().all(axis=None)
    assert not any(
        "nan" in text or "95 %" in text for row in task_explorer({"accuracy": table}).data[0].text for text in row
    )
    assert {text.get_fontweight() for text in task_figure(table).axes[0].texts} <= {"normal", 400}


def test_both_figures_are_saved(frames, differences, tmp_path):
    for item, fig, twin, numbers in (
        ("trex_fig3", transfer_figure(*frames), transfer_explorer(*frames), dict(zip(("a", "b", "c"), frames))),
        ("trex_fig3_tasks", task_figure(differences), task_explorer({"accuracy": differences}), differences),
    ):
        assert save(item, fig, twin, numbers, folder=tmp_path)["png"].stat().st_size > 10_000
