"""Scores out of a campaign's table of results: one row per run, or one row per run and data set."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...campaigns.campaign import FINAL, TUNE
from ...campaigns.chosen import best_configuration, chosen_finals, declared_choice
from ...campaigns.results import known_rows
from ...campaigns.row import BASE, to_beat
from ...campaigns.table import COLUMNS
from ...evidence import counted
from ...tasks.prompts import default_form
from .scores import OUTSIDE, PART_OF_ROLE, SCORE_COLUMNS

RUN = ["study", "stage", "system", "seed", "configuration", "run"]
# column of a table -> what one entry of its list is called; outcomes are bits, one per test row
PER_DATASET = {
    "suites": "suite",
    "datasets": "dataset",
    "rows": "rows",
    "rows_digests": "rows_digest",
    "losses": "loss",
    "correct": "correct",
    "correct_norm": "correct_norm",
}
TOLD = {"roles": "role", "chances": "chance", "majorities": "majority"}  # which older tables do not say
OUTCOMES = {"accuracy": "correct", "accuracy_norm": "correct_norm"}
MEANS = [*OUTCOMES, "loss"]
COMPACT = "compact"  # the backbone that ships here
TUNING_COLUMNS = ["method", "seed", "steps", "lr", "router_multiplier", "accuracy", "loss", "chosen"]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a table holds for a comparison.

    Args:
        scores: of the final runs, columns as of `scores`.
        tuning: one row per run of the tuning, by rows held out of train: method, seed, steps, lr, router_multiplier (the
            router's rate over lr), accuracy, loss, chosen (whether it is of the best configuration); empty where nothing
            was tuned or the table holds no configurations.
        held_out: of every system's best configuration on rows held out of train; None where nothing was tuned.
        levels: chance, majority and guess of every task; untrained is that of the table's base model, NaN where it
            holds none that was scored on the same rows.
        configs: method -> configuration of its final runs, the adapter as an object; empty where the table does not hold
            configurations.
        name: of the table.
        suite: that the systems were trained on.
        choose_by: what the tuning's choices are by.
        left_out: final runs and tasks that the scores lack, in words.
    """

    scores: pd.DataFrame
    tuning: pd.DataFrame
    held_out: pd.DataFrame | None
    levels: pd.DataFrame
    configs: dict[str, dict[str, Any]]
    name: str
    suite: str
    choose_by: str
    left_out: tuple[str, ...] = ()

    @property
    def adapters(self) -> dict[str, Any]:
        """Method -> PEFT configuration."""
        return {method: config["adapter"] for method, config in self.configs.items()}

    @property
    def backbone(self) -> str:
        """Its name; empty where unknown."""
        return next((str(config["backbone"]) for config in self.configs.values()), "")

    @property
    def sample(self) -> str:
        """What was measured, in words, and what was left out."""
        return "; ".join([sample_of(self.scores, self.configs, self.suite), *self.left_out])

    def only(self, methods: Collection[str]) -> Stored:
        """The same with the final runs of these methods alone."""
        configs = {method: config for method, config in self.configs.items() if method in methods}
        return replace(self, scores=self.scores[self.scores["method"].isin(methods)], configs=configs)

    def sample_for(self, methods: Collection[str]) -> str:
        """`sample` of a figure that shows only these methods."""
        return self.only(methods).sample


def stored_scores(table: str | Path | pd.DataFrame, measure: str = "accuracy", choose_by: str | None = None) -> Stored:
    """Read a campaign's table.

    Final runs of configurations that the tuning did not choose are left out, and named in `sample`.

    Args:
        table: path of a .parquet file or a study's name, its frame, or the frame with one row per run and data set that
            `results` of a campaign gives.
        measure: "accuracy", or "accuracy_norm", which ranks choices by the likelihood of a character.
        choose_by: "accuracy", "accuracy_norm" or "loss": what the campaign chose its cells by; None for what the file of
            the shipped campaign says, accuracy where the study has none.

    Raises:
        ResultsError: there is no such table, or it is damaged or of another schema.
        ValueError: for a table without final runs, a system of several configurations of which the tuning chose none,
            or systems that were tested on different rows.
    """
    if measure not in OUTCOMES:
        raise ValueError(f"measure = {measure!r} is unknown; choose one of {', '.join(OUTCOMES)}")
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(known_rows(table), columns=COLUMNS.names)
    name = str(frame["study"].iloc[0]) if isinstance(table, pd.DataFrame) and len(frame) else Path(str(table)).name
    if choose_by is None:
        choose_by = declared_choice(str(frame["study"].iloc[0])) if len(frame) else "accuracy"
    frame, told, best = of_chosen(frame, choose_by)
    configs = known_configs(frame)
    lines = per_dataset(frame).rename(columns={"system": "method"})
    lines = lines.assign(accuracy=lines[measure])
    tuning = tuning_of(frame, lines, best)
    lines = lines[(lines["stage"] != TUNE) | lines["configuration"].isin(best)]
    final, tune, base = (lines[lines["stage"] == stage] for stage in (FINAL, TUNE, BASE))
    check_final(final, name, told)
    suite, final = str(final["suite"].iloc[0]), told_levels(final)
    roles = final[final["suite"] == suite].drop_duplicates("dataset").set_index("dataset")["role"].map(PART_OF_ROLE)
    final, tune = (
        own.assign(part=own["dataset"].map(roles).where(own["suite"] == suite, OUTSIDE)) for own in (final, tune)
    )
    return Stored(
        scores=final[SCORE_COLUMNS].reset_index(drop=True),
        tuning=tuning,
        held_out=tune if len(tune) else None,
        levels=levels_of(final, base),
        configs=configs,
        name=name,
        suite=suite,
        choose_by=choose_by,
        left_out=tuple(told),
    )


def pretrained_scores(table: str | Path | pd.DataFrame, measure: str, choose_by: str | None, instead: str) -> Stored:
    """`stored_scores` of a campaign on a pretrained language model.

    Args:
        table, measure, choose_by: as of `stored_scores`.
        instead: the function that takes a table on another backbone, such as "ma.studies.systems.measure_table".

    Raises:
        ValueError: for a table of runs on the compact backbone, which is not pretrained on language.
    """
    found = stored_scores(table, measure, choose_by)
    if found.backbone == COMPACT:
        raise ValueError(
            f"{found.name} holds runs on the backbone {COMPACT!r}, which is no pretrained language model; for it use "
            f"{instead}"
        )
    return found


def of_chosen(frame: pd.DataFrame, choose_by: str) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The frame without final runs of configurations that were not chosen, where it holds configurations; what it
    lost, in words; and each system's best configuration on rows held out of train, as a campaign chooses it."""
    told: list[str] = []
    runs = per_dataset(frame).groupby(RUN, sort=False)[MEANS].mean().reset_index()
    known = "config" in frame and "dataset" not in frame
    if known:
        runs = runs.merge(frame[["run", "stage", "configuration", "config"]], on=["run", "stage", "configuration"])
        runs, told = chosen_finals(runs, choose_by)
        frame = frame[frame["run"].isin(runs["run"])]
    final = runs[runs["stage"] == FINAL]
    best = [
        best_configuration(tune, choose_by, final[final["system"] == system] if known else None)
        for system, tune in runs[runs["stage"] == TUNE].groupby("system", sort=False)
    ]
    return frame, told, best


def per_dataset(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run and data set; a frame that is so already stays."""
    if "dataset" in frame:
        return frame
    if missing := [column for column in (*RUN, *PER_DATASET) if column not in frame]:
        raise ValueError(f"the table lacks {', '.join(missing)}; pass a campaign's table of results")
    names = PER_DATASET | {name: one for name, one in TOLD.items() if name in frame}
    lines = frame[[*RUN, *names]].explode(list(names), ignore_index=True).rename(columns=names)
    for measure, outcome in OUTCOMES.items():
        lines[measure] = [
            np.unpackbits(np.frombuffer(packed, np.uint8), count=int(count)).mean()
            for packed, count in zip(lines[outcome], lines["rows"])
        ]
    return lines.astype({"rows": int, "loss": float})


def known_configs(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """System -> its configuration in the final runs, the adapter as an object; {} where the frame holds none."""
    if "config" not in frame:
        return {}
    from ...training.adapter_source import read_adapter

    final = frame[frame["stage"] == FINAL].drop_duplicates("system")
    found = {}
    for system, config in zip(final["system"], final["config"]):
        values = json.loads(config) if isinstance(config, str) else config
        if "adapter" in values:
            found[str(system)] = {**values, "adapter": read_adapter(values["adapter"])}
    return found


def check_final(final: pd.DataFrame, name: str, told: list[str]) -> None:
    if final.empty:
        left_out = f" that counts ({'; '.join(told)})" if told else ""
        raise ValueError(
            f"{name} has no final run{left_out}; finish the campaign, pass another table or what its tuning chose by"
        )
    cells = final.groupby("method", sort=False)["configuration"].unique()
    if several := [method for method, found in cells.items() if len(found) > 1]:
        raise ValueError(
            f"{several[0]!r} has the final configurations {', '.join(cells[several[0]])}; pass the rows of one of them"
        )
    for (suite, dataset), digests in final.groupby(["suite", "dataset"], sort=False)["rows_digest"]:
        if digests.nunique() > 1:
            raise ValueError(f"data set {dataset!r} of {suite} was tested on different rows; compare runs of one kind")


def tuning_of(frame: pd.DataFrame, lines: pd.DataFrame, best: list[str]) -> pd.DataFrame:
    """The whole grid of every system, columns as of `Stored.tuning`; accuracy and loss are means over data sets."""
    if "config" not in frame:
        return pd.DataFrame(columns=TUNING_COLUMNS)
    runs = frame.loc[frame["stage"] == TUNE, ["run", "config"]].drop_duplicates("run")
    configs = {run: json.loads(one) if isinstance(one, str) else one for run, one in zip(runs["run"], runs["config"])}
    tune = lines[lines["stage"] == TUNE]
    means = tune.groupby(["method", "seed", "configuration", "run"], sort=False)[["accuracy", "loss"]].mean()
    found = means.reset_index()
    steps = [int(configs[run]["steps"]) for run in found["run"]]
    lr = np.array([float(configs[run]["lr"]) for run in found["run"]])
    router = np.array([float(configs[run]["router_lr"] or configs[run]["lr"]) for run in found["run"]])
    multiplier, chosen = (router / lr).round(6), found["configuration"].isin(best)
    return found.assign(steps=steps, lr=lr, router_multiplier=multiplier, chosen=chosen)[TUNING_COLUMNS]


def told_levels(lines: pd.DataFrame) -> pd.DataFrame:
    """With role, chance and majority of every data set; where a table does not say them, its suite must be there."""
    if set(TOLD.values()) <= set(lines) and lines["role"].ne("").all():
        return lines.astype({"chance": float, "majority": float})
    found = [
        (suite, dataset, *values)
        for suite, own in lines.groupby("suite", sort=False)
        for dataset, values in to_beat(str(suite), own["dataset"].unique()).items()
    ]
    told = pd.DataFrame(found, columns=["suite", "dataset", *TOLD.values()])
    return lines.drop(columns=TOLD.values(), errors="ignore").merge(told, on=["suite", "dataset"], how="left")


def levels_of(final: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """Columns as of `scores.levels`; untrained is the base model on the very rows that the systems were tested on."""
    table = final.drop_duplicates(["suite", "dataset"])
    table = table[["part", "suite", "dataset", "rows_digest", "chance", "majority"]].reset_index(drop=True)
    scored = base.drop_duplicates(["suite", "dataset", "rows_digest"])[
        ["suite", "dataset", "rows_digest", "accuracy", "loss"]
    ].rename(columns={"accuracy": "untrained", "loss": "untrained_loss"})
    table = table.merge(scored, on=["suite", "dataset", "rows_digest"], how="left")
    table["chance"] = table["chance"].fillna(0.0)
    return table.assign(guess=table[["chance", "majority"]].max(axis=1))[
        ["part", "dataset", "chance", "majority", "guess", "untrained", "untrained_loss"]
    ]


def sample_of(scores: pd.DataFrame, configs: dict[str, dict[str, Any]], suite: str) -> str:
    """ "72 runs of 8 seeds, 1000 steps each, backbone compact, suite embedded, prompt form options"; what is unknown is
    left out."""
    seeds = scores.groupby("method")["seed"].nunique()
    steps, backbones = (
        list(dict.fromkeys(str(config[name]) for config in configs.values() if name in config))
        for name in ("steps", "backbone")
    )
    parts = [f"{counted(int(seeds.sum()), 'run')} of {counted(seeds, 'seed')}"]
    parts += [f"{', '.join(steps)} steps each"] * bool(steps)
    parts += [f"backbone {', '.join(Path(one).name for one in backbones)}"] * bool(backbones)
    parts.append(f"suite {Path(suite).name}")
    forms = list(dict.fromkeys(form_of(config) for config in configs.values() if "backbone" in config))
    parts += [f"prompt form {', '.join(forms)}"] * bool(forms)
    return ", ".join(parts)


def form_of(config: dict[str, Any]) -> str:
    """The form in which rows were put before the model, where the configuration leaves it to the backbone too."""
    return str(config.get("prompt_form") or default_form(config["backbone"]))
