"""Silence: importing, loading and training print nothing of other libraries; what is long or ours is still shown."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import transformers

from moe_analysis import noise
from moe_analysis.backbones import load_backbone
from moe_analysis.tasks.rows import SuiteWarning
from moe_analysis.training import trainer
from moe_analysis.training.sweep.work import attempt

# every way of a model into memory, every system, and runs that are saved and read again
EVERYTHING = """
import importlib, pkgutil, tempfile
from pathlib import Path
import moe_analysis as ma
for module in pkgutil.walk_packages(ma.__path__, "moe_analysis."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import peft
from moe_analysis.training.sweep.work import attempt
home = tempfile.mkdtemp()
rows = ma.load_suite("embedded", split="train", datasets=["add_small"])["prompt"][:12]
for model in ("tfidf", "minilm"):
    ma.cluster(ma.embed(rows, model=model, cache=False), k=2)
for kind in (ma.MoeLoraConfig, ma.SiraConfig, ma.HydraLoraConfig, ma.TRexConfig, ma.MomorConfig, ma.SmoreConfig):
    adapted = peft.get_peft_model(ma.load_backbone("compact")[0], kind(target_modules=["q_proj"]))
    adapted.save_pretrained(f"{home}/{kind.__name__}")
    peft.PeftModel.from_pretrained(ma.load_backbone("compact")[0], f"{home}/{kind.__name__}")
small = dict(datasets=["add_small"], steps=2, batch_size=4, rows_per_dataset=40, eval_rows=2, save_every=1,
             eval_every=1)
targets = ["q_proj", "v_proj"]
for adapter, more in ((ma.TRexConfig(target_modules=targets), {}),
                      (ma.MoeLoraConfig(target_modules=targets, gate="switch"),
                       {"gradient_checkpointing": True, "precision": "bf16", "record_experts_every": 1}),
                      (ma.SmoreConfig(target_modules=["up_proj"]), {"record_trees_every": 1}),
                      (peft.LoraConfig(target_modules=targets, task_type="CAUSAL_LM"), {})):
    run = ma.train(ma.TrainConfig(adapter=adapter, **small, **more), out=home)
    run.model(), run.history, run.evaluation
assert attempt(ma.TrainConfig(adapter=ma.SiraConfig(target_modules=targets), **small), Path(home)).state == "finished"
"""


def test_importing_loading_and_training_print_nothing() -> None:
    command = [sys.executable, "-W", "always::FutureWarning", "-W", "always::UserWarning", "-c", EVERYTHING]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (done.stdout, done.stderr) == ("", "")


def test_a_bar_is_shown_once_a_loading_takes_long(capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "PATIENCE_SECONDS", 0)
    load_backbone("compact")
    assert "Loading weights: 100%" in capfd.readouterr().err


def hook() -> object:
    """transformers' hook on its bars, which is left as it is."""
    found = transformers.logging.set_tqdm_hook(None)
    transformers.logging.set_tqdm_hook(found)
    return found


def test_patient_bars_leave_the_users_own_hook_in_charge_and_in_place() -> None:
    seen = []

    def mine(factory, args, kwargs):
        seen.append(kwargs)
        return factory(*args, **{**kwargs, "disable": True})

    transformers.logging.set_tqdm_hook(mine)
    try:
        with pytest.raises(ZeroDivisionError), noise.patient_bars():
            list(transformers.logging.tqdm([1], desc="ours"))
            1 / 0  # noqa: B018
        assert hook() is mine
    finally:
        transformers.logging.set_tqdm_hook(None)
    assert seen == [{"desc": "ours", "delay": noise.PATIENCE_SECONDS}]


def test_patient_bars_that_overlap_in_threads_are_undone_by_the_last() -> None:
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with noise.patient_bars():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with noise.patient_bars():  # begun inside the other, ended after it
        leave.set()
        thread.join()
        assert hook() is not None
    assert hook() is None


def test_only_the_one_notice_is_hidden() -> None:
    text = "`is_gradient_checkpointing` is deprecated and will be removed in v6."
    place = {"filename": "x.py", "lineno": 1}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        noise.overlook_notices()
        warnings.warn_explicit(text, FutureWarning, module="transformers.modeling_utils", **place)
        assert not said
        warnings.warn_explicit(text, FutureWarning, module="mine", **place)
        warnings.warn_explicit("another notice", FutureWarning, module="transformers.modeling_utils", **place)
        warnings.warn_explicit(text, DeprecationWarning, module="transformers.modeling_utils", **place)
    assert len(said) == 3


def test_a_run_of_a_pool_of_threads_leaves_warnings_bars_and_logs_as_they_were(config, out: Path) -> None:
    def state() -> tuple:
        logging = transformers.logging
        return list(warnings.filters), logging.get_verbosity(), logging.is_progress_bar_enabled()

    before = state()
    assert attempt(config(steps=1), out).state == "finished"
    assert state() == before and before[2]


def test_nobody_watching_silences_what_was_said_before_and_nothing_else() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with noise.nobody_watching(said_before=SuiteWarning):
            warnings.warn("rows", SuiteWarning, stacklevel=1)
            warnings.warn("steps", UserWarning, stacklevel=1)
            assert not transformers.logging.is_progress_bar_enabled()
    assert [str(one.message) for one in said] == ["steps"]


def test_the_two_latest_checkpoints_are_kept_by_their_steps(config, out: Path, monkeypatch) -> None:
    """Ten checkpoints of one second, of which the ninth's name sorts last, and which Trainer would warn of."""
    settings = config(steps=10, save_every=1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(settings, out)
    folder = out / settings.run_name / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-10", "checkpoint-9"]
