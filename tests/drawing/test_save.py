"""Figures on disk: complete, repeatable, and never half written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.drawing.save import CLAIM_FIELDS, SaveError, figures_folder, save
from moe_analysis.drawing.style import (
    FORM_COLORS,
    METHOD_COLORS,
    METHOD_MARKERS,
    SYSTEM_COLORS,
    category_marks,
    figure,
    luminance,
    method_color,
    method_marks,
    note_below,
    use_style,
)
from moe_analysis.studies.routing.draw_gates import expert_color
from tests.studies.drawn_texts import boxes, outside, overlaps

CLAIM = dict(zip(CLAIM_FIELDS, ["T-REX Fig. 4", "they differ", "no number", 0.2, 0.01, "reproduced"]))


def drawing():
    with use_style():
        fig = figure(3, 2)
        fig.subplots().plot([0, 1], [1, 3])
        return fig


def plot() -> go.Figure:
    return go.Figure(go.Scatter(x=[0, 1], y=[1, 3]))


def stored(folder: Path, numbers: object, **options: object) -> dict:
    return json.loads(save("it", None, None, numbers, folder=folder, **options)["json"].read_text())


@pytest.mark.parametrize("name", ["own.docx", "own.png", "own.pdf", "talk.SVG", "deep/own.json", "own.html"])
def test_the_name_of_a_file_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SaveError, match=r"ends in \.\w+, and several files are written; pass a folder"):
        save("it", None, None, {"k": 1}, folder=tmp_path / name)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["own", "figures.v1.2", "lr0.001", "2026.11.29", ".hidden", "new/er"])
def test_folders_may_be_called_so(tmp_path: Path, name: str) -> None:
    assert save("it", None, None, {"k": 1}, folder=tmp_path / name)["json"].parent == tmp_path / name


def test_a_folder_that_is_there_is_taken_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "own.docx").mkdir()
    assert save("it", None, None, {"k": 1}, folder=tmp_path / "own.docx")["json"].is_file()


def test_a_figure_is_a_picture_a_page_and_its_numbers(tmp_path: Path) -> None:
    numbers = pd.DataFrame({"k": [5, 7], "ami": [0.5, 0.25]})
    paths = save("trex_fig0", drawing(), plot(), numbers, claims=[CLAIM], folder=tmp_path)
    assert {path.name for path in paths.values()} == {f"trex_fig0.{kind}" for kind in ("png", "pdf", "html", "json")}
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    page = paths["html"].read_text()
    assert 'id="trex_fig0"' in page and 'src="plotly.min.js"' in page and (tmp_path / "plotly.min.js").exists()
    record = json.loads(paths["json"].read_text())
    assert record["item"] == "trex_fig0"
    assert record["numbers"] == [{"k": 5, "ami": 0.5}, {"k": 7, "ami": 0.25}]
    assert record["claims"] == [CLAIM]
    assert set(record["versions"]) >= {"python", "numpy", "torch"}


def test_the_same_figure_gives_the_same_bytes_again(tmp_path: Path) -> None:
    numbers = {"curve": np.linspace(0, 1, 5, dtype=np.float32)}
    first, second = (save("it", drawing(), plot(), numbers, folder=tmp_path / name) for name in ("a", "b"))
    assert all(first[kind].read_bytes() == second[kind].read_bytes() for kind in ("png", "html", "json"))


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    numbers = {"frame": pd.DataFrame({"a": [1.0, np.nan], "b": pd.array([None, 2], dtype="Int64")}), "worst": np.inf}
    assert stored(tmp_path, numbers)["numbers"] == {
        "frame": [{"a": 1.0, "b": None}, {"a": None, "b": 2}],
        "worst": None,
    }


def test_arrays_tensors_series_and_dataclasses_are_stored_as_plain_values(tmp_path: Path) -> None:
    @dataclass
    class Point:
        x: int
        tags: tuple[str, ...]

    numbers = {
        "array": np.eye(2),
        "tensor": torch.tensor([1, 2]),
        "series": pd.Series([True, False]),
        "point": Point(3, ("a",)),
        "scalar": np.int64(4),
        5: "key",
    }
    assert stored(tmp_path, numbers)["numbers"] == {
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "tensor": [1, 2],
        "series": [True, False],
        "point": {"x": 3, "tags": ["a"]},
        "scalar": 4,
        "5": "key",
    }


def test_what_json_cannot_hold_is_refused_by_its_place_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"numbers\.deep\[1\] = .* is object"):
        save("it", drawing(), plot(), {"deep": [1, object()]}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_are_stored_by_id_with_their_seeds_once_each(tmp_path: Path) -> None:
    runs = [SimpleNamespace(id=f"run{index}", config=SimpleNamespace(seed=index % 2 + 3)) for index in range(3)]
    record = stored(tmp_path, {}, runs=iter([*runs, "by-name"]))
    assert record["runs"] == ["run0", "run1", "run2", "by-name"]
    assert record["seeds"] == [3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"verdict": "maybe"}, "'maybe'; use one of reproduced, contradicted"), ({"paper": ...}, "has no paper")],
)
def test_a_claim_without_a_field_or_with_another_verdict_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    claim = {name: value for name, value in {**CLAIM, **change}.items() if value is not ...}
    with pytest.raises(SaveError, match=rf"claims\[1\] .*{message}"):
        save("it", None, None, {}, claims=[CLAIM, claim], folder=tmp_path)


def test_claims_may_be_a_frame_with_further_columns(tmp_path: Path) -> None:
    assert stored(tmp_path, {}, claims=pd.DataFrame([{**CLAIM, "note": "x"}]))["claims"] == [{**CLAIM, "note": "x"}]


@pytest.mark.parametrize("item", ["", "../up", "Fig 4"])
def test_an_item_that_is_no_file_name_is_refused(tmp_path: Path, item: str) -> None:
    with pytest.raises(SaveError, match="item = "):
        save(item, None, None, {}, folder=tmp_path)


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaveError, match="file/figures' cannot be written .*MOE_ANALYSIS_FIGURES"):
        save("it", None, None, {}, folder=tmp_path / "file" / "figures")


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch) -> None:
    before = save("it", None, None, {"a": 1}, folder=tmp_path)["json"].read_bytes()
    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(SaveError, match="No space left"):
        save("it", None, None, {"a": 2}, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["it.json"]
    assert (tmp_path / "it.json").read_bytes() == before


def failing(*paths: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_folder_comes_from_the_argument_then_the_variable_then_the_project(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_FIGURES", str(tmp_path / "asked"))
    assert figures_folder(tmp_path / "given") == tmp_path / "given"
    assert figures_folder() == tmp_path / "asked"
    monkeypatch.delenv("MOE_ANALYSIS_FIGURES")
    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "long")
    assert figures_folder() == Path(__file__).parents[2] / "figures" / "long"


def test_the_settings_of_the_environment_are_stored_without_this_machines_paths(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("EMBEDDER", "BACKBONE"):
        monkeypatch.delenv(f"MOE_ANALYSIS_{name}", raising=False)
    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "tiny")
    monkeypatch.setenv("MOE_ANALYSIS_SUITE", str(tmp_path / "mine"))
    assert stored(tmp_path, {})["preset"] == {"preset": "tiny", "suite": "mine"}


# ---------------------------------------------------------------- style


def test_forty_eight_categories_look_different_and_one_more_is_refused() -> None:
    marks = category_marks(map(str, range(48)))
    assert len({(mark.color, mark.marker) for mark in marks.values()}) == 48
    assert len({(mark.color, mark.symbol) for mark in marks.values()}) == 48
    with pytest.raises(ValueError, match="49 categories"):
        category_marks(map(str, range(49)))


@pytest.mark.parametrize("compared", [SYSTEM_COLORS, FORM_COLORS])
def test_no_two_methods_of_a_comparison_share_a_color(compared: dict[str, str]) -> None:
    assert len(set(compared.values())) == len(compared)


@given(st.lists(st.sampled_from([*SYSTEM_COLORS, "S'MoRE*", "T-REX, smaller", "mine", "yours"]), unique=True))
def test_a_method_has_one_color_and_one_shape_in_every_figure(together: list[str]) -> None:
    marks = method_marks(together)
    assert len({mark.marker for mark in marks.values()}) == len({mark.symbol for mark in marks.values()}) == len(marks)
    assert all(marks[name] == method_marks([name])[name] for name in set(together) & set(METHOD_MARKERS))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_forms_of_an_optimizer_have_different_shapes(name: str) -> None:
    assert len({mark.marker for mark in method_marks(form.format(name) for form in FORM_COLORS).values()}) == 4


LABELS_OF_TABLE_2 = (
    "LoRA",
    "HydraLoRA (4)",
    "MixLoRA (4)",
    "MixLoRA (8)",
    "S'MoRE (2-2)",
    "S'MoRE (4-4)",
    "LoRA-MoE",
    "mix-and-match",
    "T-REX",
    "T-REX, smaller",
)


def lab(color: str) -> np.ndarray:
    """(3,) OKLab coordinates of "#0072B2" (Ottosson 2020), in which a distance of .02 is one that the eye just sees."""
    parts = np.array([int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    opponents = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(opponents) @ np.cbrt(np.array(cones) @ linear)


@pytest.mark.parametrize("together", [LABELS_OF_TABLE_2, [*SYSTEM_COLORS, "T-REX, router alone", "rank-1 diagonal"]])
def test_versions_and_parts_of_systems_that_are_drawn_together_are_told_apart(together: Sequence[str]) -> None:
    for one, other in combinations(together, 2):
        assert np.linalg.norm(lab(method_color(one)) - lab(method_color(other))) > 0.09, (one, other)


@pytest.mark.parametrize("name", METHOD_COLORS)
def test_a_method_shows_on_white(name: str) -> None:
    assert 1.05 / (luminance(method_color(name)) + 0.05) > 2.2  # the contrast of WCAG; the palette's orange has 2.25


def test_an_unknown_method_takes_the_color_of_no_other() -> None:
    assert method_color("T-REX without intuition") not in METHOD_COLORS.values()
    assert method_color("T-REX without intuition") == method_color("T-REX without intuition")


def test_the_style_holds_inside_the_block_only() -> None:
    import matplotlib

    before = matplotlib.rcParams["axes.spines.top"], matplotlib.rcParams["font.size"]
    with use_style():
        assert not figure().subplots().spines["top"].get_visible()
    assert (matplotlib.rcParams["axes.spines.top"], matplotlib.rcParams["font.size"]) == before


def test_a_long_note_breaks_below_the_panels_and_meets_nothing():
    with use_style(large=True):
        fig = figure(7.2, 3.0)
        panel = fig.subplots()
        panel.set_xlabel("step")
        note_below(fig, "3 seeds; " + "bars are 95 % intervals over seeds, " * 8)
    assert overlaps(fig) == [] and outside(fig) == []
    (note,) = [text for text in boxes(fig) if text[0].startswith("3 seeds")]
    (label,) = [text for text in boxes(fig) if text[0] == "step"]
    assert note[0].count("\n") >= 2 and note[1].y1 <= label[1].y0


def test_the_large_style_ends_with_its_block():
    import matplotlib

    before = matplotlib.rcParams["font.size"]
    with use_style(large=True):
        assert matplotlib.rcParams["font.size"] == 10 and matplotlib.rcParams["axes.spines.top"] is False
    assert matplotlib.rcParams["font.size"] == before


# linear RGB as it is seen without one kind of cones (Machado et al. 2009)
SEEN = {
    "normal": np.eye(3),
    "no green cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no red cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(color: str, vision: str) -> np.ndarray:
    """(3,) coordinates of "#0072B2" in OKLab, times 100."""
    parts = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return 100 * TO_LAB @ np.cbrt(TO_CONES @ np.clip(SEEN[vision] @ linear, 0, 1))


@pytest.mark.parametrize(("vision", "least"), [("normal", 8), ("no green cones", 4.5), ("no red cones", 4)])
def test_the_eight_first_experts_and_none_have_colors_that_can_be_told_apart(vision: str, least: float) -> None:
    colors = [expert_color(expert) for expert in range(-1, 8)]
    places = [oklab(color, vision) for color in colors]
    assert min(np.linalg.norm(one - other) for one, other in combinations(places, 2)) > least
    if vision == "normal":
        grays = [color for color, place in zip(colors, places) if np.hypot(*place[1:]) < 3]
        assert grays == [expert_color(-1)], "gray is for a token that no expert takes"
