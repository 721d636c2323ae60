"""Running a campaign: a sweep trains its stages, and every finished run goes into the table at once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import unwritable
from ..training.config import TrainConfig
from ..training.files import RunError
from ..training.prepare import load_frozen, weights_digest
from ..training.run import Run
from ..training.sweep.running import refuse_call, refuse_to_train, refuse_unwritable, sweep
from ..training.sweep.work import FAILED, FINISHED, OnChange, Outcome, TimeLimit, failure, keep_failure
from .campaign import FINAL, TUNE, Campaign
from .row import (
    BASE,
    Difference,
    base_row,
    configuration_digest,
    diverged_row,
    identity,
    planned_row,
    row_of,
    tested_alike,
)
from .table import ResultsError, Row, add_rows, key_of, read_rows, refuse_mixture
from .tuning import chosen_cells

Part = tuple[int, int]  # (k, n): every n-th run, from the k-th on
# shows the runs of a stage while they are trained: (stage, runs to be trained, of how many)
Watch = Callable[[str, Sequence[TrainConfig], int], AbstractContextManager[OnChange]]


@dataclass
class CampaignRun:
    """What a campaign has come to: failures by run name; runs that its time did not suffice for; systems whose tuning
    is not complete, so that they have no final runs; runs that could not be put into the table, with the reason (they
    are kept in their folders); rows of the table that came out otherwise a second time."""

    failures: dict[str, Outcome] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    untuned: list[str] = field(default_factory=list)
    unwritten: dict[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


class Ledger:
    """A campaign's table, and the folder of runs that is put into it."""

    def __init__(self, campaign: Campaign, table: Path, out: Path, told: CampaignRun) -> None:
        self.campaign, self.table, self.out, self.told = campaign, table, out, told
        self.read()

    def read(self) -> list[Row]:
        rows = read_rows(self.table)
        self.keys = {key_of(row) for row in rows}
        return rows

    def missing(self, configs: Sequence[TrainConfig]) -> list[TrainConfig]:
        """Those of the runs that the table does not have, whatever lies in the folder."""
        self.read()
        return [config for config in configs if (configuration_digest(config), config.seed) not in self.keys]

    def enter(self, stage: str, config: TrainConfig, diverged: bool = False) -> None:
        """Add a finished run, one that diverged, or the base model to the table, and report what could not be added."""
        run = Run(self.out / config.run_name, config)
        study = self.campaign.study
        try:
            if stage == BASE:
                row = base_row(config, study)
            else:
                row = (diverged_row if diverged else row_of)(run, study, stage)
            self.told.differences += add_rows(self.table, [row])
        except (OSError, ResultsError, RunError) as error:
            self.told.unwritten[run.id] = str(error)
        else:
            self.told.unwritten.pop(run.id, None)

    def enter_finished(self, stage: str, configs: Sequence[TrainConfig]) -> None:
        """Add runs that finished unseen to the table: another process trained them, or was killed after them."""
        for config in self.missing(configs):
            with suppress(RunError):  # of a damaged status.json, which the sweep reports as a failure of this run
                if Run(self.out / config.run_name, config).finished:
                    self.enter(stage, config)


def run_campaign(
    campaign: Campaign,
    table: str | Path,
    out: str | Path,
    watch: Watch,
    executor: Any = None,
    workers: int | None = None,
    per_job: int = 1,
    time_limit: float | None = None,
    part: Part = (1, 1),
) -> CampaignRun:
    """Score the base model and train the campaign's missing runs in order; every finished run enters the table at once.

    Args:
        campaign: as `campaigns.read_campaign` reads it.
        table: the Parquet file of results, created if missing.
        out: folder of the runs; what is in the table need not be there any more.
        watch: shows the runs of a stage; the context gives a function that is called for every run that ended.
        executor, workers, per_job: as for `sweep`.
        time_limit: seconds, as for `sweep`, of all stages together.
        part: (k, n) for every n-th run from the k-th on: machines without a shared disk divide a campaign so, and merge
            their tables between the stages.

    Returns:
        What failed, what is left, what could not be written.

    Raises:
        ResultsError: before anything is trained, for a table that is damaged, of another schema, or of other test rows
            or weights than those here.
        ValueError: as for `sweep`, before the base model is scored.
    """
    if not 1 <= part[0] <= part[1]:
        raise ValueError(f"part = {part} must be (k, n) with k from 1 to n")
    refuse_call(executor, workers, per_job, time_limit)
    limit, told = TimeLimit(time_limit), CampaignRun()
    ledger = Ledger(campaign, Path(table), Path(out), told)
    runs = open_runs(ledger, part)
    if (runs or ledger.missing([campaign.base_config()])) and (reason := unwritable(ledger.table.parent)):
        raise ResultsError(f"{table} cannot be written ({reason}); pass another folder of results")
    if runs:
        refuse_to_train(runs, executor)
        refuse_unwritable(ledger.out)
        refuse_other_data(ledger, runs)
    score_base(ledger, watch, limit, part)
    for stage in (TUNE, FINAL):
        configs = configs_of(campaign, stage, ledger, told)
        mine = configs[part[0] - 1 :: part[1]]
        ledger.enter_finished(stage, mine)
        missing = ledger.missing(mine)
        if limit.ended:
            told.left += [config.run_name for config in missing]
        elif missing:
            train_stage(stage, missing, len(mine), ledger, watch, limit, (executor, workers, per_job))
        if told.left:
            break
    return told


def open_runs(ledger: Ledger, part: Part) -> list[TrainConfig]:
    """The runs that this machine will train; of systems that are not tuned yet, each that the tuning may choose."""
    campaign, rows = ledger.campaign, ledger.read()
    chosen = chosen_cells(campaign, rows)
    untuned = [
        campaign.config(FINAL, label, cell, campaign.final.seeds[0])
        for label in campaign.systems
        if label not in chosen
        for cell in campaign.cells()
    ]
    stages = (campaign.tuning_configs(), campaign.final_configs(chosen))
    mine = [config for configs in stages for config in configs[part[0] - 1 :: part[1]]]
    return ledger.missing([*mine, *untuned])


def refuse_other_data(ledger: Ledger, runs: Sequence[TrainConfig]) -> None:
    """Raise ResultsError for runs that will be tested on other rows, or trained from other weights, than the table's.

    The backbone is loaded once if the table says what its weights were.
    """
    known: dict[str, bool] = {}  # what runs were tested alike by, and whether the table says their weights
    for row in ledger.read():
        known[tested_alike(row)] = known.get(tested_alike(row), False) or bool(row["backbone_sha256"])
    planned: dict[str, Row] = {}
    digests: dict[tuple[str, str], str] = {}
    for config in runs:
        alike = tested_alike(identity(config, "", ""))
        if alike in planned or alike not in known:
            continue
        weights = config.backbone, config.precision
        if known[alike] and weights not in digests:
            digests[weights] = weights_digest(load_frozen(config)[0])
        planned[alike] = planned_row(config, digests[weights] if known[alike] else "")
    refuse_mixture(ledger.table, [*ledger.read(), *planned.values()])


def score_base(ledger: Ledger, watch: Watch, limit: TimeLimit, part: Part) -> None:
    """Test the backbone as it is on the rows of the final runs, unless the table has that; the first machine does."""
    config, told = ledger.campaign.base_config(), ledger.told
    if part[0] != 1 or not ledger.missing([config]):
        return
    if limit.ended:
        told.left.append(config.run_name)
        return
    with watch(BASE, [config], 1) as tell:
        try:
            ledger.enter(BASE, config)
            outcome = Outcome(FINISHED)
        except Exception as error:  # as a run's, which stops no other
            outcome = told.failures[config.run_name] = failure(error, traceback.format_exc())
            keep_failure(config, ledger.out, outcome)
        tell(config.run_name, outcome)


def configs_of(campaign: Campaign, stage: str, ledger: Ledger, told: CampaignRun) -> list[TrainConfig]:
    """The runs of a stage; the final ones are those of the systems whose tuning the table has as a whole."""
    if stage == TUNE:
        return campaign.tuning_configs()
    chosen = chosen_cells(campaign, ledger.read())
    told.untuned = [label for label in campaign.systems if label not in chosen]
    return campaign.final_configs(chosen)


def train_stage(
    stage: str,
    missing: Sequence[TrainConfig],
    count: int,
    ledger: Ledger,
    watch: Watch,
    limit: TimeLimit,
    how: tuple[Any, int | None, int],
) -> None:
    by_name, told = {config.run_name: config for config in missing}, ledger.told
    executor, workers, per_job = how
    with watch(stage, missing, count) as tell:

        def ended(name: str, outcome: Outcome) -> None:
            if outcome.state == FINISHED or has_diverged(outcome):
                ledger.enter(stage, by_name[name], has_diverged(outcome))
            tell(name, outcome)

        seconds = None if limit.seconds is None else limit.left
        done = sweep(missing, ledger.out, executor, workers, ended, per_job, seconds, progress=False)
    told.failures |= {name: outcome for name, outcome in done.failures.items() if not has_diverged(outcome)}
    told.left += done.left
    for name in list(told.unwritten):
        if name in by_name:
            ledger.enter(stage, by_name[name], has_diverged(done.failures.get(name)))


def has_diverged(outcome: Outcome | None) -> bool:
    """Whether a run ended because its numbers were no longer finite, as `optim.RiemannianSGD` reports."""
    return outcome is not None and outcome.state == FAILED and outcome.error.startswith(FloatingPointError.__name__)
