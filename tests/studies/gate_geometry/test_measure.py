"""Which layers, prompts and form Fig. 1 of gR is measured on: the run's own."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest

from moe_analysis.studies import gate_geometry
from moe_analysis.studies.gate_geometry.measure import layers_of

from .test_geometry import GATES, layer_and_batch

# by its name: the folder gives the function of that name
MODULE = import_module("moe_analysis.studies.gate_geometry.measure")
ADAPTED = ["layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj", "layers.1.o_proj"]


@pytest.fixture
def asked(monkeypatch) -> dict:
    """What `layer_batches` was asked for; every layer is the same."""
    seen: dict = {}

    def layer_batches(model, tokenizer, frame, modules, **options):
        seen.update(options, frame=frame, modules=list(modules))
        layer = SimpleNamespace(**dict(zip(("adapter", "inputs", "gradient"), layer_and_batch())))
        return dict.fromkeys(modules, layer)

    monkeypatch.setattr(MODULE, "layer_batches", layer_batches)
    monkeypatch.setattr(MODULE, "adapter_modules", lambda model: dict.fromkeys(model))
    return seen


def run(adapted=ADAPTED, **changes):
    fields = {
        "name": "RSGD",
        "seed": 0,
        "system": "moelora",
        "suite": "embedded",
        "datasets": ["add_small", "where_is"],
        "max_length": 96,
        "form": "cloze",
        "steps": 4,
        "backbone": "compact",
    }
    config = SimpleNamespace(**{**fields, **changes})
    return SimpleNamespace(config=config, model=lambda: adapted, tokenizer=None, id="run")


def test_prompts_are_in_the_runs_own_form_and_of_its_own_data_sets(asked):
    layers_of(run())
    assert (asked["prompt_form"], asked["max_length"]) == ("cloze", 96)
    assert sorted(asked["frame"]["dataset"]) == ["add_small", "where_is"]
    layers_of(run(datasets=None))
    assert len(asked["frame"]) == asked["frame"]["dataset"].nunique() > 2


@pytest.mark.parametrize(
    "adapted, modules, chosen",
    [
        (ADAPTED, None, ["layers.1.q_proj", "layers.1.v_proj"]),
        (["h.0.c_attn", "h.1.c_attn", "h.2.c_attn"], None, ["h.1.c_attn", "h.2.c_attn"]),
        (ADAPTED, ["layers.0.q_proj"], ["layers.0.q_proj"]),
    ],
)
def test_the_last_two_query_or_value_layers_are_taken_where_there_are_such(asked, adapted, modules, chosen):
    layers_of(run(adapted), modules)
    assert asked["modules"] == chosen


def test_the_result_has_its_tables_and_claims(asked):
    found = gate_geometry.measure([run()], gates=GATES)
    assert set(found.tables) == {"changes", "curvature", "curves", "steps"} == set(found.numbers) - {"module"}
    assert found.module == "layers.1.v_proj" and len(found.runs) == 1
    assert found.verdicts == "5 claims: 4 holds, 1 fails"
