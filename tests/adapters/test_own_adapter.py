"""An adapter of a user's own, in twenty lines: registered, it is a PEFT method and the contract tests run on it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from torch import Tensor, nn

import moe_analysis as ma
from moe_analysis import peft_bridge
from moe_analysis.adapters import REGISTRY, Adapter, AdapterConfig, Routing, RoutingContext
from moe_analysis.adapters.base import kaiming_down, register
from moe_analysis.peft_bridge import methods
from moe_analysis.studies.router_paths.paths import router_paths
from moe_analysis.theory.budget import match_budget
from moe_analysis.theory.cost import cost
from moe_analysis.theory.method_table import method_table

from . import cases, naive, test_contract

NAME = "scaledrows"


@dataclass
class ScaledRowsConfig(AdapterConfig):
    """One low-rank update whose `num_experts` hidden rows are weighed by a softmax router."""

    num_experts: int = 4


class ScaledRows(Adapter):
    """delta(x) = B (softmax(router x) ∘ A x)."""

    config_class = ScaledRowsConfig

    def __init__(self, in_features: int, out_features: int, config: Any) -> None:
        super().__init__(in_features, out_features, config)
        self.A = kaiming_down(config.num_experts, in_features)
        self.B = nn.Parameter(torch.zeros(out_features, config.num_experts))
        self.router = nn.Linear(in_features, config.num_experts, bias=False)

    def forward(self, x: Tensor, context: RoutingContext | None = None, base: Any = None) -> tuple[Tensor, Routing]:
        gates = self.router(x).softmax(-1)  # (..., E)
        delta = (gates * (self.dropout(x) @ self.A.T)) @ self.B.T
        return (delta if base is None else base(x) + delta), Routing(gates)


def slowly(layer, x: np.ndarray, intuition: None) -> np.ndarray:
    """The same, a token at a time: the author's own check, as `naive` asks for."""
    A, B, router = (naive.array(one) for one in (layer.A, layer.B, layer.router.weight))
    delta = np.zeros((*x.shape[:-1], len(B)))
    for place in np.ndindex(x.shape[:-1]):
        delta[place] = B @ (naive.softmax(router @ x[place]) * (A @ x[place]))
    return delta


def shapes(config) -> dict[str, tuple[int, ...]]:
    experts = config.num_experts
    return {"A": (experts, cases.IN), "B": (cases.OUT, experts), "router.weight": (experts, cases.IN)}


@pytest.fixture
def registered(monkeypatch) -> Iterator[type[PeftConfig]]:
    """The adapter's PEFT configuration; afterwards nothing knows the adapter."""
    register(NAME)(ScaledRows)
    config = peft_bridge.bridge(NAME, ScaledRows)
    monkeypatch.setitem(peft_bridge.CONFIGS, NAME, config)
    monkeypatch.setitem(naive.NAIVE, NAME, slowly)
    monkeypatch.setitem(cases.SHAPES, NAME, shapes)
    yield config
    del REGISTRY[NAME]
    member = PeftType(NAME.upper())
    for table in (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING):
        del table[member]
    for table in (PeftType._member_map_, PeftType._value2member_map_):
        del table[NAME.upper()]
    PeftType._member_names_.remove(NAME.upper())
    type.__delattr__(PeftType, NAME.upper())
    for suffix in ("Config", "Layer", "Model"):
        delattr(methods, f"ScaledRows{suffix}")


CONTRACT = [name for name, test in inspect.getmembers(test_contract, inspect.isfunction) if name.startswith("test_")]


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_holds_for_it(registered, name, request) -> None:
    test = getattr(test_contract, name)
    marks: dict[str, Any] = {"case": (NAME, {"num_experts": 3})}
    for mark in test.pytestmark:
        if mark.args and mark.args[0] != "case":
            marks[mark.args[0]] = mark.args[1][0]
    fixtures = {
        other: request.getfixturevalue(other) for other in inspect.signature(test).parameters if other not in marks
    }
    test(**{other: marks[other] for other in inspect.signature(test).parameters if other in marks}, **fixtures)


def test_the_contract_is_more_than_a_handful(registered) -> None:
    assert len(CONTRACT) >= 15
    assert (NAME, {}) in [(name, options) for name in REGISTRY for options in cases.CONFIGURATIONS.get(name, [{}])]


def test_it_is_a_peft_method_that_is_trained_recorded_and_loaded(registered, config, tmp_path) -> None:
    run = ma.train(config(adapter=registered(num_experts=3, target_modules=["q_proj", "v_proj"])), tmp_path)
    assert run.config.system == NAME and run.records["router_weight"].shape == (6, 4, 3, 16)
    assert ma.Run.load(run.path).config.adapter.num_experts == 3
    assert len(peft_bridge.adapter_modules(run.model())) == 4
    assert set(router_paths([run], "layers.0.self_attn.q_proj")["method"]) == {NAME}


def test_a_users_loop_records_it(registered, tiny_llama, tokens, tmp_path) -> None:
    model = peft.get_peft_model(tiny_llama, registered(target_modules=["q_proj"])).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with ma.attach(model, tmp_path / "mine", optimizer) as handle:
        for _ in range(3):
            model(**tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert handle.config.name == NAME and handle.records["router_grad"][1:].values.any()


def test_without_a_cost_formula_its_module_is_counted(registered) -> None:
    found = cost(NAME, 16, 24, registered(num_experts=3))
    assert (found.expert_parameters, found.router_parameters) == (3 * (16 + 24), 3 * 16)
    assert (found.macs("experts"), found.macs("router")) == (3 * (16 + 24), 3 * 16)
    table = method_table({"mine": registered(num_experts=3)}, [(16, 24)] * 2)
    assert table["trainable"].item() == 2 * (3 * 40 + 48) and table["operations"].item() == table["computed"].item()


def test_a_budget_is_met_by_the_number_of_its_experts_where_ranks_change_nothing(registered) -> None:
    met = match_budget(registered(num_experts=4), 6 * (16 + 24 + 16), [(16, 24)])
    assert met.num_experts == 6
    with pytest.raises(ValueError, match="cannot be met"):
        match_budget(registered(num_experts=4), 10**6, [(16, 24)])


def test_a_name_that_is_taken_is_refused(registered) -> None:
    with pytest.raises(ValueError, match="adapter name 'scaledrows' is taken by ScaledRows"):
        register(NAME)(ScaledRows)


def test_afterwards_nothing_knows_it() -> None:
    assert NAME not in REGISTRY and NAME not in peft_bridge.CONFIGS and NAME.upper() not in PeftType.__members__
    with pytest.raises((ValueError, KeyError)):
        PeftConfig.from_peft_type(peft_type=NAME.upper())
