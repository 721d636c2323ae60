"""Runs: configuration, training, record, evaluation."""

from .config import TrainConfig
from .evaluate import evaluate
from .run import Run, RunError
from .trainer import train

__all__ = ["Run", "RunError", "TrainConfig", "evaluate", "train"]
