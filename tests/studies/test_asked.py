"""Every public function of the studies takes one where it takes several, and refuses the rest by name, before it works."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from moe_analysis import studies
from moe_analysis.peft_bridge import SmoreConfig
from moe_analysis.studies.asked import numbers, runs_of, whole, wholes
from moe_analysis.studies.convergence import accuracy_by_role
from moe_analysis.studies.experts.anatomy import conditioning, similarity
from moe_analysis.studies.optimizers.regression_grid import RegressionConfig
from moe_analysis.studies.records import OF_RECORDS, gate_entropy
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from moe_analysis.studies.systems.scores import scores
from moe_analysis.studies.trees.structures import over_training
from moe_analysis.tasks import load_suite
from moe_analysis.training.recorders.attached_run import AttachedConfig, AttachedRun
from tests.studies.fake_runs import MODULES, fake_run, walk

FOLDERS = [import_module(f"{studies.__name__}.{name}") for name in studies.STUDIES]
PUBLIC = [
    *(found for folder in FOLDERS for name in folder.__all__ if inspect.isfunction(found := getattr(folder, name))),
    path_axes,
    router_paths,
]
ONE = fake_run(walk(np.random.default_rng(0), 4, 4, 8), "LoRA-MoE")
# something of the right kind for every argument that has no default
RIGHT = {
    "runs": [ONE],
    "run": ONE,
    "table": "nothing.parquet",
    "folder": "nowhere",
    "sentence": "a text",
    "texts": "a text",
    "name": "LoRA-MoE",
    "module": MODULES[0],
    "base": RegressionConfig(),
}
EVERY = [(function, name) for function in PUBLIC for name in inspect.signature(function).parameters]


def title(value: object) -> str:
    return f"{value.__module__.partition('.studies.')[2]}.{value.__name__}" if callable(value) else str(value)


def given(function, **values):
    """The function's arguments: those without a default, and `values`."""
    needed = [one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty]
    own = {name: RIGHT.get(name) for name in needed}
    if function in (studies.budgets.measure, studies.budgets.measure_layers):
        own["runs"] = {8000: [ONE]}
    return {**own, **values}


@pytest.mark.parametrize("function", PUBLIC, ids=title)
def test_a_misspelled_argument_is_refused_with_those_that_there_are(function):
    with pytest.raises(ValueError, match=r"^wrokers = 3 is not an argument of studies\."):
        function(**given(function, wrokers=3))


@pytest.mark.parametrize("function", [one for one in PUBLIC if inspect.signature(one).parameters], ids=title)
def test_too_many_arguments_and_none_are_told_with_the_call(function):
    known = inspect.signature(function).parameters
    called = rf"call it as studies\.\S+\({', '.join(known)}\)$"
    with pytest.raises(ValueError, match=rf"too many positional arguments; {called}"):
        function(*[None] * (len(known) + 1))
    if given(function):
        with pytest.raises(ValueError, match=rf"missing a required argument: '{next(iter(known))}'; {called}"):
            function()


@pytest.mark.parametrize("function, name", EVERY, ids=title)
@pytest.mark.parametrize("wrong", [object(), {"a": object()}], ids=["object", "mapping"])
def test_a_value_of_another_kind_is_refused_by_its_argument(function, name, wrong):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        function(**given(function, **{name: wrong}))


def test_one_is_a_list_of_one():
    found = studies.flexibility.measure(4, 2, 3)
    assert found.table["layers"].unique().tolist() == [3]
    span = studies.subspace.measure_span(max_rank=2, budgets=4096, features=64)
    assert span.budgets["budget"].unique().tolist() == [4096]
    assert not [claim for claim in span.judged if "growth" in claim.name]  # every power passes through one point
    own = SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=8, target_modules=["q_proj"])
    assert studies.cost.measure_routers(own, own).named["structure"].nunique() == 1


def test_one_run_is_a_list_of_one():
    paths = router_paths(ONE, MODULES[0], path_axes(ONE, MODULES[0]))
    assert paths.equals(router_paths([ONE], MODULES[0], path_axes([ONE], MODULES[0])))
    assert gate_entropy([ONE])["method"].unique().tolist() == ["LoRA-MoE"]


def test_one_run_is_asked_for_where_there_is_one():
    with pytest.raises(ValueError, match=r"run holds 2 runs; pass one of them, such as run=runs\[0\]"):
        studies.first_steps.measure([ONE, ONE], "a text")


LOOP = AttachedRun(Path("runs/mine"), AttachedConfig("LoRA-MoE", 0, "moelora", None, 1))
OF_MODELS = [
    (function, name)
    for function, name in EVERY
    if name in ("run", "runs") and function not in (path_axes, router_paths)
]


@pytest.mark.parametrize("function, name", OF_MODELS, ids=title)
def test_a_recorded_loop_is_refused_where_more_than_its_records_is_read(function, name):
    loop = {8000: [LOOP]} if isinstance(given(function)[name], dict) else [LOOP]
    with pytest.raises(
        ValueError, match=rf"^{name}\S* holds AttachedRun.*LoRA-MoE.*pass runs of ma.train, or .*smoothness"
    ):
        function(**given(function, **{name: loop}))


@pytest.mark.parametrize(
    "analysis", [over_training, conditioning, similarity, scores, lambda runs: accuracy_by_role(runs, {})]
)
def test_an_analysis_of_more_than_records_refuses_a_loop_too(analysis):
    with pytest.raises(ValueError, match="a loop that ma.attach recorded"):
        analysis([LOOP])


def test_the_analyses_that_a_refusal_names_exist():
    for path in OF_RECORDS:
        module, _, name = path.rpartition(".")
        assert inspect.isfunction(getattr(import_module(f"moe_analysis.{module}"), name))


def test_data_sets_of_the_map_are_chosen_by_name():
    frame = load_suite("embedded", split="train", datasets=["add_small", "where_is"]).groupby("dataset").head(12)
    asked_for = {"embedder": "tfidf", "ks": 2, "seeds": 0, "permutations": 4, "method": "pca"}
    found = studies.semantic_map.measure(frame, datasets=["add_small"], **asked_for)
    assert found.prompts["dataset"].unique().tolist() == ["add_small"]
    with pytest.raises(ValueError, match="datasets: 'add_smal' is not in a frame; choose from add_small"):
        studies.semantic_map.measure(frame, datasets=["add_smal"], **asked_for)
    with pytest.raises(ValueError, match="plain texts have none"):
        studies.semantic_map.measure(frame["prompt"].tolist(), datasets="add_small", **asked_for)


def test_a_widget_starts_where_it_is_asked_to_and_names_its_knobs():
    found = studies.flexibility.measure(3, 2, (1, 2))
    assert found.widget(layers=1, num_experts=4).values == (4, 2, 1)
    assert found.widget().values == (3, 2, 2)
    with pytest.raises(
        ValueError, match="k = 5 is not an argument of the widget of smore_fig2; it takes num_experts, fan"
    ):
        found.widget(k=5)
    with pytest.raises(ValueError, match="is above s"):
        found.widget(fanout=99)


def test_a_map_starts_with_other_clusters():
    texts = [f"{word} number {number}" for word in ("red", "blue", "green") for number in range(8)]
    found = studies.semantic_map.measure(texts, embedder="tfidf", method="pca", k=3)
    assert found.widget(k=5).controls["k"].value == 5 and found.widget().controls["k"].value == 3


@pytest.mark.parametrize("wrong", [(), (1, 1), 0, True, 2.0, "3", None])
def test_whole_numbers_are_whole_and_each_stands_once(wrong):
    with pytest.raises(ValueError, match="^seeds = "):
        wholes("seeds", wrong, 1)


def test_numbers_of_arrays_ranges_and_sets_are_numbers():
    assert wholes("ks", np.arange(2, 4), 1) == wholes("ks", range(2, 4), 1) == wholes("ks", {2, 3}, 1) == (2, 3)
    assert whole("k", np.int64(4), 1) == 4 and numbers("gates", np.float64(0.5)) == (0.5,)


@pytest.mark.parametrize("wrong", ["runs", 3, None, {"a": ONE}, [ONE, 3], nn.Linear(2, 2)])
def test_what_is_no_run_is_no_run(wrong):
    with pytest.raises(ValueError, match="not a list of runs; pass `ma.Run.load"):
        runs_of("runs", wrong)


def takes_several(function, name: str) -> bool:
    kind = str(inspect.signature(function).parameters[name].annotation)
    return "Runs" in kind or "Sequence" in kind or "Iterable" in kind


@pytest.mark.parametrize("function, name", [one for one in EVERY if takes_several(*one)], ids=title)
def test_an_empty_list_is_refused_by_its_argument(function, name):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        function(**given(function, **{name: []}))
