"""Trained runs on another suite's test rows: out of distribution, computed once and kept in the run's folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..backbones import load_tokenizer
from ..noise import nobody_watching
from ..tasks.baselines import baselines
from ..tasks.batches import answers_fit, warn_of_long_answers
from ..tasks.cache import CacheWarning, digest_of
from ..tasks.file_names import label_of
from ..tasks.prompts import check_form
from ..tasks.rows import SuiteWarning
from ..tasks.suite import load_suite
from .config import TrainConfig
from .evaluation import by_dataset, evaluate_rows, outcomes_frame
from .files import RunError, read_table, write_table
from .prepare import chosen_rows, embed_like_training, fitting_rows, load_frozen, weights_digest
from .run import Run
from .sweep.executors import check_workers, set_imports_aside, shared_pool
from .sweep.guard import UnguardedScript, refuse_unguarded

MEASURED = ("dataset", "group", "kind", "rows", "loss", "accuracy", "acc", "acc_norm")  # of `by_dataset`
LEVELS = ("dataset", "kind", "rows", "chance", "majority", "untrained", "untrained_loss")


def evaluate_on(run: Run, suite: str, rows_per_dataset: int | None = None) -> pd.DataFrame:
    """Accuracy and loss of a finished run on the test rows of `suite`; columns as in `Run.evaluation`.

    rows_per_dataset: the most rows per data set, the same for every run (None: all). The run's own suite is kept
    to the data sets that it trained on. The table stays in the run's folder as evaluation-<suite>-<digest of rows>
    and is read from there the next time; a folder that cannot be written is warned of (CacheWarning). Raises RunError
    for a run that is not finished, and for a user's own adapter that is not registered here, and ValueError for what is
    no run, for a suite without test rows, and for rows_per_dataset below 1.
    """
    _check_finished(run)
    rows = _rows(run.config, suite, rows_per_dataset)
    return _kept(_path(run, "evaluation", suite, rows), MEASURED, lambda: _evaluated(run, rows))


def levels_on(run: Run, suite: str, rows_per_dataset: int | None = None) -> pd.DataFrame:
    """What a score on the test rows of `suite` must beat: dataset, kind, rows, chance, majority, untrained,
    untrained_loss.

    chance, majority: of `tasks.baselines`. untrained, untrained_loss: accuracy and loss of the run's backbone without
    the adapter, which is the model at step 0 of every run on that backbone. Kept in the run's folder as levels-….
    For the rows that the run itself was evaluated on: `levels_on(run, run.config.suite, run.config.eval_rows)`.

    >>> levels_on(run, "embedded", 2)[["dataset", "rows", "majority"]]
                      dataset  rows  majority
    0               add_small     2       0.0
    1      add_small_one_over     2       0.5
    2                where_is     2       0.0
    3  where_is_one_step_late     2       0.0
    """
    _check_finished(run)
    rows = _rows(run.config, suite, rows_per_dataset)
    whole = load_suite(suite, datasets=_datasets(run.config, suite))
    # the constant of the majority rule is counted among all train rows, where there are some
    train = whole[whole["split"] == "train"]
    return _kept(_path(run, "levels", suite, rows, train), LEVELS, lambda: _levels(run, rows, train))


def score_backbone(config: TrainConfig) -> tuple[pd.DataFrame, str]:
    """How a configuration's backbone, without any adapter, answers the rows that its runs are tested on.

    The rows are those of its own suite, or held out of train, and of the suites to transfer to.

    Returns:
        Columns as of `Run.outcomes`, and the digest of the weights.

    Raises:
        ValueError: for a suite without rows, and for rows that the prompt form cannot express.

    >>> found, _ = score_backbone(ma.TrainConfig(eval_rows=2, datasets=["add_small"]))
    >>> found[["suite", "dataset"]].values.tolist()
    [['embedded', 'add_small'], ['embedded', 'add_small']]
    """
    tested = tested_rows(config)
    model, tokenizer = load_frozen(config)
    digest = weights_digest(model)
    return outcomes_frame({suite: _answered(config, model, tokenizer, rows) for suite, rows in tested.items()}), digest


def tested_rows(config: TrainConfig) -> dict[str, pd.DataFrame]:
    """The rows that runs of a configuration are tested on, by suite; raises ValueError as `score_backbone`."""
    frames, kept = fitting_rows(config, load_tokenizer(config.backbone))
    tested = {config.suite: "test"} | {suite: suite for suite in config.transfer_suites or ()}
    return {suite: frames[split][kept[split]] for suite, split in tested.items()}


def evaluate_all(
    runs: Run | Sequence[Run], suite: str, workers: int | None = None, rows_per_dataset: int | None = None
) -> list[pd.DataFrame]:
    """`evaluate_on` of every run, in their order; what is missing is computed in processes of one thread.

    workers: processes (default: the machine's cores). Runs that fail stop no other; they are named together at the
    end (RunError). Raises UnguardedScript in a script whose code does not stand under `if __name__ == "__main__":`, and
    ValueError for fewer than one worker.

    >>> tables = evaluate_all(runs[:2], "embedded_ood", rows_per_dataset=1)
    >>> len(tables), tables[0]["dataset"].nunique()
    (2, 10)
    """
    check_workers(workers)
    runs = [runs] if isinstance(runs, Run) else list(runs)
    for run in runs:
        _check_finished(run)
    missing, computed = [], dict[Path, pd.DataFrame]()
    rows_by_choice: dict[str, pd.DataFrame] = {}
    for run in runs:
        choice = str(_datasets(run.config, suite))
        if choice not in rows_by_choice:
            rows_by_choice[choice] = _rows(run.config, suite, rows_per_dataset)
        if _read(_path(run, "evaluation", suite, rows_by_choice[choice]), MEASURED) is None:
            missing.append((run, rows_by_choice[choice]))
    if missing:
        refuse_unguarded()
        for run, _ in missing:
            run.require_adapter()
        _embed_once(missing)
        _warn_once(missing)
        pool = shared_pool(workers or os.cpu_count() or 1)
        # what this process executes already, of a file or of a run's folder, the others may
        futures = {
            run.path: pool.submit(evaluate_alone, str(run.path), suite, rows_per_dataset, True) for run, _ in missing
        }
        failures = []
        for path, future in futures.items():
            try:
                computed[path] = future.result()
            except UnguardedScript:  # no run is to blame
                raise
            except Exception as error:  # an evaluation may fail in any way that torch or the disk can
                failures.append(f"  {path.name}: {type(error).__name__}: {error}")
        if failures:
            listed = "\n".join(failures)
            raise RunError(
                f"{len(failures)} of {len(futures)} evaluations on {suite!r} failed; the others were kept:\n{listed}"
            )
    return [computed[run.path] if run.path in computed else evaluate_on(run, suite, rows_per_dataset) for run in runs]


def evaluate_alone(path: str, suite: str, rows_per_dataset: int | None, trust_code: bool = False) -> pd.DataFrame:
    """`evaluate_on` in its own process, with a single thread and no output."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(1)
    set_imports_aside()
    with nobody_watching(said_before=SuiteWarning):
        run = Run.load(path)
        run.require_adapter(trust_code)
        return evaluate_on(run, suite, rows_per_dataset)


def _embed_once(missing: Sequence[tuple[Run, pd.DataFrame]]) -> None:
    """Put the prompts' embeddings into the cache with all cores at work, so that no process makes them with its one."""
    seen = set()
    for run, rows in missing:
        key = (run.config.embedder, id(rows))
        if run.clusters is not None and run.config.embedder != "tfidf" and key not in seen:
            seen.add(key)
            embed_like_training(run.config, rows["prompt"])


def _warn_once(missing: Sequence[tuple[Run, pd.DataFrame]]) -> None:
    """Say which rows no run can use here, because the processes that evaluate are silent."""
    for run, rows in {
        (run.config.backbone, run.config.max_length, run.config.form, id(rows)): (run, rows) for run, rows in missing
    }.values():
        with suppress(ValueError):  # raised again where that run is evaluated; the other runs are not affected
            _fitting(run, rows)


def _datasets(config: TrainConfig, suite: str) -> list[str] | None:
    return config.datasets if suite == config.suite else None


def _rows(config: TrainConfig, suite: str, rows_per_dataset: int | None) -> pd.DataFrame:
    if rows_per_dataset is not None and (not isinstance(rows_per_dataset, Integral) or rows_per_dataset < 1):
        raise ValueError(f"rows_per_dataset = {rows_per_dataset!r} must be at least 1, a whole number, or None for all")
    rows = chosen_rows(load_suite(suite, datasets=_datasets(config, suite)), "test", rows_per_dataset)
    if rows.empty:
        raise ValueError(f"suite = {suite!r} has no test rows to evaluate on; choose another suite")
    check_form(rows, config.form, suite)
    return rows


def _path(run: Run, kind: str, suite: str, *rows: pd.DataFrame) -> Path:
    """Where a table lies; rows that changed in any field get another file."""
    digest = digest_of(part.to_json(orient="records") for part in rows)
    return run.path / f"{kind}-{label_of(suite)}-{digest[:10]}.parquet"


def _kept(path: Path, columns: Sequence[str], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    if (table := _read(path, columns)) is None:
        table = compute()
        try:
            write_table(path, table)
        except OSError as error:
            warnings.warn(
                f"{path} cannot be written ({error.strerror or error}); it is computed every time until the "
                "folder is writable",
                CacheWarning,
                stacklevel=3,
            )
    return table


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    """The table on disk; None if there is none, or one that is damaged and is made again."""
    try:
        table = read_table(path, columns)
    except (RunError, OSError):
        return None
    return table if list(table.columns) == list(columns) else None


def _check_finished(run: Run) -> None:
    if not isinstance(run, Run):
        raise ValueError(f"run = {run!r} is not a run; pass ma.Run.load(path), or what ma.train gives")
    if not run.finished:
        raise RunError(
            f"run {run.id} is {run.status.get('state', 'not started')} and has no model to evaluate; "
            "train it to the end"
        )


def _fitting(run: Run, rows: pd.DataFrame) -> Any:
    """(rows,) True for rows whose answer fits the run's max_length; a warning counts the others."""
    kept = answers_fit(rows, run.tokenizer, run.config.max_length, run.config.form)
    if not kept.any():
        raise ValueError(
            f"no row has an answer shorter than max_length = {run.config.max_length} tokens, with which "
            f"{run.id} was trained; train with a larger one"
        )
    warn_of_long_answers(rows.loc[~kept, "dataset"], run.config.max_length)
    return kept


def _evaluated(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    kept = _fitting(run, rows)
    scores = run.intuition(rows)  # of all rows, because the embeddings are cached for the whole set
    scores = None if scores is None else scores[kept]
    return by_dataset(_answered(run.config, run.model(), run.tokenizer, rows[kept], scores))


def _answered(config: TrainConfig, model: Any, tokenizer: Any, rows: pd.DataFrame, scores: Any = None) -> pd.DataFrame:
    """`evaluate_rows` on this machine's device and in the numbers in which a run is tested while it trains."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = rows.reset_index(drop=True)
    with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"):
        return evaluate_rows(model.to(device), tokenizer, rows, scores, config.max_length, config.form)


def _levels(run: Run, rows: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    rows, model = rows[_fitting(run, rows)], run.model()
    with model.disable_adapter():
        untrained = by_dataset(_answered(run.config, model, run.tokenizer, rows))
    guesses = baselines(pd.concat([train, rows]))
    renamed = untrained.rename(columns={"accuracy": "untrained", "loss": "untrained_loss"})
    table = renamed.join(guesses, on="dataset")
    return table[list(LEVELS)]
