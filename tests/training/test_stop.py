"""Ctrl-C in a training run: it stops after a checkpoint, and resumes to the numbers of a run that never stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.training.trainer import AdapterTrainer

SAVED = "checkpoint-3"


class Stopped(KeyboardInterrupt):
    pass


@pytest.fixture
def rarely_saved(config) -> ma.TrainConfig:
    """Six steps that write no checkpoint of their own."""
    return config(save_every=100)


@pytest.fixture(autouse=True)
def hears() -> Iterator[None]:
    """Ctrl-C raises here, as in a terminal, though what runs in the background may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(monkeypatch: pytest.MonkeyPatch, number: int, *, times: int = 1) -> None:
    """Send the signal to this process in the middle of the third step."""
    original = AdapterTrainer._clip_grad_norm

    def pressed(self: AdapterTrainer, model: Any) -> Any:
        if self.state.global_step == 2:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(self, model)

    monkeypatch.setattr(AdapterTrainer, "_clip_grad_norm", pressed)


def checkpoints(config: ma.TrainConfig, out: Path) -> list[str]:
    return [path.parent.name for path in (out / config.run_name / "checkpoints").glob("*/complete")]


def test_the_step_ends_behind_its_checkpoint_and_the_run_goes_on_from_it(rarely_saved, tmp_path, monkeypatch) -> None:
    whole = ma.train(rarely_saved, tmp_path / "whole")
    with monkeypatch.context() as patch:
        press(patch, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            ma.train(rarely_saved, tmp_path / "out")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert checkpoints(rarely_saved, tmp_path / "out") == [SAVED]
    again = ma.train(rarely_saved, tmp_path / "out")
    pd.testing.assert_frame_equal(again.history, whole.history)
    pd.testing.assert_frame_equal(again.evaluation, whole.evaluation)


def test_a_second_ctrl_c_does_not_wait(rarely_saved, tmp_path, monkeypatch, capfd) -> None:
    press(monkeypatch, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt):
        ma.train(rarely_saved, tmp_path)
    assert checkpoints(rarely_saved, tmp_path) == []
    assert "again to stop now" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_raises_its_own_error_does_so_behind_the_checkpoint(rarely_saved, tmp_path, monkeypatch) -> None:
    def stop(*_: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        press(monkeypatch, signal.SIGTERM)
        with pytest.raises(Stopped):
            ma.train(rarely_saved, tmp_path)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert checkpoints(rarely_saved, tmp_path) == [SAVED]


def test_another_handler_of_ctrl_c_is_left_alone(rarely_saved, tmp_path, monkeypatch) -> None:
    """As in the workers of a sweep, which end at once."""

    def own(*_: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGINT, own)
    try:
        press(monkeypatch, signal.SIGINT)
        with pytest.raises(Stopped):
            ma.train(rarely_saved, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert checkpoints(rarely_saved, tmp_path) == []


def test_outside_the_main_thread_nothing_changes(rarely_saved, tmp_path) -> None:
    finished: list[bool] = []
    thread = threading.Thread(target=lambda: finished.append(ma.train(rarely_saved, tmp_path).finished))
    thread.start()
    thread.join()
    assert finished == [True]
