"""An adapter whose weights accelerate has offloaded computes what it computes with its weights in place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import accelerate
import pytest
import torch
from torch import Tensor, nn

from moe_analysis.adapters import Adapter, AdapterConfig, Routing
from moe_analysis.adapters.present import weights_present

from .cases import CASES, IN, OUT, build, case_id, context_for, example

CPU = torch.device("cpu")
Offload = Callable[[nn.Module, Path], nn.Module]
OFFLOADS: dict[str, Offload] = {
    "cpu": lambda module, folder: accelerate.cpu_offload(module, execution_device=CPU),
    "disk": lambda module, folder: accelerate.disk_offload(module, str(folder), execution_device=CPU),
}
every_offload = pytest.mark.parametrize("offload", OFFLOADS.values(), ids=OFFLOADS)


def all_meta(module: nn.Module) -> bool:
    return all(parameter.is_meta for parameter in module.parameters())


@every_offload
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_an_offloaded_adapter_computes_the_same(case, offload, tmp_path):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    with torch.no_grad():
        delta, routing = layer(x, context)
        offload(layer, tmp_path)
        assert all_meta(layer)
        for _ in range(2):  # what was unloaded can be loaded again
            with weights_present(layer):
                ours, again = layer(x, context)
            assert all_meta(layer)
            assert torch.allclose(ours, delta, rtol=1e-12, atol=1e-13)
            assert torch.allclose(again.gates, routing.gates, rtol=1e-12, atol=1e-13)


class ReadsItsRouter(Adapter):
    """An adapter of somebody's own that reads the weights of a layer and calls another."""

    def __init__(self) -> None:
        super().__init__(IN, OUT, AdapterConfig())
        self.router, self.up = nn.Linear(IN, 3), nn.Linear(3, OUT)

    def forward(self, x: Tensor, context=None, base=None) -> tuple[Tensor, Routing]:
        gates = (x @ self.router.weight.T + self.router.bias).softmax(-1)
        return self.up(gates), Routing(gates)


@every_offload
def test_weights_that_are_read_without_a_call_are_present(offload, tmp_path):
    layer, x = ReadsItsRouter(), example(torch.float32)
    with torch.no_grad():
        expected = layer(x)[0]
        offload(layer, tmp_path)
        with weights_present(layer):
            assert torch.allclose(layer(x)[0], expected, rtol=1e-6)
    assert all_meta(layer)


@every_offload
def test_an_error_inside_unloads_the_weights(offload, tmp_path):
    layer = offload(build("momor", {"r": 2}), tmp_path)
    with suppress(KeyError), weights_present(layer):
        assert not all_meta(layer)
        raise KeyError
    assert all_meta(layer)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_nothing_happens_to_weights_that_are_in_place(case):
    layer = build(*case)
    before = {name: id(parameter) for name, parameter in layer.named_parameters()}
    with weights_present(layer):
        assert {name: id(parameter) for name, parameter in layer.named_parameters()} == before
    assert {name: id(parameter) for name, parameter in layer.named_parameters()} == before


def test_layers_that_are_counted_on_the_meta_device_stay_there():
    layer = copy.deepcopy(build("smore", {"r": 2})).to("meta")
    with weights_present(layer):
        assert all_meta(layer)
