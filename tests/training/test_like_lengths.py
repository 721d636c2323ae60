"""Batches of like length: every row once per epoch, in an order that a resumed run keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import RandomSampler

import moe_analysis as ma
from moe_analysis.training.prepare import LikeLengths
from moe_analysis.training.trainer import AdapterTrainer
from tests.training.test_train import assert_same_run


@given(st.lists(st.integers(1, 90), max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_every_row_comes_once_in_each_epoch_in_an_order_that_epoch_and_seed_tell(
    lengths: list[int], batch_size: int, epoch: int
) -> None:
    first, second = (LikeLengths(lengths, batch_size, seed=1) for _ in range(2))
    list(first)  # an epoch more or less drawn before changes nothing
    for sampler in (first, second):
        sampler.set_epoch(epoch)
    assert list(first) == list(second) and sorted(first) == list(range(len(lengths))) and len(first) == len(lengths)


def test_orders_of_other_epochs_and_seeds_differ() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 200)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        sampler = LikeLengths(lengths.tolist(), 8, seed)
        sampler.set_epoch(epoch)
        orders.append(tuple(sampler))
    assert len(set(orders)) == 3


def test_batches_have_little_padding_and_come_in_no_order_of_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 1024)
    batches = lengths[list(LikeLengths(lengths.tolist(), 8, 0))].reshape(-1, 8)
    shuffled = np.random.default_rng(1).permutation(lengths).reshape(-1, 8)
    padding, chance = ((rows.max(1) * 8 - rows.sum(1)).sum() / lengths.sum() for rows in (batches, shuffled))
    assert padding < 0.15 and chance > 0.6
    longest = batches.max(1)
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.3


def test_the_form_that_lists_options_keeps_the_order_of_its_first_runs(config, out: Path, monkeypatch) -> None:
    samplers = []
    original = AdapterTrainer.get_train_dataloader

    def kept(self):
        loader = original(self)
        samplers.append(loader.batch_sampler.sampler)
        return loader

    monkeypatch.setattr(AdapterTrainer, "get_train_dataloader", kept)
    for form in ("options", "cloze", "instruction"):
        ma.train(config(prompt_form=form, steps=1, max_length=512), out)
    assert [type(one) for one in samplers[1:]] == [LikeLengths, LikeLengths]
    assert isinstance(samplers[0], RandomSampler)


@pytest.mark.parametrize("step", [3, 8, 13])
def test_a_run_that_dies_in_any_epoch_goes_on_with_the_rows_that_were_left(
    config, out: Path, monkeypatch, step: int
) -> None:
    """48 rows in batches of 5 are ten steps and a rest of three rows: 16 steps reach into the second epoch."""
    asked = config(prompt_form="cloze", steps=16, batch_size=5)
    whole = ma.train(asked, out / "whole")
    original = AdapterTrainer.compute_loss

    def dies(self, *args, **kwargs):
        if self.state.global_step == step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "compute_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        ma.train(asked, out / "cut")
    monkeypatch.setattr(AdapterTrainer, "compute_loss", original)
    assert_same_run(whole, ma.train(asked, out / "cut"))
