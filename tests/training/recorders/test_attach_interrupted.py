"""A recorded loop that is interrupted loses nothing and resumes; one used wrongly is refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import peft
import pytest
from torch.optim import SGD

import moe_analysis as ma
from moe_analysis.peft_bridge import adapter_modules
from moe_analysis.training.files import RunError
from moe_analysis.training.recorders.attached_run import AttachedRun
from moe_analysis.training.recorders.store import RecordError
from tests.training.recorders.attach_loops import ROUTER, assert_same_records, backward, steps, train


def test_an_exception_loses_nothing_and_leaves_nothing_hooked(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyboardInterrupt), ma.attach(model, folder, optimizer):
        train(model, optimizer, 7)
        backward(model)
        raise KeyboardInterrupt
    assert len(ma.open_records(folder)["step"]) == 7
    adapters = adapter_modules(model).values()
    assert not [part for part in adapters if part._forward_hooks or part._forward_pre_hooks]
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
        with pytest.raises(RunError, match=r"already being recorded into; detach\(\)"):
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


def test_what_cannot_be_recorded_is_refused_before_a_folder_is_made(tiny_llama, tiny_gpt2, folder) -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM has no routed adapter to record; wrap it with peft"):
        ma.attach(tiny_llama, folder)
    lora = peft.get_peft_model(tiny_llama, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="no routed adapter"):
        ma.attach(lora, folder)
    model = peft.get_peft_model(tiny_gpt2, ma.MoeLoraConfig(r=2, target_modules=["c_attn"]))
    for arguments, message in [
        ({"optimizer": SGD(tiny_llama.parameters(), lr=0.1)}, "SGD contains no parameter of the model's adapters"),
        ({"optimizer": SimpleNamespace()}, "is not a torch optimizer"),
        ({"every": 0}, "every = 0 must be a whole number of at least 1"),
        ({"at_step": 1.5}, "at_step = 1.5 must be a whole number"),
    ]:
        with pytest.raises(ValueError, match=message):
            ma.attach(model, folder, **arguments)
    with pytest.raises(ValueError, match="recorder = None is not a folder"):
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
    with handle, pytest.raises(ValueError, match="2 optimizers contain routers"):
        handle.watch(SGD(routers[:1], lr=0.1), SGD(routers[1:], lr=0.1))
    experts = [p for name, p in model.named_parameters() if "moelora" in name and "router" not in name]
    with ma.attach(model, folder) as handle:  # nothing was recorded, so the folder is free
        handle.watch(SGD(experts, lr=0.1), SGD(routers, lr=0.1))
        assert handle.config.optimizer == "sgd"
