"""A model and a folder for loops that are recorded."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest

import moe_analysis as ma
from tests.adapters.cases import randomize


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
    monkeypatch.setattr("moe_analysis.training.recorders.store.BLOCK", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"
