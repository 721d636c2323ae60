"""Loops of other people, recorded: the record is that of a run of ours, whatever the loop is made of."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, AdamW

import moe_analysis as ma
from moe_analysis.analysis.records import gate_entropy
from moe_analysis.analysis.smoothness import gradient_noise, smoothness
from moe_analysis.analysis.trajectories import router_paths
from moe_analysis.training.attach import Attachment
from moe_analysis.training.attached_run import AttachedRun
from moe_analysis.training.run import RunError
from moe_analysis.training.store import RecordError

from ..adapters.cases import randomize

MODULE = "layers.0.self_attn.q_proj"
ROUTER = f"base_model.model.model.{MODULE}.moelora_adapter.default.router"


@pytest.fixture
def model(tiny_llama):
    """The tiny decoder with two adapted layers of four experts, random weights, in training mode."""
    config = ma.MoeLoraConfig(num_experts=4, r=2, top_k=2, gate="switch", target_modules=["q_proj"])
    adapted = peft.get_peft_model(tiny_llama, config)
    randomize(adapted)
    return adapted.train()


@pytest.fixture
def blocks_of_five(monkeypatch) -> None:
    """Short enough that a few updates fill several."""
    monkeypatch.setattr("moe_analysis.training.store.BLOCK", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def backward(model: nn.Module, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    ids = torch.randint(3, 40, (3, 7), generator=torch.Generator().manual_seed(seed))
    loss = model(input_ids=ids, labels=ids).loss
    (loss * scale).backward()
    return loss.detach()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, updates: int, handle: Attachment | None = None,
          first: int = 0) -> None:  # fmt: skip
    """A plain loop; with a handle it calls step()."""
    for number in range(first, first + updates):
        loss = backward(model, number)
        optimizer.step()
        if handle is not None:
            handle.step(loss)
        optimizer.zero_grad()


def router(model: nn.Module) -> np.ndarray:
    return model.get_submodule(ROUTER).weight.detach().numpy().copy()


def steps(handle: AttachedRun) -> list[int]:
    return handle.records["step"].values.tolist()


def assert_same_records(first, second, but: tuple[str, ...] = ()) -> None:
    assert first["step"].values.tolist() == second["step"].values.tolist()
    for name in set(first.data_vars) - set(but):
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)


# --- what a record holds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hooked", [True, False], ids=["optimizer", "step()"])
@pytest.mark.usefixtures("blocks_of_five")
def test_the_record_is_the_weight_before_and_the_gradient_that_makes_each_update(model, folder, hooked) -> None:
    optimizer = SGD(model.parameters(), lr=0.5)
    with ma.attach(model, folder, optimizer if hooked else None) as handle:
        start = router(model)
        train(model, optimizer, 13, None if hooked else handle)
        assert steps(handle) == list(range(13))
    records = ma.open_records(folder)
    weights, grads = records["router_weight"].values, records["router_grad"].values
    assert records["router_weight"].dims == ("step", "module", "expert", "feature") and weights.shape == (13, 2, 4, 16)
    np.testing.assert_array_equal(weights[0, 0], start)
    np.testing.assert_allclose(weights[1:], weights[:-1] - 0.5 * grads[:-1], rtol=1e-5, atol=1e-6)
    assert np.abs(grads).max(axis=(1, 2, 3)).min() > 0
    np.testing.assert_allclose(records["gate_load"].sum("expert").values, 2.0, rtol=1e-5)  # top 2 of 4


def test_hooks_and_step_record_the_same(model, tmp_path) -> None:
    twin = copy.deepcopy(model)
    optimizer, other = AdamW(model.parameters(), lr=1e-2), AdamW(twin.parameters(), lr=1e-2)
    with ma.attach(model, tmp_path / "a", optimizer) as hooked, ma.attach(twin, tmp_path / "b") as told:
        train(model, optimizer, 5)
        train(twin, other, 5, told)
        assert_same_records(hooked.records, told.records, but=("loss",))


def test_the_analyses_take_an_attached_record_as_a_run(model, folder) -> None:
    optimizer = AdamW(model.parameters(), lr=1e-2)
    with ma.attach(model, folder, optimizer, name="my method", seed=3) as handle:
        for number in range(8):
            loss = backward(model, number)
            optimizer.step()
            optimizer.zero_grad()
            handle.log(loss)
            handle.log(99.0)  # the first after an update counts
        paths = router_paths([handle], MODULE)
    kept = AttachedRun.load(folder)
    assert router_paths([kept], MODULE).equals(paths)
    assert set(paths["method"]) == {"my method"} and set(paths["seed"]) == {3}
    assert paths["loss"].between(2, 5).all() and handle.history["loss"].iloc[-1] == pytest.approx(loss.item())
    assert np.isfinite(smoothness([kept])["relative_tortuosity"]).all()
    assert kept.config.optimizer == "adamw" and kept.config.system == "moelora" and kept.id == "mine"
    assert len(gradient_noise([kept])) == 2 and len(gate_entropy([kept])) == 8


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(every=st.integers(1, 4), parts=st.integers(1, 3), updates=st.integers(1, 5), start=st.integers(0, 4),
       hooked=st.booleans())  # fmt: skip
def test_every_nth_update_is_recorded_whatever_is_accumulated(model, tmp_path_factory, every, parts, updates, start,
                                                              hooked) -> None:  # fmt: skip
    optimizer = SGD(model.parameters(), lr=0.1)
    path = tmp_path_factory.mktemp("run")
    with ma.attach(model, path, optimizer if hooked else None, every=every, at_step=start) as handle:
        sums = {}
        for update in range(start, start + updates):
            for part in range(parts):
                backward(model, 10 * update + part)
            sums[update] = model.get_submodule(ROUTER).weight.grad.numpy().copy()
            optimizer.step()
            if not hooked:
                handle.step()
            optimizer.zero_grad()
        due = [update for update in sums if update % every == 0]
        assert steps(handle) == due
        for number, update in enumerate(due):
            np.testing.assert_array_equal(handle.records["router_grad"][number, 0].values, sums[update])


# --- updates that did not happen, gradients that are not there -------------------------------------------------------


@pytest.mark.parametrize("kind", ["hooks", "hooks, unscaled first", "fused", "step()"])
def test_an_update_that_a_grad_scaler_skips_is_not_recorded(model, folder, kind) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = AdamW(model.parameters(), lr=1e-2, fused=kind == "fused")
    with ma.attach(model, folder, None if kind == "step()" else optimizer) as handle:
        expected, weights = [], []
        for number in range(6):
            skipped = number in (0, 3)
            before = router(model)
            backward(model, number, scale=scaler.get_scale() * (torch.inf if skipped else 1.0))
            scaler.scale(torch.zeros(()))  # the scaler wants to have seen a loss
            if kind == "hooks, unscaled first":
                scaler.unscale_(optimizer)
            scale = 1.0 if kind == "hooks, unscaled first" else scaler.get_scale()
            gradient = model.get_submodule(ROUTER).weight.grad.numpy() / scale
            scaler.step(optimizer)
            if kind == "step()":
                handle.step()
            assert np.array_equal(before, router(model)) == skipped
            if not skipped:
                expected.append(gradient)
                weights.append(before)
            optimizer.zero_grad()
            scaler.update()
        assert steps(handle) == [0, 1, 2, 3]
        np.testing.assert_allclose(handle.records["router_grad"][:, 0].values, expected, rtol=1e-5)
        np.testing.assert_array_equal(handle.records["router_weight"][:, 0].values, weights)


def test_a_loop_that_diverges_is_recorded_as_it_diverges(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder) as handle:
        train(model, optimizer, 1, handle)
        for p in model.parameters():
            p.grad = None if not p.requires_grad else torch.full_like(p, torch.nan)
        backward(model)
        optimizer.step()
        handle.step()
        assert steps(handle) == [0, 1]
        assert handle.records["router_grad"][1].isnull().all()


@pytest.mark.parametrize("hooked", [True, False], ids=["optimizer", "step()"])
def test_a_router_without_a_gradient_has_the_gradient_zero(model, folder, hooked) -> None:
    model.get_submodule(ROUTER).weight.requires_grad_(False)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with ma.attach(model, folder, optimizer if hooked else None) as handle:
        train(model, optimizer, 2, None if hooked else handle)
        grads = handle.records["router_grad"].values
    assert not grads[:, 0].any() and grads[:, 1].any()


def test_only_forward_passes_that_can_be_learnt_from_count(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    model.eval()  # some loops train without dropout so
    with ma.attach(model, folder, optimizer) as handle:
        loss = backward(model)
        gates = {name: kept[0].clone() for name, kept in handle.recorder.gates.items()}
        with torch.no_grad():
            model(input_ids=torch.randint(3, 40, (5, 9)))
        twin = copy.deepcopy(model)
        backward(twin, 5)
        assert all(torch.equal(handle.recorder.gates[name][0], gates[name]) for name in gates)
        optimizer.step()
        assert torch.isfinite(loss) and handle.records["gate_load"].notnull().all()


def test_a_layer_that_did_not_run_has_no_statistics(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    layer = model.get_submodule("base_model.model.model.layers.1.self_attn.q_proj")
    with ma.attach(model, folder, optimizer) as handle:
        layer.enable_adapters(False)
        train(model, optimizer, 1)
        entropy = handle.records["gate_entropy"].values
    assert np.isfinite(entropy[0, 0]) and np.isnan(entropy[0, 1])


# --- interruption ----------------------------------------------------------------------------------------------------


def test_an_exception_loses_nothing_and_leaves_nothing_hooked(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyboardInterrupt), ma.attach(model, folder, optimizer):
        train(model, optimizer, 7)
        backward(model)
        raise KeyboardInterrupt
    assert len(ma.open_records(folder)["step"]) == 7
    assert not [part for part in model.modules() if part._forward_hooks or part._forward_pre_hooks]
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    train(model, optimizer, 2)
    assert len(ma.open_records(folder)["step"]) == 7


def test_a_handle_that_python_outlives_says_what_is_lost(model, folder, monkeypatch) -> None:
    registered: list = []
    monkeypatch.setattr("atexit.register", registered.append)
    monkeypatch.setattr("atexit.unregister", registered.remove)
    handle = ma.attach(model, folder)
    train(model, SGD(model.parameters(), lr=0.1), 3, handle)
    with pytest.warns(UserWarning, match="3 records of .*mine were never written; use attach in a `with`"):
        registered[0]()
    handle.detach()
    assert not registered and steps(handle) == [0, 1, 2]


def test_a_loop_goes_on_where_its_record_ends(model, tmp_path) -> None:
    twin = copy.deepcopy(model)
    optimizer, other = SGD(model.parameters(), lr=0.1), SGD(twin.parameters(), lr=0.1)
    with ma.attach(model, tmp_path / "whole", optimizer, every=3) as whole:
        train(model, optimizer, 13)
    for first, updates in ((0, 5), (5, 8)):  # the fifth is no multiple of three
        with ma.attach(twin, tmp_path / "parts", other, every=3, resume=first > 0):
            train(twin, other, updates, first=first)
    assert_same_records(whole.records, ma.open_records(tmp_path / "parts"))


@pytest.mark.usefixtures("blocks_of_five")
def test_a_killed_loop_goes_on_from_its_checkpoint(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    handle = ma.attach(model, folder, optimizer)
    train(model, optimizer, 4)
    handle.flush()
    checkpoint, expected = copy.deepcopy(model.state_dict()), handle.records.load()
    train(model, optimizer, 8, first=4)  # one more block is written on the way, then the process is gone
    handle.taken.close()
    assert len(ma.open_records(folder)["step"]) == 9
    model.load_state_dict(checkpoint)
    with ma.attach(model, folder, optimizer, resume=True, at_step=4) as handle:
        train(model, optimizer, 3, first=4)
        assert steps(handle) == list(range(7))
        assert_same_records(expected, handle.records.isel(step=slice(4)))
        np.testing.assert_array_equal(handle.records["router_weight"][4, 0], checkpoint[f"{ROUTER}.weight"])


@pytest.mark.parametrize("written", [0, 2, 5])
@pytest.mark.usefixtures("blocks_of_five")
def test_a_flush_that_was_cut_off_does_not_count(model, folder, monkeypatch, written) -> None:
    """The process dies when so many arrays of a block are written, in the middle of growing the next."""
    import zarr

    optimizer = SGD(model.parameters(), lr=0.1)
    handle = ma.attach(model, folder, optimizer)
    train(model, optimizer, 5)
    expected = handle.records.load()
    train(model, optimizer, 4)
    original, calls = zarr.Array.__setitem__, []

    def dies(self, selection, value):
        calls.append(1)
        if len(calls) > written:
            raise KeyboardInterrupt
        original(self, selection, value)

    monkeypatch.setattr(zarr.Array, "__setitem__", dies)
    with pytest.raises(KeyboardInterrupt):
        handle.flush()
    monkeypatch.undo()
    assert_same_records(expected, ma.open_records(folder))
    handle.taken.close()
    with ma.attach(model, folder, optimizer, resume=True) as handle:
        train(model, optimizer, 2)
        assert steps(handle) == list(range(7))


def test_a_folder_that_holds_another_record_is_left_alone(model, folder, tiny_gpt2) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder, optimizer) as handle:
        with pytest.raises(RunError, match=r"recorded into already; detach\(\)"):
            ma.attach(model, folder, optimizer)
        train(model, optimizer, 3)
    expected = handle.records.load()
    with pytest.raises(RunError, match="holds 3 records, the last of step 2; pass resume=True"):
        ma.attach(model, folder, optimizer)
    other = peft.get_peft_model(tiny_gpt2, ma.MoeLoraConfig(num_experts=4, r=2, target_modules=["c_attn"]))
    with pytest.raises(RunError, match="records other modules or routers than this model has"):
        ma.attach(other, folder, resume=True)
    assert_same_records(expected, ma.open_records(folder))
    (folder / "attached.json").write_text('{"config": {"name": "x"}}')
    with pytest.raises(RunError, match="attached.json describes no attached record"):
        AttachedRun.load(folder)
    (folder / "records.zarr" / "step" / "zarr.json").write_text("{}")
    with pytest.raises(RecordError, match=r"records.zarr cannot be read as a record \(.*; delete it"):
        ma.attach(model, folder, resume=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"folder of a run that ma\.train made"):
        ma.attach(model, folder, resume=True)


# --- wrong use -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_recorded_is_refused_before_a_folder_is_made(tiny_llama, tiny_gpt2, folder) -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM has no routed adapter to record; wrap it with peft"):
        ma.attach(tiny_llama, folder)
    lora = peft.get_peft_model(tiny_llama, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="no routed adapter"):
        ma.attach(lora, folder)
    model = peft.get_peft_model(tiny_gpt2, ma.MoeLoraConfig(r=2, target_modules=["c_attn"]))
    for arguments, message in [
        ({"optimizer": SGD(tiny_llama.parameters(), lr=0.1)}, "SGD holds no parameter of the model's adapters"),
        ({"optimizer": SimpleNamespace()}, "is no torch optimizer"),
        ({"every": 0}, "every = 0 must be a whole number of at least 1"),
        ({"at_step": 1.5}, "at_step = 1.5 must be a whole number"),
    ]:
        with pytest.raises(ValueError, match=message):
            ma.attach(model, folder, **arguments)
    with pytest.raises(ValueError, match="recorder = None is no folder"):
        ma.attach(model, None)  # type: ignore[arg-type]
    next(model.parameters()).placements = ()  # as those of a DTensor
    with pytest.raises(ValueError, match="sharded over processes"):
        ma.attach(model, folder)
    assert not folder.exists()


def test_a_step_in_the_wrong_place_is_refused(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder) as handle:
        with pytest.raises(ValueError, match="saw no forward pass"):
            handle.step()
        backward(model)
        optimizer.step()
        optimizer.zero_grad()
        with pytest.raises(ValueError, match=r"call it after optimizer.step\(\) and before optimizer.zero_grad\(\)"):
            handle.step()
        handle.watch(optimizer)
        with pytest.raises(ValueError, match=r"call log\(loss\) instead"):
            handle.step()
    with pytest.raises(ValueError, match="was detached"):
        handle.step()


def test_two_optimizers_of_the_routers_are_one_too_many(model, folder) -> None:
    routers = [p for name, p in model.named_parameters() if "router" in name]
    handle = ma.attach(model, folder)
    with handle, pytest.raises(ValueError, match="2 optimisers hold routers"):
        handle.watch(SGD(routers[:1], lr=0.1), SGD(routers[1:], lr=0.1))
    experts = [p for name, p in model.named_parameters() if "moelora" in name and "router" not in name]
    with ma.attach(model, folder) as handle:  # nothing was recorded, so the folder is free
        handle.watch(SGD(experts, lr=0.1), SGD(routers, lr=0.1))
        assert handle.config.optimizer == "sgd"


# --- other models ----------------------------------------------------------------------------------------------------


class Own(nn.Module):
    """A user's module with two of our adapters, of other systems and sizes, beside its own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(12, 10)
        self.first = ma.adapters.TRex(12, 10, ma.adapters.TRexConfig(num_down=2, num_up=3))
        self.second = ma.adapters.Smore(10, 5, ma.adapters.SmoreConfig(r=2))

    def forward(self, x: torch.Tensor, context: ma.adapters.RoutingContext) -> torch.Tensor:
        hidden = self.base(x) + self.first(x, context=context)[0]
        return self.second(hidden)[0]


def test_pure_modules_in_a_users_own_model_are_recorded(folder) -> None:
    model = Own()
    randomize(model)
    optimizer = SGD(model.parameters(), lr=1e-3)
    with ma.attach(model, folder, optimizer) as handle:
        for _ in range(3):  # rows of features, without a sequence
            model(torch.randn(8, 12), ma.adapters.RoutingContext(torch.rand(8, 6))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        records = handle.records
    assert records["router_weight"].shape == (3, 1, 6, 12) and records["module"].values.tolist() == ["first"]
    trees = [name for name in records.data_vars if name.startswith("gate_entropy_")]
    assert len(trees) == 1 and np.isfinite(records[trees[0]].values).all()


def test_padding_is_left_out_of_the_statistics_however_the_context_is_passed(folder) -> None:
    model = Own()
    randomize(model)
    x, mask = torch.randn(2, 5, 12), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    context = ma.adapters.RoutingContext(torch.rand(2, 6), mask)
    gates = model.first(x, context)[1].gates.flatten(2).detach()  # (2, 5, 6)
    optimizer = SGD(model.parameters(), lr=1e-3)
    with ma.attach(model, folder, optimizer) as handle:
        model(x, context).square().mean().backward()
        optimizer.step()
        importance = handle.records["gate_importance"].values[0, 0]
    np.testing.assert_allclose(importance, gates[mask.bool()].mean(0), rtol=1e-5)


def test_a_wrapped_model_keeps_the_names_of_the_model_inside(model, folder) -> None:
    wrapper = nn.Module()
    wrapper._orig_mod = model  # as torch.compile does, which takes seconds
    optimizer = SGD(wrapper.parameters(), lr=0.1)
    with ma.attach(wrapper, folder, optimizer) as handle:
        train(model, optimizer, 2)
        assert handle.records["module"].values.tolist()[0] == MODULE
