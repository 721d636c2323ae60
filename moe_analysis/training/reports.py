"""A run's numbers in other programs: TensorBoard, Weights & Biases, MLflow, by the callbacks of transformers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

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
                f"report_to = {name!r} needs a library that is not installed; pip install {FROM[name]}, or leave "
                "report_to out"
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
        self.other_run: Any = None  # of wandb, which somebody else has begun and will end

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
