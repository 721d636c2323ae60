"""What a run adds to the model card of its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftConfig

from ..model_card import hide_base_path, write_card
from .config import TrainConfig


def write_run_card(folder: Path, adapter: PeftConfig, config: TrainConfig, evaluation: pd.DataFrame) -> None:
    """Write the card of a run's adapter, PEFT's own LoRA among them, and take our paths out of its configuration.

    Args:
        folder: where the adapter was saved.
        adapter: the trained model's configuration, which knows the base model.
        config: of the run.
        evaluation: the final results by data set, with the columns dataset, rows, accuracy and loss at least.
    """
    hide_base_path(folder)
    write_card(folder, adapter, facts(config, evaluation))


def facts(config: TrainConfig, evaluation: pd.DataFrame) -> dict[str, Any]:
    """Data, settings and results as `model_card` takes them; a folder of data is called by its last name."""
    chosen = f"{len(config.datasets)} data sets of it" if config.datasets else "all of its data sets"
    most = f", at most {config.rows_per_dataset} rows of each" if config.rows_per_dataset else ""
    suite = config.suite.rstrip("/").rpartition("/")[2]
    batch = config.batch_size * config.gradient_accumulation
    settings = {
        "steps": config.steps,
        "samples a step": batch,
        "optimizer": config.optimizer,
        "optimizer options": config.optimizer_options or None,
        "peak learning rate": config.lr,
        "of the router": config.router_lr,
        "schedule": config.schedule,
        "precision": config.precision,
        "embedder": config.embedder if config.clusters is not None else None,
        "seed": config.seed,
        "run": config.run_name,
    }
    return {
        "data": f"the suite `{suite}`, {chosen}{most}; tested on other rows of the same data sets.",
        "results": results(evaluation),
        **{name: one for name, one in settings.items() if one is not None},
    }


def results(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Rows, accuracy and loss by data set, and their mean over the data sets."""
    found = evaluation[["dataset", "rows", "accuracy", "loss"]]
    means = found[["accuracy", "loss"]].mean()
    mean = pd.DataFrame({"dataset": ["mean"], "rows": [int(found["rows"].sum())], **{k: [v] for k, v in means.items()}})
    return pd.concat([found, mean], ignore_index=True)
