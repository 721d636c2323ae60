"""What all studies ask of the runs that they are given."""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd
import peft
import pytest

import moe_analysis as ma
from moe_analysis import studies
from moe_analysis.studies.records import module_tensor, modules

FOLDERS = [import_module(found.name) for found in iter_modules(studies.__path__, f"{studies.__name__}.") if found.ispkg]


def takes_runs_alone(found: object) -> bool:
    if not inspect.isfunction(found):
        return False
    first, *others = [*inspect.signature(found).parameters.values(), None]
    return first is not None and first.name == "runs" and all(one.default is not one.empty for one in others[:-1])


MEASURES = [
    getattr(folder, name)
    for folder in FOLDERS
    for name in dir(folder)
    if name.startswith("measure") and takes_runs_alone(getattr(folder, name))
]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: f"{one.__module__.split('.')[-2]}.{one.__name__}")
@pytest.mark.parametrize(
    "given", ["runs", ["runs/one"], pd.DataFrame({"run": ["one"]})], ids=["path", "paths", "table"]
)
def test_what_is_no_run_is_refused_with_what_makes_one(measure, given) -> None:
    with pytest.raises(ValueError, match=r"(?s)^runs = .* is not a (list of runs; pass `ma.Run.load|mapping; pass)"):
        measure(given)


SYSTEMS = {
    "LoRA": peft.LoraConfig(r=2, target_modules=["q_proj"]),
    "LoRA-MoE": ma.MoeLoraConfig(num_experts=4, r=2, target_modules=["q_proj"]),
    "SiRA": ma.SiraConfig(num_experts=4, r=2, top_k=2, target_modules=["q_proj"]),
    "HydraLoRA": ma.HydraLoraConfig(num_experts=3, r=2, target_modules=["q_proj"]),
    "T-REX": ma.TRexConfig(num_down=2, num_up=3, intuition=False, target_modules=["q_proj"]),
    "MoMOR": ma.MomorConfig(num_experts=[4, 3], top_k=[2, 1], r=[2, 2], target_modules=["q_proj"]),
    "S'MoRE": ma.SmoreConfig(num_experts=[4, 3], fanout=[2, 2], r=[2, 2], target_modules=["q_proj"]),
}
REFUSED = {
    "LoRA": "the run of LoRA, seed 0, is of LoRA, which has no router; leave it out",
    "MoMOR": "the run of MoMOR, seed 0, has no router_weight: its routers are not one matrix each",
    "S'MoRE": "the run of S'MoRE, seed 0, has no router_weight: its routers are not one matrix each",
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_router_that_was_recorded_is_read_and_of_any_other_it_is_said_why(name, config, out) -> None:
    run = ma.train(config(adapter=SYSTEMS[name], name=name, steps=2), out)
    if name not in REFUSED:
        assert len(modules(run)) == len(module_tensor(run, modules(run)[0])[1].shape) - 1 == 2
        with pytest.raises(
            ValueError, match=rf"module = 'x' has no router_weight in the run of {name}, seed 0; choose"
        ):
            module_tensor(run, "x")
        return
    for ask in (modules, lambda run: ma.papers.trex_fig2([run])):
        with pytest.raises(ValueError, match=REFUSED[name]):
            ask(run)


@pytest.mark.parametrize("prompts", [0, -1, 2.5, None, True])
def test_prompts_that_are_no_number_of_them_are_refused_by_name(prompts, config, out) -> None:
    run = ma.train(config(adapter=SYSTEMS["T-REX"], name="T-REX", steps=2), out)
    for ask in (ma.papers.trex_lemma41_trained, ma.studies.routing.record):
        with pytest.raises(ValueError, match=rf"prompts = {prompts} is not a whole number of at least 1"):
            ask([run], prompts)


def test_all_studies_of_runs_are_asked() -> None:
    assert {ma.studies.systems.measure, ma.studies.budgets.measure, ma.studies.optimizers.measure} <= set(MEASURES)


def test_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        ma.studies.systems.measure([])
