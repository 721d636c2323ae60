"""What the figures of the semantic map contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from moe_analysis.studies.semantic_map import draw as plots
from moe_analysis.studies.semantic_map import draw_interactive as pages
from moe_analysis.studies.semantic_map import draw_marks as marks
from moe_analysis.studies.semantic_map.agreement import agreement, by_text, clusterings
from moe_analysis.studies.semantic_map.draw_contents import interactive as contents_interactive
from moe_analysis.studies.semantic_map.draw_contents import plot as contents_plot
from moe_analysis.studies.semantic_map.maps import cluster_profile, map_frame
from moe_analysis.studies.semantic_map.measure import ClusterContents, names_of
from moe_analysis.studies.semantic_map.neighbors import neighbor_agreement, neighbor_shares
from tests.studies.fake_result import Found

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
def neighbors(texts: dict[str, np.ndarray]) -> pd.DataFrame:
    return by_text({text: neighbor_agreement(neighbor_shares(one, SAMPLE, 5)) for text, one in texts.items()})


NAMES = pd.DataFrame({"cluster": [0, 1, 2], "name": ["red, coin", "cat <b>", "a long name of some words"]})
OWN = pd.DataFrame({"x": [0.1], "y": [0.2], "text": ["<i>mine</i>"], "name": ["red, coin"], "nearest": ["task_0"]})


@pytest.fixture(scope="module")
def axes(points, table, neighbors) -> list:
    found = Found(points=points, names=NAMES, agreement=table, neighbors=neighbors, own=OWN, labeled=True)
    return plots.plot(found).axes


def dots(panel) -> list:
    return [layer for layer in panel.collections if layer.get_label() in set(DATASETS.values())]


def test_the_map_shows_every_prompt_once_in_the_color_of_its_group_with_stars_for_own_texts(axes) -> None:
    assert sum(len(layer.get_offsets()) for layer in dots(axes[0])) == len(SAMPLE)
    assert axes[0].get_title(loc="left") == "60 prompts of 12 data sets in 4 groups, and 3 semantic clusters"
    star = axes[0].collections[-1]
    assert np.asarray(star.get_offsets()).tolist() == [[0.1, 0.2]]


def test_the_map_names_every_cluster_inside_its_picture_and_has_no_legend_of_data_sets(axes) -> None:
    told = {" ".join(text.get_text().split()) for text in axes[0].texts}
    assert told == set(NAMES["name"])
    assert all(text.get_fontsize() >= 12 for text in axes[0].texts), "read from the last row of a room"
    names = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert names == ["group 0", "group 1", "group 2", "group 3"]


def test_legend_marks_are_those_of_the_points(axes) -> None:
    from matplotlib.colors import to_rgb

    legend = axes[0].get_legend()
    listed = zip(legend.get_texts(), legend.legend_handles)
    in_legend = {text.get_text(): to_rgb(handle.get_color()) for text, handle in listed}
    assert {layer.get_label(): tuple(layer.get_facecolor()[0][:3]) for layer in dots(axes[0])} == in_legend


def test_more_than_a_dozen_classes_are_named_on_the_map_in_place_of_a_legend(points) -> None:
    many = points.assign(dataset=[f"task {row}" for row in range(len(points))])
    panel = Figure((7, 5)).subplots()
    plots.map_panel(panel, many, "dataset", marks=dict.fromkeys(many["dataset"], plots.Mark("#000000", "o", "circle")))
    assert panel.get_legend() is None and {text.get_text() for text in panel.texts} == set(many["dataset"])


def test_agreement_is_drawn_for_both_labelings_and_both_texts_against_every_k(axes, table) -> None:
    drawn = [container.lines[0] for container in axes[1].containers]
    assert len(drawn) == 4
    assert {tuple(line.get_xdata()) for line in drawn} == {(3, 4, 6, 12)}
    expected = table[(table["text"] == "templated") & (table["labels"] == "group")].sort_values("k")["ami"]
    assert any(np.allclose(line.get_ydata(), expected) for line in drawn)
    assert axes[1].get_title(loc="left") == "Agreement (AMI)"
    assert [tick.get_text() for tick in axes[1].get_xticklabels()] == ["3", "4", "6", "12"]


def test_the_chance_band_reaches_the_quantile_of_shuffled_labels(axes, table) -> None:
    band = next(item for item in axes[1].collections if isinstance(item, PolyCollection))
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(table.loc[table["text"] == "bare", "chance_ami_95"].max())


def test_bars_are_the_neighbor_shares_with_a_tick_at_chance(axes, neighbors) -> None:
    panel = axes[2]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx(neighbors["share"].tolist())
    ticks = np.concatenate([line.get_xdata() for line in panel.lines])
    assert ticks == pytest.approx(neighbors["chance"].to_numpy())


def test_each_button_shows_every_prompt_once_in_one_coloring(points) -> None:
    page = pages.interactive(Found(points=points, names=NAMES, own=None))
    buttons = page.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["predefined group", "data set", "semantic cluster"]
    sizes = []
    for button in buttons:
        visible = [trace for trace, shown in zip(page.data, button.args[0]["visible"]) if shown]
        dotted = [trace for trace in visible if trace.mode == "markers"]
        sizes.append(len(dotted))
        assert sorted(row for trace in dotted for row in trace.customdata) == list(range(len(SAMPLE)))
    assert sizes == [4, 12, 3]
    assert [bool(trace.visible) for trace in page.data] == list(buttons[0].args[0]["visible"]), "starts on groups"
    assert all(trace.x.dtype == np.float32 for trace in page.data)


def written(page, coloring: str) -> set[str]:
    """The names that stand on a page's map."""
    (button,) = [one for one in page.layout.updatemenus[0].buttons if one.label == coloring]
    visible = [trace for trace, shown in zip(page.data, button.args[0]["visible"]) if shown and trace.mode == "text"]
    return {
        text.replace("<b>", "").replace("</b>", "").replace("<br>", " ") for trace in visible for text in trace.text
    }


def test_a_page_has_a_hull_for_each_cluster_and_names_on_the_map(points) -> None:
    page = pages.interactive(Found(points=points, names=NAMES, own=None))
    assert len(page.layout.shapes) == 3
    clusters = {"red, coin", "cat &lt;b&gt;", "a long name of some words"}
    assert written(page, "predefined group") == written(page, "semantic cluster") == clusters
    assert written(page, "data set") == set(DATASETS), "twenty names, and no legend of twenty entries"
    assert {trace.name for trace in page.data if trace.showlegend} == set(DATASETS.values())


def test_the_hover_names_data_set_group_and_cluster_and_shows_the_prompt_as_text(points) -> None:
    first = pages.interactive(Found(points=points, names=NAMES, own=OWN)).data[0]
    hover = "task_0 &amp; &lt;b&gt;1&lt;/b&gt;<br><b>task_0</b> (group 0), cluster 1: cat &lt;b&gt;"
    assert first.hovertext[1] == hover and first.hovertemplate == "%{hovertext}<extra></extra>"


def test_the_texts_that_a_page_lists_are_those_of_the_points_that_tell_their_row(points) -> None:
    page = pages.interactive(Found(points=points, names=NAMES, own=None))
    texts = page.layout.meta["texts"]
    assert texts["columns"] == ["prompt", "data set", "group", "cluster"]
    ordered = marks.by_group(points).reset_index(drop=True)
    assert [row[0] for row in texts["rows"]] == ordered["prompt"].tolist()
    for trace in page.data:
        for place, row in enumerate(trace.customdata or ()):
            assert trace.x[place] == ordered["x"][row]


def test_a_text_of_ones_own_is_a_star_whose_hover_is_text(points) -> None:
    star = pages.interactive(Found(points=points, names=NAMES, own=OWN)).data[-1]
    assert star.marker.symbol == "star" and star.customdata is None
    assert star.hovertext[0].startswith("&lt;i&gt;mine&lt;/i&gt;<br>your text, cluster red, coin")


def test_a_long_prompt_is_shortened_and_broken_into_lines() -> None:
    text = marks.hover_prompt("word\n\n " * 300)
    lines = text.split("<br>")
    assert len(text) < 220 and text.endswith("…")
    assert all(len(line) <= 60 for line in lines) and len(lines) == 3


def test_escaping_comes_after_shortening_so_that_no_entity_is_cut() -> None:
    assert marks.hover_prompt("<" * 400).replace("<br>", "").replace("&lt;", "") == "…"


def contents() -> ClusterContents:
    labels = np.arange(len(SAMPLE)) % 5
    names = names_of(SAMPLE["prompt"], labels).set_index("cluster")["name"]
    profile = cluster_profile(labels, SAMPLE)
    return ClusterContents(profile=profile, groups=GROUPS, names=names, shared=pd.DataFrame())


def test_the_heat_map_is_drawn_into_the_users_axes() -> None:
    axes = Figure().subplots()
    assert contents().plot(axes) is axes and axes.images
    with pytest.raises(ValueError, match="has no controls"):
        contents().widget()


def test_the_heat_map_shows_the_share_of_each_data_set_in_each_cluster() -> None:
    panel = contents_plot(contents()).axes[0]
    assert np.asarray(panel.images[0].get_array()) == pytest.approx(np.full((12, 5), 0.2))
    names = [tick.get_text() for tick in panel.get_yticklabels()]
    assert names[:3] == ["task_0  (group 0)", "task_4  (group 0)", "task_8  (group 0)"]
    assert len(panel.lines) == 3, "a line between each two of four groups"
    assert [tick.get_text().split("\n")[-1] for tick in panel.get_xticklabels()] == ["1.00"] * 5


def test_the_interactive_heat_map_has_the_same_shares_and_the_counts() -> None:
    trace = contents_interactive(contents()).data[0]
    assert trace.z == pytest.approx(np.full((12, 5), 0.2)) and (trace.customdata[..., 0] == 1).all()
    assert trace.customdata[..., 1] == pytest.approx(20)
    assert trace.y[1] == "task_4 (group 0)" and trace.x[4].startswith("4: ")
