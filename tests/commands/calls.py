"""How the tests of the command line call it, and folders of runs that nobody had to train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from moe_analysis.__main__ import app
from moe_analysis.training.files import HISTORY, json_text, write_table

DATASETS = ("choose", "say", "sort")


def call(*arguments: str, **environment: str):
    """The program's result: exit_code, stdout, stderr."""
    return CliRunner().invoke(app, list(arguments), env=environment)


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "moe_analysis", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def write_run(out: Path, config: Any, steps: int = 6, better: float = 0.0, finished: bool = True) -> Path:
    """A run's folder as training leaves it: losses fall to 1 - better, accuracies are 0.5 + better."""
    folder = out / config.run_name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json_text(config.to_dict()))
    status = {"state": "finished" if finished else "running", "step": steps, "steps": config.steps, "seconds": 2.5}
    (folder / "status.json").write_text(json_text(status))
    if finished:
        count = np.arange(1, steps + 1)
        train = pd.DataFrame(
            {
                "step": count,
                "split": "train",
                "loss": 2.0 - better - (count == steps),
                "lr": 0.1,
                "accuracy": 0.5,
                "grad_norm": 1.0,
                "balance_loss": 0.0,
            }
        )
        test = pd.DataFrame({"step": [steps], "split": ["test"], "loss": [1.0 - better], "accuracy": [0.5 + better]})
        write_table(folder / "history.parquet", pd.concat([train, test], ignore_index=True)[HISTORY])
        losses, accuracies = np.full(3, 1.0 - better), 0.5 + better + np.array([-0.1, 0.0, 0.1])
        write_table(
            folder / "evaluation.parquet",
            pd.DataFrame(
                {
                    "dataset": DATASETS,
                    "group": "g",
                    "kind": "choices",
                    "rows": 10,
                    "loss": losses,
                    "accuracy": accuracies,
                }
            ),
        )
    return folder


def document(text: str) -> Any:
    """The one JSON document that a text is; refuses NaN, and anything beside it."""
    return json.loads(text, parse_constant=lambda name: 1 / 0)
