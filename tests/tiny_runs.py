"""Fixtures: a backbone and a suite small enough to train in a second, on disk as a user's own would be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import moe_analysis as ma
from tools.compact import train_tokenizer

WORDS = [
    "red",
    "blue",
    "green",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "big",
    "small",
    "old",
    "new",
    "cat",
    "dog",
    "bird",
    "fish",
    "runs",
    "eats",
    "sees",
    "likes",
]


def row(dataset: str, split: str, number: int) -> dict:
    first, second = WORDS[number % 11], WORDS[(number * 5 + 3) % 22]
    prompt = f"The {first} {second} sees {WORDS[(number * 7) % 22]} number {number}. What comes first?"
    choices = sorted({first, second, "cat"}) if dataset == "choose" else None
    label = choices.index(first) if choices else None
    return {
        "dataset": dataset,
        "group": f"{dataset}s",
        "split": split,
        "prompt": prompt,
        "choices": choices,
        "answer": first,
        "label": label,
    }


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of two data sets, one with choices and one with free answers; 24 train and 6 test rows each."""
    folder = tmp_path_factory.mktemp("suite")
    for dataset in ("choose", "say"):
        rows = [row(dataset, "train" if number < 24 else "test", number) for number in range(30)]
        (folder / f"{dataset}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(folder)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory, suite: str) -> str:
    """Folder of a random two-layer decoder with a tokenizer of the suite's words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("backbone")
    tokenizer = train_tokenizer([*ma.load_suite(suite)["prompt"], *[f" {word}" for word in WORDS]])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config(backbone: str, suite: str):
    """A function that makes a configuration of six steps; keyword arguments change it."""

    def make(**changes) -> ma.TrainConfig:
        adapter = ma.MoeLoraConfig(num_experts=4, top_k=2, gate="switch", r=2, target_modules=["q_proj", "v_proj"])
        values = {
            "backbone": backbone,
            "suite": suite,
            "adapter": adapter,
            "steps": 6,
            "batch_size": 8,
            "save_every": 2,
            "eval_rows": 4,
            "embedder": "tfidf",
            "warmup_steps": 0,
            "lr": 1e-2,
            "prompt_form": "options",
        }
        return ma.TrainConfig(**{**values, **changes})

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def training_config(config) -> ma.TrainConfig:
    """A configuration of two steps."""
    return config(steps=2)
