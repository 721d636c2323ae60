"""The history of a run as one tidy frame."""

from __future__ import annotations

from typing import Any

import pandas as pd

COLUMNS = ["step", "split", "loss", "accuracy", "lr", "grad_norm", "balance_loss"]


def history_frame(log: list[dict[str, Any]]) -> pd.DataFrame:
    """Trainer's log -> columns step, split, loss, accuracy, lr, grad_norm (before clipping), balance_loss.

    Train rows hold a step's batch: nats an answer token (balance loss included) and the share of answer tokens
    predicted right. Test rows hold means over data sets: nats an answer token and accuracy by exact likelihood.
    """
    rows = []
    for entry in log:
        if "eval_loss" in entry:
            rows.append(
                {"step": entry["step"], "split": "test", "loss": entry["eval_loss"], "accuracy": entry["eval_accuracy"]}
            )
        elif "loss" in entry:
            rows.append(
                {
                    "step": entry["step"],
                    "split": "train",
                    "loss": entry["loss"],
                    "accuracy": entry["accuracy"],
                    "lr": entry["learning_rate"],
                    "grad_norm": entry["grad_norm"],
                    "balance_loss": entry["balance_loss"],
                }
            )
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"step": "int64"})
    # the last step is evaluated once more at the end of the run, with the same result
    return frame.drop_duplicates(["step", "split"], keep="last", ignore_index=True)
