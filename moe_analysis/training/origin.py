"""What a run is made from, as digests: a run never goes on with other rows, tokens or weights than it began with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..tasks.cache import digest_of
from ..tasks.kept import stamp_of
from ..tasks.rows import SPLITS
from ..tasks.suite import HUB, suite_folder
from .config import TrainConfig
from .files import RunError, RunWarning
from .prepare import run_rows
from .run import Run

FIELDS = ("suite", "datasets", "rows_per_dataset", "eval_rows", "holdout_rows", "transfer_suites")
_known: dict[str, dict[str, str]] = {}  # stamps of the suites' files and a choice of rows -> digests


def rows_digest(rows: pd.DataFrame) -> str:
    """SHA-256 over all that a run reads of its rows, in their order.

    >>> rows_digest(frame) == rows_digest(frame.copy()), rows_digest(frame) == rows_digest(frame[1:])
    (True, False)
    """
    columns = rows[["dataset", "group", "prompt", "choices", "answer", "label"]]
    return digest_of(
        repr((dataset, group, prompt, choices and list(choices), answer, None if pd.isna(label) else int(label)))
        for dataset, group, prompt, choices, answer, label in columns.itertuples(index=False)
    )


def rows_digests(frames: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """`rows_digest` by the names that `run_rows` gives."""
    return {name: rows_digest(rows) for name, rows in frames.items()}


def tokens_digest(examples: Iterable[Any]) -> str:
    """SHA-256 over the tokens of encoded rows: another tokenizer gives others for the same rows."""
    return digest_of(repr((list(example.input_ids), example.prompt_length)) for example in examples)


def refuse_another_origin(folder: Path, config: TrainConfig, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise RunError naming what a run was made from when it began (`before`) and is not any more (`now`).

    Args:
        folder: Of the run.
        config: Of the run.
        before: Its status.json; what it does not say, as those of older versions, cannot be compared.
        now: The same entries as they are now; those left out are not compared.
    """
    remedy = f"since {folder} began; restore it, delete the run, or pass another out"
    if differ(before, now, "backbone_sha256"):
        raise RunError(f"backbone = {config.backbone!r} has changed {remedy}")
    if differ(before, now, "tokens_sha256"):
        raise RunError(f"the tokenizer of backbone = {config.backbone!r} has changed {remedy}")
    if changed := changed_rows(config, before.get("rows_sha256"), now.get("rows_sha256")):
        raise RunError(f"{changed} have changed {remedy}")


def differ(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> bool:
    return bool(before.get(name) and now.get(name)) and before[name] != now[name]


def changed_rows(config: TrainConfig, before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> str:
    """Such as "the train rows of suite = 'own'"; nothing where they are the same, or one of them is not known."""
    for name in now or {}:
        if name in (before or {}) and before[name] != now[name]:  # type: ignore[index]
            return f"the {name} rows of suite = {config.suite!r}" if name in SPLITS else f"the test rows of {name!r}"
    return ""


def warn_of_other_rows(runs: Sequence[Run]) -> None:
    """Warn (RunWarning) of finished runs whose rows have changed since: they are read as they were, not trained again.

    Where the rows are not here, on the hub, or cannot be read, nothing is said.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        if changed := changed_rows(run.config, run.status.get("rows_sha256"), rows_now(run.config)):
            found.setdefault(changed, []).append(run)
    for changed, several in found.items():
        others = len(several) - 1
        more = f" and {others} other run{'s' if others > 1 else ''} were" if others else " was"
        warnings.warn(
            f"{changed} have changed since {several[0].path}{more} trained, and finished runs are not repeated; "
            "restore them, delete the runs, or pass another out",
            RunWarning,
            stacklevel=3,
        )


def rows_now(config: TrainConfig) -> dict[str, str]:
    """`rows_digests` of the rows that are there now; kept in this process until their files change."""
    suites = [config.suite, *(config.transfer_suites or ())]
    if any(suite.startswith(HUB) for suite in suites):
        return {}
    try:
        stamps = [stamp_of(suite_folder(suite)) for suite in suites]
        key = repr((stamps, [getattr(config, name) for name in FIELDS]))
        if key in _known:
            return _known[key]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            digests = rows_digests(run_rows(config))
    except (OSError, ValueError):
        return {}
    if None not in stamps:
        _known[key] = digests
    return digests
