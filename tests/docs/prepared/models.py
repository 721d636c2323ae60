"""Rows, a model and small trained runs: three methods at two seeds, four steps each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import moe_analysis as ma
from moe_analysis.campaigns.row import row_of
from moe_analysis.campaigns.table import add_rows
from moe_analysis.training.transfer import evaluate_on

from .registry import folder, fresh, prepared

DATASETS = ["add_small", "add_small_one_over", "where_is", "where_is_one_step_late"]
TARGETS = r".*layers\.[23]\.self_attn\.[qv]_proj"  # of the last two layers


@prepared
def frame() -> pd.DataFrame:
    """Sixty prompts: fifteen training rows of each of four embedded data sets, two originals and their variants."""
    rows = ma.load_suite("embedded", split="train", datasets=DATASETS)
    return rows.groupby("dataset", sort=False).head(15).reset_index(drop=True)


@prepared
def test() -> pd.DataFrame:
    """Three test rows of each of the four data sets of `frame`."""
    rows = ma.load_suite("embedded", split="test", datasets=DATASETS)
    return rows.groupby("dataset", sort=False).head(3).reset_index(drop=True)


@prepared
def embeddings() -> np.ndarray:
    """The prompts of `frame`, embedded by TF-IDF: rows of length 1."""
    return ma.embed(frame()["prompt"], model="tfidf", cache=False)


@fresh
def base() -> Any:
    """The compact decoder without an adapter."""
    return ma.load_backbone("compact")[0]


@prepared
def tokenizer() -> Any:
    """The compact decoder's tokenizer."""
    return ma.load_backbone("compact")[1]


@fresh
def model() -> Any:
    """The compact decoder with LoRA-MoE, four experts of rank 2, on the query and value projections of its last two
    layers. B of the experts is random, so that they do something."""
    import peft
    import torch

    torch.manual_seed(0)
    mixture = peft.get_peft_model(base(), ma.MoeLoraConfig(num_experts=4, top_k=2, r=2, target_modules=TARGETS))
    for name, parameter in mixture.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(parameter, std=0.1)
    return mixture.eval()


@prepared
def batch() -> Any:
    """The first four prompts of `frame` as token ids, with the ids as labels: what a model takes."""
    encoded = dict(tokenizer()(list(frame()["prompt"][:4]), return_tensors="pt", padding=True))
    encoded.pop("token_type_ids", None)
    return {**encoded, "labels": encoded["input_ids"]}


def config(name: str, seed: int, **fields: Any) -> ma.TrainConfig:
    """A run that takes half a second: four steps of eight samples on four data sets."""
    sizes = {
        "datasets": DATASETS,
        "rows_per_dataset": 8,
        "eval_rows": 2,
        "steps": 4,
        "batch_size": 8,
        "lr": 1e-2,
        "embedder": "tfidf",
        "max_length": 96,
        "warmup_steps": 0,
    }
    return ma.TrainConfig(**{**sizes, "name": name, "seed": seed, **fields})


def trained(*configs: ma.TrainConfig) -> list[ma.Run]:
    return [ma.train(one, folder() / "runs") for one in configs]


@prepared
def runs() -> list[ma.Run]:
    """Six finished runs of four steps on the data sets of `frame`: LoRA-MoE (four experts), mix-and-match and T-REX
    (two down and four up vectors, which make eight experts), each at the seeds 0 and 1, on the query and value
    projections of the last two layers."""
    trex = {"num_down": 2, "num_up": 4, "target_modules": TARGETS}
    adapters = {
        "LoRA-MoE": ma.MoeLoraConfig(num_experts=4, r=2, target_modules=TARGETS),
        "mix-and-match": ma.TRexConfig(intuition=False, **trex),
        "T-REX": ma.TRexConfig(**trex),
    }
    found = trained(*(config(name, seed, adapter=adapter) for name, adapter in adapters.items() for seed in (0, 1)))
    for one in found[:2]:
        evaluate_on(one, "embedded_ood", 1)  # kept in its folder, where `evaluate_all` finds it without new processes
    return found


@prepared
def run() -> ma.Run:
    """The last of `runs`: T-REX, seed 1."""
    return runs()[-1]


@prepared
def results_file() -> Path:
    """A table of results with the run `run`, as a campaign leaves it."""
    path = folder() / "trial.parquet"
    add_rows(path, [row_of(run(), "trial", "final")])
    return path
