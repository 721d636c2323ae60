"""Runs side by side as an object: what differs in plain words, what came out, a card, a figure and a page."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest

import moe_analysis as ma
from moe_analysis.drawing import SaveError
from moe_analysis.run_comparison.comparison import RunComparison
from moe_analysis.training.choices import meaning
from moe_analysis.training.recorders.attached_run import AttachedConfig, AttachedRun
from tests.commands.calls import write_run

pytest_plugins = ["tests.browser"]


@pytest.fixture
def runs(out: Path, config) -> list[ma.Run]:
    """Four runs of a mixture at two rates and seeds, the faster ones better, and one of PEFT's LoRA."""
    made = [
        write_run(out, config(name="MoE", lr=lr, seed=seed), better=better)
        for lr, better in ((0.001, 0.0), (0.05, 0.2))
        for seed in (0, 1)
    ]
    lora = peft.LoraConfig(r=3, target_modules=["q_proj"])
    made.append(write_run(out, config(name="LoRA", adapter=lora, lr=0.01), better=0.1))
    return [ma.Run.load(path) for path in made]


def test_differences_are_told_with_what_the_fields_mean(runs: list[ma.Run]) -> None:
    table = ma.compare_runs(runs).differences.set_index("field")
    assert table.loc["lr", "meaning"].startswith("peak learning rate of the experts")
    assert table.loc["lr", [run.id for run in runs]].tolist() == [0.001, 0.001, 0.05, 0.05, 0.01]
    assert table.loc["adapter.num_experts", runs[-1].id] is None
    assert "adapter.use_dora" not in table.index, "a field that only LoRA has, at its default"


def test_outcomes_have_their_difference_to_the_first_run_with_an_interval(runs: list[ma.Run]) -> None:
    final = ma.compare_runs([runs[0], runs[2]]).final
    assert final["test_accuracy"].tolist() == [0.5, 0.7] and np.isnan(final["accuracy_difference"][0])
    assert final.loc[1, ["accuracy_difference", "accuracy_low", "accuracy_high"]].tolist() == pytest.approx([0.2] * 3)
    assert final["loss_difference"][1] == pytest.approx(-0.2)


def test_names_say_what_tells_runs_apart_and_no_more(runs: list[ma.Run], out: Path, config) -> None:
    def names(*places: int) -> list[str]:
        return ma.compare_runs([runs[place] for place in places]).names

    assert names(0, 4) == ["MoE", "LoRA"]
    assert names(0, 2) == ["lr 0.001", "lr 0.05"] and names(0, 1) == ["seed 0", "seed 1"]
    assert names(0, 1, 2, 3) == [f"lr {lr}, seed {seed}" for lr in (0.001, 0.05) for seed in (0, 1)]
    copy = write_run(out, config(name="Mo", lr=0.001)).rename(out / "MoE-again-aaaa")
    twins = ma.compare_runs([runs[0].path, copy])
    assert len(set(twins.names)) == 2 and "name" in twins.differences["field"].tolist()


def test_folders_do_as_runs_and_one_alone_is_refused(runs: list[ma.Run]) -> None:
    assert ma.compare_runs([str(runs[0].path), runs[1].path]).fields == ["seed"]
    loop = AttachedRun(Path("runs/mine"), AttachedConfig("T-REX", 0, "trex", None, 1))
    with pytest.raises(ValueError, match="holds AttachedRun.*, a loop that ma.attach recorded.*pass runs of ma.train"):
        ma.compare_runs([loop, loop])
    with pytest.raises(ValueError, match="has 1 run; pass at least two"):
        ma.compare_runs(runs[:1])


def test_a_terminal_and_a_notebook_show_the_comparison(runs: list[ma.Run]) -> None:
    compared = ma.compare_runs(runs)
    assert "5 runs, which differ in adapter.peft_type, lr" in repr(compared) and "LoRA" in repr(compared)
    html = compared._repr_html_()
    assert html.count("<polyline") == 5 and "peak learning rate of the experts" in html
    assert "+0.200 [+0.200, +0.200]" in html
    assert len(set(re.findall(r'polyline class="curve c\d" style="stroke: (#\w+)"', html))) == 5


def test_runs_that_are_not_finished_are_compared_as_far_as_they_came(out: Path, config) -> None:
    paths = [write_run(out, config(seed=seed), steps=2, finished=False) for seed in (0, 1)]
    compared = ma.compare_runs(paths)
    assert "No run is finished." in compared._repr_html_()
    assert "seed 0, seed 1 not finished and without losses" in compared.caption["origin"]
    assert [len(trace.x or ()) for trace in compared.interactive().data] == [1, 0, 1, 0]


def test_names_of_a_user_are_text_everywhere(out: Path, config, suite: str) -> None:
    paths = [write_run(out, config(seed=seed)).rename(out / f"<script>{seed}") for seed in (0, 1)]
    compared = ma.compare_runs(paths)
    assert "<script>0" not in compared._repr_html_()
    told = compared.save(out / "page.html").read_text()
    assert "<script>0" not in told and "&lt;script&gt;0" in told


def test_every_field_of_a_run_has_a_meaning_and_so_has_every_field_of_our_adapters() -> None:
    names = [entry.name for entry in fields(ma.TrainConfig) if entry.name != "adapter"]
    for adapter in ("MoeLora", "TRex", "Sira", "HydraLora", "Momor", "Smore"):
        names += [f"adapter.{entry.name}" for entry in fields(getattr(ma.adapters, f"{adapter}Config"))]
    assert [name for name in names if not meaning(name)] == []
    assert meaning("adapter.use_rslora", (peft.LoraConfig(),)).startswith("when set to True")
    assert (
        meaning("optimizer_options.damping") == "the optimizer's own settings" and meaning("adapter.unheard_of") == ""
    )


# ---------------------------------------------------------------- the page


def test_a_run_is_one_color_in_both_panels_and_lanes_hold_what_differs(runs: list[ma.Run]) -> None:
    fig = ma.compare_runs(runs).interactive()
    pairs = [fig.data[place : place + 2] for place in range(0, len(fig.data), 2)]
    assert all(first.line == second.line and first.legendgroup == second.legendgroup for first, second in pairs)
    assert len({(first.line.color, first.line.dash) for first, _ in pairs}) == 5
    lanes = list(fig.layout.yaxis.ticktext)
    assert lanes[:2] == ["adapter", "lr"] and lanes[-2:] == ["<b>test loss</b>", "<b>test accuracy</b>"]
    lr = [first.x[1] for first, _ in pairs]
    assert lr[0] == 0 and lr[2] == 1 and lr[4] == pytest.approx(np.log(10) / np.log(50)), "a logarithmic lane"


def test_a_page_is_written_only_where_it_is_one(runs: list[ma.Run], tmp_path: Path) -> None:
    compared = RunComparison(runs)
    with pytest.raises(ValueError, match="is not a page; pass a name that ends in .html"):
        compared.save(tmp_path / "page.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        compared.save(tmp_path / "file" / "page.html")


def lanes_of(page: Any) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The boxes of the lanes' names and of the values, none of which may lie on another."""
    boxes = """selector => [...document.querySelectorAll(selector)].map(element => {
        const {left, right, top, bottom} = element.getBoundingClientRect(); return {left, right, top, bottom}; })"""
    names, values = page.evaluate(boxes, ".ytick text"), page.evaluate(boxes, ".annotation-text")
    for name, value in product(names, values):
        apart = name["right"] <= value["left"] or name["bottom"] <= value["top"] or value["bottom"] <= name["top"]
        assert apart, "a lane's name lies on a value"
    return names, values


def test_the_widest_value_keeps_clear_of_its_lane_on_a_phone(runs: list[ma.Run], tab, config, out, tmp_path) -> None:
    hydra = ma.HydraLoraConfig(target_modules=["q_proj"])  # first in the alphabet, so at the left, and in capitals
    compared = RunComparison([runs[0], ma.Run.load(write_run(out, config(name="Hydra", adapter=hydra)))])
    tab.page.set_viewport_size({"width": 360, "height": 900})
    page = tab.open(compared.save(tmp_path / "page.html"))
    page.wait_for_selector("#run_comparison[data-drawn*=light]")
    lanes_of(page)
    assert "HY…ALORA" in page.locator(".annotation-text").all_text_contents()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_the_page_is_readable_on_a_desk_and_on_a_phone(runs: list[ma.Run], tab, tmp_path, width, theme) -> None:
    path = RunComparison(runs).save(tmp_path / "page.html")
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.page.emulate_media(color_scheme=theme)
    page = tab.open(path)
    page.wait_for_selector(f"#run_comparison[data-drawn*={theme}]")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    names, values = lanes_of(page)
    assert len(names) == 7 and len(values) > 14
    assert all(box["left"] >= 0 and box["right"] <= width for box in [*names, *values])
    page.locator(".legendtoggle").first.click()
    page.wait_for_function("plot.data.filter(trace => trace.visible === 'legendonly').length === 2")
    assert tab.complaints == []
