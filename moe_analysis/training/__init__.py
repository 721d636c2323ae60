"""Runs: configuration, training, record, evaluation."""

from .config import TrainConfig
from .evaluate import evaluate
from .files import RunError
from .run import Run
from .trainer import train

__all__ = ["Run", "RunError", "TrainConfig", "evaluate", "train"]
