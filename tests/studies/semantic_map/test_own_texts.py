"""Plain texts as the whole input, texts of one's own on a map, and what is refused before any long work."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies import semantic_map
from moe_analysis.studies.semantic_map import measure, measure_contents
from tests.studies.fake_embeddings import EIGHT, suite

WORDS = {"coin": "flip the coin and read the side", "cat": "the cat chased a mouse home", "sum": "add these numbers up"}
TEXTS = [f"{text}, please, number {word}{place}" for place in range(8) for word, text in WORDS.items()]


@pytest.fixture(scope="module")
def plain():
    return measure(TEXTS, embedder="tfidf", method="pca", k=3)


@pytest.fixture(scope="module")
def labeled():
    frame = suite(EIGHT).assign(choices=None)
    frame["prompt"] = [f"{prompt} {row}" for row, prompt in enumerate(frame["prompt"])]
    return measure(frame, embedder="tfidf", rows=20, ks=(4,), permutations=5, method="pca")


def test_plain_texts_make_a_map_with_named_clusters_and_nothing_else(plain) -> None:
    assert plain.origin == "24 plain texts, embedded by tfidf, 3 clusters"
    assert plain.points.columns.tolist() == ["x", "y", "cluster", "prompt"]
    assert plain.names["size"].sum() == 24 and len(plain.claims) == 0 and plain.in_short == ""
    words = [set(name.split(", ")) for name in plain.names["name"]]
    assert sum(bool(own & {"coin", "cat", "numbers"}) for own in words) == 3


@pytest.mark.parametrize("given", [tuple(TEXTS), pd.Series(TEXTS, index=range(5, 29)), pd.DataFrame({"prompt": TEXTS})])
def test_every_form_of_plain_texts_gives_the_same_map(plain, given) -> None:
    found = measure(given, embedder="tfidf", method="pca", k=3)
    pd.testing.assert_frame_equal(found.points, plain.points)


def test_a_result_of_plain_texts_draws_turns_and_saves_itself(plain, tmp_path) -> None:
    (panel,) = plain.plot().axes
    assert panel.get_title(loc="left") == "24 texts in 3 semantic clusters"
    page = plain.interactive()
    assert [button.label for button in page.layout.updatemenus[0].buttons] == ["semantic cluster"]
    assert page.layout.meta["texts"]["columns"] == ["prompt", "cluster"]
    explorer = plain.widget()
    explorer.controls["k"].value = 5
    assert "k = 5: the smallest cluster" in explorer.note.value and not explorer.message.value
    files = plain.save(tmp_path)
    assert json.loads(files["json"].read_text())["numbers"]["names"][0]["cluster"] == 0
    assert "flip the coin" not in files["json"].read_text(), "texts stay out of the numbers"
    assert plain._repr_html_()


def test_the_contents_of_plain_texts_are_their_clusters(plain, tmp_path) -> None:
    contents = measure_contents(plain)
    assert contents.shared["size"].sum() == 24 and contents.shared["name"].tolist() == plain.names["name"].tolist()
    assert contents.save(tmp_path)["png"].stat().st_size > 5000 and contents.interactive().data


def test_the_sample_counts_what_is_there(labeled) -> None:
    assert labeled.origin.startswith("96 prompts of 8 data sets of a frame, embedded by tfidf")
    assert labeled.plot().axes[0].get_title(loc="left").startswith("96 prompts of 8 data sets in 4 groups, and 4 ")


def test_a_prompt_of_the_map_lies_where_it_lies_and_is_its_own_nearest(labeled) -> None:
    rows = [3, 40, 90]
    found = labeled.place(labeled.prompts["prompt"][rows].tolist())
    assert found[["x", "y"]].to_numpy() == pytest.approx(labeled.coordinates[rows], abs=1e-3)
    assert found["nearest"].tolist() == labeled.prompts["prompt"][rows].tolist()
    assert found["cluster"].tolist() == labeled.clusters.labels[rows].tolist()
    assert found["cosine"].to_numpy() == pytest.approx(1, abs=1e-5)


def test_own_texts_lie_inside_the_map_and_are_drawn_as_stars_without_changing_a_number(plain, tmp_path) -> None:
    starred = plain.with_texts(["does the coin flip?", "a mouse and a cat"])
    assert len(starred.own) == 2 and plain.own is None
    low, high = plain.coordinates.min(0), plain.coordinates.max(0)
    assert ((starred.own[["x", "y"]] >= low) & (starred.own[["x", "y"]] <= high)).all(axis=None)
    assert "cat" in starred.own["name"][1]
    before, after = (
        json.loads(one.save(tmp_path / name)["json"].read_text()) for name, one in (("a", plain), ("b", starred))
    )
    assert before == after
    assert starred.interactive().data[-1].marker.symbol == "star"
    assert starred.widget().controls["own"].value == "does the coin flip?\na mouse and a cat"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "suite has 0 texts; pass at least 4"),
        (["one", "two", "three"], "suite has 3 texts; pass at least 4"),
        (["one", " ", "three", "four"], r"suite\[1\] is empty"),
        (pd.DataFrame({"text": TEXTS}), "suite is a frame with the columns text; it needs prompt"),
        (
            pd.DataFrame({"prompt": TEXTS, "group": "a"}),
            "suite has no column dataset, split; label each prompt, or pass",
        ),
        (None, "suite = None is NoneType; pass a name, a folder, a frame or a list of texts"),
        (["same"] * 9, "k = 3 clusters but only 1 different texts; use a k from 1 to 1"),
    ],
)
def test_what_makes_no_map_is_refused_before_anything_is_embedded(given, message, monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("embedded")

    monkeypatch.setattr(sys.modules[measure.__module__], "embed", refuse)
    with pytest.raises(ValueError, match=message):
        measure(given, k=3)


def test_more_clusters_than_prompts_are_refused_by_the_argument_that_asks_for_them() -> None:
    frame = suite({"a": "A", "b": "B"}, rows=5).assign(choices=None)
    with pytest.raises(
        ValueError, match=r"ks = \(5, 50\) asks for 50 clusters but there are only 10 different prompts"
    ):
        measure(frame, embedder="tfidf", ks=(5, 50))


def test_one_number_of_clusters_or_one_seed_is_as_good_as_a_list_of_one() -> None:
    frame = suite({"a": "A", "b": "B"}, rows=12).assign(choices=None)
    sizes = {"embedder": "tfidf", "method": "pca", "permutations": 5}
    found, same = measure(frame, ks=3, seeds=1, **sizes), measure(frame, ks=(3,), seeds=(1,), **sizes)
    pd.testing.assert_frame_equal(found.agreement, same.agreement)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ks": "3"}, r"ks = '3'; pass whole numbers of at least 1, such as ks=5"),
        ({"ks": ()}, r"ks = \(\); pass whole numbers"),
        ({"ks": (0, 3)}, r"ks = \(0, 3\); pass whole numbers of at least 1"),
        ({"seeds": 0.5}, "seeds = 0.5; pass whole numbers of at least 0"),
        ({"k": "3"}, "k = '3' is not a whole number of at least 1"),
        ({"k": 0}, "k = 0 is not a whole number of at least 1"),
    ],
)
def test_counts_that_are_no_whole_numbers_are_refused_by_name(given, message) -> None:
    frame = suite({"a": "A", "b": "B"}, rows=5).assign(choices=None)
    with pytest.raises(ValueError, match=message):
        measure(frame, embedder="tfidf", **{"ks": (3,), **given})


def test_no_texts_are_placed_nowhere(plain) -> None:
    with pytest.raises(ValueError, match="texts has 0 texts; pass at least 1"):
        plain.place([])
    with pytest.raises(ValueError, match="texts = 'one' is one text; pass a list"):
        plain.with_texts("one")


def test_a_few_texts_are_enough_for_every_method(plain) -> None:
    for method in ("pca", "tsne", "umap"):
        found = semantic_map.measure(TEXTS[:4], embedder="tfidf", method=method)
        assert np.isfinite(found.coordinates).all() and len(found.names) == 2
