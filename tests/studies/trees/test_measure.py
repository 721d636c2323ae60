"""From real runs of a few steps to used trees and to the tree of one token."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure

import moe_analysis as ma
from moe_analysis.studies import trees
from moe_analysis.studies.records import first_prompts
from moe_analysis.studies.trees.measure import with_control
from moe_analysis.training.recorders.tree_recorder import record_trees
from tests.docs.prepared.models import config, trained
from tests.docs.prepared.structures import SIZES, tree_runs
from tests.studies.drawn_texts import outside, overlaps


@pytest.fixture(scope="module")
def runs() -> list[ma.Run]:
    """Two seeds of a S'MoRE, and the first of them without a balance loss."""
    plain = ma.SmoreConfig(**SIZES, balance_coef=0.0)
    return [*tree_runs(), *trained(config("control", 0, adapter=plain, record_trees_every=1))]


@pytest.fixture(scope="module")
def used(runs) -> trees.UsedTrees:
    return trees.measure(runs, prompts=2, permutations=9)


def test_the_runs_without_a_balance_loss_are_the_control_whatever_their_label(used, runs):
    assert used.method == "S'MoRE" and set(used.control["method"]) == {"control"} and len(used.runs) == 3
    assert set(used.datasets["method"]) == set(used.trained["method"]) == {"S'MoRE"}
    assert set(used.datasets["dataset"]) == {*runs[0].config.datasets, "all"}
    balance = used.judged[-1]
    assert balance.name == "smore_trees_balance" and balance.note == "one seed has no spread"


def test_runs_without_a_control_are_measured_alone(runs):
    balanced, control = with_control(runs[:2])
    assert (balanced, control) == (runs[:2], [])
    assert with_control(runs[2:]) == (runs[2:], [])


def test_a_result_keeps_the_tables_of_its_file_and_draws_itself(used):
    assert list(used.numbers) == ["training", "control", "datasets", "usage", "trained", "untrained"]
    assert len(used.numbers["control"]) and used.origin.startswith("3 runs of 2 seeds, 4 steps each")
    assert isinstance(used.plot(), Figure) and used.interactive().data
    assert used.ends.index.get_level_values("method").unique().tolist() == ["S'MoRE", "control"]
    assert used.everything["tokens"].gt(0).all()
    with pytest.raises(ValueError, match="smore_structures has no controls"):
        used.widget()


def test_two_methods_and_two_suites_are_refused(runs):
    other = SimpleNamespace(config=SimpleNamespace(**vars(runs[0].config) | {"name": "other", "seed": 5}))
    with pytest.raises(ValueError, match="runs are of S'MoRE, other; pass one method"):
        trees.measure([runs[0], other])
    elsewhere = SimpleNamespace(config=SimpleNamespace(**vars(runs[0].config) | {"suite": "multitask", "seed": 5}))
    with pytest.raises(ValueError, match="runs differ in suite: embedded, multitask"):
        trees.measure_tree([runs[0], elsewhere])


@pytest.mark.parametrize("form", ["options", "instruction"])
def test_a_token_is_looked_at_in_the_form_in_which_the_run_was_trained(form):
    run = trained(config("S'MoRE", 3, adapter=ma.SmoreConfig(**SIZES), record_trees_every=1, prompt_form=form))[0]
    found = trees.measure_tree([run], token=2, tokens=2)
    rows = first_prompts(run, 1).head(1)
    ids = record_trees(run.model(), run.tokenizer, rows, run.config.max_length, form)[1]["token_id"]
    assert found.trees["token"].unique().tolist() == [0, len(ids) - 1]
    assert found.token.startswith(repr(run.tokenizer.decode([ids.iloc[2]]).strip()))


def test_three_tokens_of_the_prompt_are_drawn_beside_each_other_and_one_at_a_time(runs):
    found = trees.measure_tree(runs, token=1, tokens=2)
    words = found.shown.drop_duplicates("token").set_index("token")["word"]
    length = found.trees["token"].max() + 1
    assert words.index.tolist() == sorted({(1 + third * length // 3) % length for third in range(3)})
    assert words[1] == found.word
    own = found.shown[found.shown["token"] == 1].drop(columns=["token", "word"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(own, found.tree)
    figure = found.plot()
    assert [panel.get_title(loc="center") for panel in figure.axes] == [f"‘{word}’" for word in words]
    assert figure.get_suptitle() == f"Tokens of {found.place}"
    assert figure.get_supxlabel().startswith(found.note("Model of seed 0, one of 2 seeds."))
    assert overlaps(figure) == [] and outside(figure) == []
    twin = found.interactive()
    nodes = len(found.tree)  # its edges are one fewer, its nodes one trace
    buttons = twin.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == [f"‘{word}’, token {place}" for place, word in words.items()]
    assert [sum(button.args[0]["visible"]) for button in buttons] == [nodes] * 3
    assert sum(trace.visible for trace in twin.data) == nodes
    assert twin.layout.title.subtitle.text == "Model of seed 0, one of 2 seeds"


def test_the_tree_of_a_token_is_drawn_into_axes_and_saved_with_its_words(runs, tmp_path):
    found = trees.measure_tree(runs, token=1, tokens=2)
    assert {run.config.name for run in found.runs} == {"S'MoRE"}
    panel = Figure().subplots()
    assert found.plot(panel) is panel and panel.get_title(loc="center") == found.token
    assert list(found.numbers) == ["title", "tree", "shown", "means"] and len(found.judged) == 2
    assert sorted(found.save(tmp_path)) == ["html", "json", "pdf", "png"]
    with pytest.raises(ValueError, match=r"token = 900 is not in the prompt, which has \d+ tokens; choose 0 to"):
        trees.measure_tree(runs, token=900)
