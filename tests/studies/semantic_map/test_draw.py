"""What the figures of the semantic map contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from moe_analysis.studies.semantic_map import draw as plots
from moe_analysis.studies.semantic_map.agreement import agreement, by_text, clusterings
from moe_analysis.studies.semantic_map.draw_contents import interactive as contents_interactive
from moe_analysis.studies.semantic_map.draw_contents import plot as contents_plot
from moe_analysis.studies.semantic_map.maps import cluster_profile, map_frame
from moe_analysis.studies.semantic_map.measure import ClusterContents
from moe_analysis.studies.semantic_map.neighbours import neighbour_agreement, neighbour_shares

DATASETS = {f"task_{index}": f"group {index % 4}" for index in range(12)}
SAMPLE = pd.DataFrame(
    {"dataset": name, "group": group, "split": "train", "prompt": f"{name} & <b>{row}</b>"}
    for name, group in DATASETS.items()
    for row in range(5)
)
GROUPS = SAMPLE.drop_duplicates("dataset").set_index("dataset")["group"]


def scattered(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(len(SAMPLE), 6))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    return map_frame(SAMPLE, scattered(0)[:, :2], np.arange(len(SAMPLE)) % 3)


@pytest.fixture(scope="module")
def texts() -> dict[str, np.ndarray]:
    return {"bare": scattered(1), "templated": scattered(2)}


@pytest.fixture(scope="module")
def table(texts: dict[str, np.ndarray]) -> pd.DataFrame:
    return by_text(
        {text: agreement(clusterings(one, SAMPLE, (3, 6), (0, 1)), SAMPLE, 10) for text, one in texts.items()}
    )


@pytest.fixture(scope="module")
def neighbours(texts: dict[str, np.ndarray]) -> pd.DataFrame:
    return by_text({text: neighbour_agreement(neighbour_shares(one, SAMPLE, 5)) for text, one in texts.items()})


@pytest.fixture(scope="module")
def axes(points, table, neighbours) -> list:
    return plots.semantic_map(points, table, neighbours).axes


def test_both_maps_show_every_prompt_once(axes) -> None:
    for panel in axes[:2]:
        assert sum(len(layer.get_offsets()) for layer in panel.collections) == len(SAMPLE)


def test_the_left_map_names_all_data_sets_by_group_and_the_right_one_all_groups(axes) -> None:
    names = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in axes[:2]]
    assert names[1] == ["group 0", "group 1", "group 2", "group 3"]
    assert sorted(names[0]) == sorted(DATASETS)
    assert [DATASETS[name] for name in names[0]] == sorted(DATASETS.values())
    titles = [panel.get_title(loc="left") for panel in axes[:2]]
    assert titles == ["Colored by data set", "Colored by predefined group"]


def test_legend_marks_are_those_of_the_points(axes) -> None:
    from matplotlib.colors import to_rgb

    legend = axes[0].get_legend()
    listed = zip(legend.get_texts(), legend.legend_handles)
    in_legend = {text.get_text(): to_rgb(handle.get_color()) for text, handle in listed}
    assert {layer.get_label(): tuple(layer.get_facecolor()[0][:3]) for layer in axes[0].collections} == in_legend


def test_agreement_is_drawn_for_both_labellings_and_both_texts_against_every_k(axes, table) -> None:
    for panel, score in ((axes[2], "ami"), (axes[3], "nmi")):
        drawn = [container.lines[0] for container in panel.containers]
        assert len(drawn) == 4
        assert {tuple(line.get_xdata()) for line in drawn} == {(3, 4, 6, 12)}
        expected = table[(table["text"] == "templated") & (table["labels"] == "group")].sort_values("k")[score]
        assert any(np.allclose(line.get_ydata(), expected) for line in drawn)
        assert panel.get_ylabel() == score.upper()
        assert [tick.get_text() for tick in panel.get_xticklabels()] == ["3", "4", "6", "12"]


def test_the_chance_band_reaches_the_quantile_of_shuffled_labels(axes, table) -> None:
    band = next(item for item in axes[3].collections if isinstance(item, PolyCollection))
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(table.loc[table["text"] == "bare", "chance_nmi_95"].max())


def test_bars_are_the_neighbour_shares_with_a_tick_at_chance(axes, neighbours) -> None:
    panel = axes[4]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx(neighbours["share"].tolist())
    ticks = np.concatenate([line.get_xdata() for line in panel.lines])
    assert ticks == pytest.approx(neighbours["chance"].to_numpy())


def test_each_button_shows_every_prompt_once_in_one_coloring(points) -> None:
    page = plots.semantic_map_interactive(points)
    buttons = page.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["data set", "predefined group", "semantic cluster"]
    sizes = []
    for button in buttons:
        visible = [trace for trace, shown in zip(page.data, button.args[0]["visible"]) if shown]
        sizes.append(len(visible))
        assert sum(len(trace.x) for trace in visible) == len(SAMPLE)
        assert button.args[1]["legend.title.text"] == button.label
    assert sizes == [12, 4, 3]
    assert [bool(trace.visible) for trace in page.data] == list(buttons[0].args[0]["visible"]), "starts on data sets"
    assert all(trace.x.dtype == np.float32 for trace in page.data)


def test_the_hover_names_data_set_group_and_cluster_and_shows_the_prompt_as_text(points) -> None:
    first = plots.semantic_map_interactive(points).data[0]
    assert list(first.customdata[1]) == ["task_0", "group 0", "1", "task_0 &amp; &lt;b&gt;1&lt;/b&gt;"]
    assert all(f"%{{customdata[{index}]}}" in first.hovertemplate for index in range(4))


def test_a_long_prompt_is_shortened_and_broken_into_lines() -> None:
    text = plots.hover_prompt("word\n\n " * 300)
    lines = text.split("<br>")
    assert len(text) < 220 and text.endswith("…")
    assert all(len(line) <= 60 for line in lines) and len(lines) == 3


def test_escaping_comes_after_shortening_so_that_no_entity_is_cut() -> None:
    assert plots.hover_prompt("<" * 400).replace("<br>", "").replace("&lt;", "") == "…"


def contents() -> ClusterContents:
    profile = cluster_profile(np.arange(len(SAMPLE)) % 5, SAMPLE)
    return ClusterContents(profile=profile, groups=GROUPS, shared=pd.DataFrame())


def test_the_heat_map_is_drawn_into_the_users_axes() -> None:
    axes = Figure().subplots()
    assert contents().plot(axes) is axes and axes.images
    with pytest.raises(ValueError, match="has no knobs"):
        contents().widget()


def test_the_heat_map_shows_the_share_of_each_data_set_in_each_cluster() -> None:
    panel = contents_plot(contents()).axes[0]
    assert np.asarray(panel.images[0].get_array()) == pytest.approx(np.full((12, 5), 0.2))
    names = [tick.get_text() for tick in panel.get_yticklabels()]
    assert names[:3] == ["task_0  (group 0)", "task_4  (group 0)", "task_8  (group 0)"]
    assert len(panel.lines) == 3, "a line between each two of four groups"
    assert [tick.get_text().split("\n")[1] for tick in panel.get_xticklabels()] == ["1.00"] * 5


def test_the_interactive_heat_map_has_the_same_shares_and_the_counts() -> None:
    trace = contents_interactive(contents()).data[0]
    assert trace.z == pytest.approx(np.full((12, 5), 0.2)) and (trace.customdata == 1).all()
    assert trace.y[1] == "task_4 (group 0)" and trace.x[4] == "cluster 4"
