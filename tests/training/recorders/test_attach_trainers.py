"""The trainers of others under `attach`: transformers' Trainer, and a stand-in that calls hooks as Lightning does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch.optim import SGD, Optimizer
from transformers import Trainer, TrainerCallback, TrainingArguments

import moe_analysis as ma
from moe_analysis.training.recorders.recorder import Recorder

CLIP = 2e-3  # below every norm that occurs here


@pytest.fixture
def make(tiny_llama):
    """A function that adapts a copy of the tiny decoder; the same weights every time."""
    import copy

    def adapted():
        torch.manual_seed(1)
        config = ma.MoeLoraConfig(num_experts=4, r=2, top_k=2, gate="switch", target_modules=["q_proj"])
        return peft.get_peft_model(copy.deepcopy(tiny_llama), config).train()

    return adapted


class DiesAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


ROWS = [
    {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
    for ids in torch.randint(3, 40, (64, 7), generator=torch.Generator().manual_seed(0))
]


def trainer(model, out: Path, callbacks: list[Any], **options: Any) -> Trainer:
    values = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "max_grad_norm": CLIP,
        "logging_steps": 1,
        "save_steps": 4,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": 0,
    }
    arguments = TrainingArguments(output_dir=str(out), **{**values, **options})
    return Trainer(model=model, args=arguments, train_dataset=ROWS, callbacks=callbacks)  # type: ignore[arg-type]


def assert_same_records(first, second) -> None:
    assert first["step"].values.tolist() == second["step"].values.tolist()
    for name in second.data_vars:
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)


def test_under_trainer_the_record_is_bit_by_bit_that_of_our_own_recorder(make, folder, tmp_path) -> None:
    """Accumulation, clipping and AdamW: what reaches the optimizer is what `Recorder` reads before its step."""
    model = make()
    ours = Recorder(model, tmp_path / "ours.zarr", 1)
    with ma.attach(model, folder) as handle:
        done = trainer(model, tmp_path / "out", [handle.trainer_callback, ours])
        done.train()
        assert_same_records(handle.records, ma.open_records(tmp_path / "ours.zarr"))
        assert not done.optimizer.optimizer._optimizer_step_pre_hooks and handle.attached
    assert min(entry["grad_norm"] for entry in done.state.log_history if "loss" in entry) > CLIP
    logged = [entry["loss"] for entry in done.state.log_history if "loss" in entry]
    np.testing.assert_allclose(handle.history["loss"], logged, rtol=1e-6)
    assert handle.config.optimizer == "adamw"


def test_a_trainer_that_resumes_from_its_checkpoint_resumes_its_record(make, folder, tmp_path) -> None:
    whole = make()
    with ma.attach(whole, tmp_path / "whole") as expected:
        trainer(whole, tmp_path / "a", [expected.trainer_callback]).train()
    cut = make()
    with pytest.raises(KeyboardInterrupt), ma.attach(cut, folder) as handle:
        trainer(cut, tmp_path / "b", [handle.trainer_callback, DiesAt(5)]).train()
    assert ma.open_records(folder)["step"].values.tolist() == [0, 1, 2, 3, 4]
    again = make()
    with ma.attach(again, folder, resume=True) as handle:
        trainer(again, tmp_path / "b", [handle.trainer_callback]).train(resume_from_checkpoint=True)
    assert_same_records(handle.records, expected.records)


def test_a_second_trainer_goes_on_with_the_record(make, folder, tmp_path) -> None:
    model = make()
    with ma.attach(model, folder) as handle:
        for phase in range(2):
            trainer(model, tmp_path / str(phase), [handle.trainer_callback], max_steps=2).train()
        assert handle.records["step"].values.tolist() == [0, 1, 2, 3]


class Lightning:
    """Calls callbacks in the order of Lightning's automatic optimization: forward and backward happen inside the
    optimizer's step, as its closure, and gradients are clipped after on_before_optimizer_step."""

    def __init__(self, model: torch.nn.Module, optimizers: list[Optimizer], callbacks: list[Any]) -> None:
        self.model, self.optimizers, self.callbacks, self.global_step = model, optimizers, callbacks, 0
        self.norms: list[float] = []  # before clipping

    def call(self, hook: str, *values: Any) -> None:
        for callback in self.callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(self, self.model, *values)

    def fit(self, updates: int, parts: int = 1, dies_at: int | None = None) -> None:
        self.accumulate_grad_batches = parts
        try:
            for hook in ("setup", "on_fit_start", "on_sanity_check_start", "on_train_start", "on_train_epoch_start"):
                self.call(hook, *(["fit"] if hook == "setup" else []))
            for number in range(updates * parts):
                self._batch(number, last=number % parts == parts - 1, parts=parts, dies=self.global_step == dies_at)
            for hook in ("on_train_epoch_end", "on_train_end", "on_fit_end"):
                self.call(hook)
        except KeyboardInterrupt as error:
            self.call("on_exception", error)

    def _batch(self, number: int, last: bool, parts: int, dies: bool) -> None:
        self.call("on_train_batch_start", ROWS[number], number)
        if dies:
            raise KeyboardInterrupt
        optimizer, outputs = self.optimizers[0], {}

        def closure() -> torch.Tensor:
            ids = torch.stack([row["input_ids"] for row in ROWS[2 * number % 60 :][:2]])
            loss = self.model(input_ids=ids, labels=ids).loss
            outputs["loss"] = loss.detach() / parts
            if number % parts == 0:
                self.call("on_before_zero_grad", optimizer)
                optimizer.zero_grad()
            self.call("on_before_backward", loss)
            (loss / parts).backward()
            self.call("on_after_backward")
            if last:
                self.call("on_before_optimizer_step", optimizer)
                self.norms.append(float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)))
            return loss

        if last:
            optimizer.step(closure=closure)
            self.global_step += 1
        else:
            closure()
        self.call("on_train_batch_end", outputs, ROWS[number], number)


@pytest.mark.parametrize("parts", [1, 3])
def test_under_lightning_the_clipped_gradient_of_the_closure_is_recorded(make, folder, parts) -> None:
    model = make()
    with ma.attach(model, folder) as handle:
        fit = Lightning(model, [SGD(model.parameters(), lr=0.5)], [handle.lightning_callback])
        fit.fit(updates=4, parts=parts)
        records = handle.records
        assert not fit.optimizers[0]._optimizer_step_post_hooks
    weights, grads = records["router_weight"].values, records["router_grad"].values
    assert records["step"].values.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(weights[1:], weights[:-1] - 0.5 * grads[:-1], rtol=1e-5, atol=1e-7)
    assert grads[1:].any(axis=(1, 2, 3)).all() and min(fit.norms) > CLIP
    assert handle.history["loss"].between(2, 5).all()


def test_a_lightning_loop_that_breaks_off_keeps_its_record_and_goes_on(make, folder) -> None:
    model = make()
    optimizer = SGD(model.parameters(), lr=0.5)
    handle = ma.attach(model, folder)
    fit = Lightning(model, [optimizer], [handle.lightning_callback])
    fit.fit(updates=5, dies_at=3)
    assert ma.open_records(folder)["step"].values.tolist() == [0, 1, 2]  # written without a detach
    handle.detach()
    with ma.attach(model, folder, resume=True) as handle:
        fit.callbacks, fit.global_step = [handle.lightning_callback], 2  # the checkpoint was one update behind
        fit.fit(updates=2)
        assert handle.records["step"].values.tolist() == [0, 1, 2, 3]


def test_a_lightning_that_is_imported_gets_a_callback_of_its_own(make, folder, monkeypatch) -> None:
    import sys
    from types import SimpleNamespace

    class Callback:
        state_key = "RouterRecord"

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            """Lightning's Trainer calls every hook of every callback."""

    monkeypatch.setitem(sys.modules, "pytorch_lightning", SimpleNamespace(Callback=Callback))
    with ma.attach(make(), folder) as handle:
        assert isinstance(handle.lightning_callback, Callback)
        handle.lightning_callback.on_fit_start(None, None)
