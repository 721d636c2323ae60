"""A run's numbers in other places: TensorBoard, Weights & Biases and MLflow while it trains, and its adapter's card."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftConfig
from transformers import Trainer, TrainerCallback

from ..model_card import hide_base_path, write_card
from . import distributed
from .config import TrainConfig

FOLDER = "tensorboard"  # in a run's folder
FROM = {"tensorboard": '"moe_analysis[tensorboard]"', "wandb": "wandb", "mlflow": "mlflow"}


def check_reports(reports: Sequence[str]) -> None:
    """Raise ValueError naming a library that is not installed, with the command that installs it."""
    from transformers.integrations import integration_utils

    for name in reports:
        if not getattr(integration_utils, f"is_{name}_available")():
            raise ValueError(
                f"report_to = {name!r} needs a library that is not installed; pip install {FROM[name]}, or omit "
                "report_to"
            )


class Reports(TrainerCallback):
    """Hands a Trainer's logs to its callbacks for reports, which end when the run does.

    Trainer ends them after the last step, and the final evaluation comes later: MLflow would open another run for it.

    Args:
        config: Of the run.
        folder: Of the run, for TensorBoard's files.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.callbacks: list[Any] = []
        self.latest: tuple[Any, Any, Any] | None = None  # Trainer's arguments, state and control
        self.other_run: Any = None  # a wandb run that other code started and will finish

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        self.latest = args, state, control
        self.other_run = getattr(sys.modules.get("wandb"), "run", None)
        for name in self.config.reports:
            options = {"tb_writer": self._writer(state.global_step)} if name == "tensorboard" else {}
            self.callbacks.append(INTEGRATION_TO_CALLBACK[name](**options))
            self.callbacks[-1].on_train_begin(args, state, control, **named)

    def _writer(self, step: int) -> Any:
        """TensorBoard's, in the run's folder; what a run wrote after the checkpoint that it resumes from is removed."""
        from torch.utils.tensorboard import SummaryWriter

        home = os.environ.get("TENSORBOARD_LOGGING_DIR")
        place = Path(home).expanduser() / self.config.run_name if home else self.folder / FOLDER
        return SummaryWriter(log_dir=str(place), purge_step=step + 1 if step else None)

    def on_log(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        for callback in self.callbacks:
            callback.on_log(args, state, control, **named)

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        for callback in self.callbacks:
            callback.on_save(args, state, control, **named)

    def end(self, trainer: Trainer) -> None:
        """End the reports, whether the run has come to its end or not."""
        for callback in self.callbacks:
            callback.on_train_end(*(self.latest or ()), model=trainer.model, processing_class=trainer.processing_class)
        if "wandb" in self.config.reports and self.callbacks and self.other_run is None:
            sys.modules["wandb"].finish()  # else the next run of this process would go on with it


@contextmanager
def reported(trainer: Trainer, config: TrainConfig, folder: Path) -> Iterator[None]:
    """While the block trains and evaluates, the first process reports what the configuration asks for."""
    if not config.reports or not distributed.first():
        yield
        return
    reports = Reports(config, folder)
    trainer.add_callback(reports)
    try:
        yield
    finally:
        reports.end(trainer)


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
        "samples per step": batch,
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
