"""A run as a card in a notebook, and as a line of text; the card marks parts that are missing or damaged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..cards.charts import Curve, bars, beside, curves
from ..cards.in_words import counted
from ..cards.templates import cell_html
from ..tasks.baselines import baselines
from ..tasks.suite import HUB, load_suite
from .choices import TYPE, choices
from .config import TrainConfig
from .files import FAILED, FAILURE, FINISHED, RUNNING, RunError, last_line, state_of
from .progress import read_live
from .recorders.store import RecordError
from .run_folder import DAMAGED, saved_parameters

HERE = Path(__file__).parent
BADGES = {FINISHED: ("yes", "✓"), RUNNING: ("open", "…"), FAILED: ("no", "✗"), DAMAGED: ("no", "✗")}
NEW = "not started"
MODULES = 6  # whose experts are drawn
EXPERTS = 64  # of a module that are drawn
LAST = 10  # records whose mean load is drawn
FEW = 20  # evaluations that are drawn as points
LOAD, GATE = "gate_load", "gate_importance"
ALL = 0.999  # a load: no choice was made
NO_LOSSES: dict[str, Any] = {"loss": "", "legend": []}
NO_LOADS: dict[str, Any] = {
    "loads": {},
    "more_loads": 0,
    "load_note": "",
    "no_loads": "There is no record of experts; train an adapter with a router and record_every >= 1 to get one.",
}
FAULTS = (RunError, RecordError, OSError, ValueError)


def state_in_words(run: Any) -> tuple[str, str]:
    """The state, as in `runs`, and the same for a reader: "interrupted at step 120 of 300"."""
    status = run.status
    state, step = state_of(run.path, status), status.get("step", 0)
    if state == FINISHED:
        return state, f"finished, {run.config.steps} steps"
    if not status and state != FAILED and state != RUNNING:
        return state, NEW
    words = {RUNNING: "running, step", FAILED: "failed at step"}.get(state, "interrupted at step")
    return state, f"{words} {step} of {run.config.steps}"


def run_text(run: Any) -> str:
    """Such as "Run(trex-embedded-s0-6a35c09d3e: finished, 300 steps, test loss 0.412, accuracy 0.713)"."""
    try:
        parts = [state_in_words(run)[1]]
        if run.finished:
            mean = run.evaluation[["loss", "accuracy"]].mean()
            parts.append(f"test loss {mean['loss']:.3f}, accuracy {mean['accuracy']:.3f}")
    except FAULTS as error:
        parts = [f"damaged: {error}"]
    return f"Run({run.id}: {', '.join(parts)})"


class Parts:
    """The parts of a card; one that cannot be read is replaced, and its error is kept in `faults`."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.faults: list[str] = []

    def part(self, read: Callable[[Any], Any], otherwise: Any) -> Any:
        try:
            return read(self.run)
        except FAULTS as error:
            self.faults.append(str(error))
            return otherwise


def run_html(run: Any) -> str:
    """The card: state, choices, loss, expert load, accuracy compared with guessing, and the line that opens the run."""
    parts = Parts(run)
    state, words = parts.part(state_in_words, (DAMAGED, DAMAGED))
    if state == FAILED:
        parts.faults.append(parts.part(lambda run: last_line(run.path / FAILURE), "it failed"))
    done = state == FINISHED
    guesses = guessing(run.config) if done else None
    rows = parts.part(lambda run: scores(run.evaluation, guesses), []) if done else []
    return cell_html(
        "run_card.html",
        HERE,
        title=run.id,
        badge=(*BADGES.get(state, ("open", "◐")), words),
        facts=parts.part(facts, ""),
        chosen=[shown_choice(choice) for choice in choices(run.config)],
        **parts.part(losses if done else losses_so_far, NO_LOSSES),
        no_loss="No loss could be read." if done else "No loss has been logged yet.",
        **load_parts(parts),
        scores=rows,
        no_scores="No evaluation could be read." if done else "The run is evaluated when it is finished.",
        no_guess=""
        if guesses is not None
        else f"The suite {run.config.suite} is not here, so the accuracy of guessing is unknown.",
        opens=f"run = ma.Run.load({str(run.path)!r})",
        faults=parts.faults,
    )


def attached_html(run: Any) -> str:
    """The card of a recorded loop: what was attached, the losses that were logged, and the load of its experts."""
    parts, config = Parts(run), run.config
    records = parts.part(lambda run: run.records.sizes.get("step", 0), 0)
    return cell_html(
        "run_card.html",
        HERE,
        title=f"{config.name}, a recorded loop",
        badge=("open" if parts.faults else "yes", "●", counted(records, "record")),
        facts=f"{config.system}, {config.optimizer or 'optimizer unknown'}, seed {config.seed}, every {config.every}",
        chosen=None,
        **(parts.part(losses, NO_LOSSES) if records else NO_LOSSES),
        no_loss="No loss was logged.",
        **(load_parts(parts) if records else NO_LOADS),
        scores=None,
        opens=f"run = ma.AttachedRun.load({str(run.path)!r})",
        faults=parts.faults,
    )


def facts(run: Any) -> str:
    """System, seconds and size, as far as they are known."""
    status, parameters = run.status, saved_parameters(run.path)
    known = [
        run.config.system,
        f"{status['seconds']:.0f} s" if "seconds" in status else "",
        f"{parameters:,} trained parameters".replace(",", " ") if parameters is not None else "",
        status.get("machine", ""),
    ]
    return ", ".join(part for part in known if part)


def shown_choice(choice: Any) -> dict[str, str]:
    if choice.field == TYPE or choice.default is MISSING or choice.default is None:
        default = ""
    else:
        default = f"default {text(choice.default)}"
    return {"field": choice.field, "value": text(choice.value), "default": default}


def text(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def losses(run: Any) -> dict[str, Any]:
    """The drawn curves of training and test loss, and their names."""
    drawn = []
    for split, rows in run.history.groupby("split", sort=False):
        if np.isfinite(rows["loss"]).any():
            kind = "points" if split == "test" and len(rows) < FEW else "line"
            drawn.append(Curve(str(split), rows["step"].tolist(), rows["loss"].tolist(), kind))
    drawn.sort(key=lambda curve: curve.name != "train")
    return {"loss": curves(drawn, "loss"), "legend": [curve.name for curve in drawn]}


def losses_so_far(run: Any) -> dict[str, Any]:
    """As `losses` of a run whose history is not written yet: the means that it logs while it trains."""
    live = read_live(run.path)
    points = [] if live is None else [point for point in live.points if np.isfinite(point.loss)]
    if not points:
        return NO_LOSSES
    drawn = Curve("train", [point.step for point in points], [point.loss for point in points])
    return {"loss": curves([drawn], "loss"), "legend": ["train, so far"]}


def load_parts(parts: Parts) -> dict[str, Any]:
    drawn, count, note = parts.part(loads, ({}, 0, ""))
    if not drawn:
        return NO_LOADS
    return {"loads": drawn, "more_loads": count - len(drawn), "load_note": note, "no_loads": ""}


def loads(run: Any) -> tuple[dict[str, Any], int, str]:
    """({module: drawn bars}, modules, what the bars are); empty for a run without a record."""
    if not (run.path / "records.zarr").is_dir():
        return {}, 0, ""
    records = run.records
    found, what = last_means(records, LOAD), "share of tokens that use each expert"
    if found and all(np.all(shares > ALL) for shares in found.values()):
        found, what = last_means(records, GATE), "every token uses every expert: the mean gate of each"
    if not found:
        return {}, 0, ""
    chosen = [list(found)[place] for place in np.unique(np.linspace(0, len(found) - 1, MODULES).round().astype(int))]
    steps = min(LAST, records.sizes["step"])
    note = f"{what}, mean of the last {counted(steps, 'record')}; dashed: equal shares"
    return {module: drawn_load(module, found[module]) for module in chosen}, len(found), note


def last_means(records: Any, name: str) -> dict[str, np.ndarray]:
    """{module: (experts,)}: means over the last records of arrays that begin with a name; routers of several shapes
    have one each."""
    found: dict[str, np.ndarray] = {}
    for array in sorted(str(array) for array in records if str(array).startswith(name)):
        last = records[array].isel(step=slice(-LAST, None))
        if last.sizes["step"]:
            module, _ = last.dims[1:]
            means = last.mean("step").values  # (module, expert)
            found |= dict(zip(last[module].values.tolist(), means))
    return found


def drawn_load(module: str, shares: np.ndarray) -> Any:
    known = shares[np.isfinite(shares)]
    even = float(known.mean()) if len(known) else 0.0
    return bars(shares[:EXPERTS].tolist(), even, f"load of the experts of {module}")


def scores(evaluation: pd.DataFrame, guesses: pd.DataFrame | None) -> list[dict[str, Any]]:
    """A row for each data set, compared with guessing, and then their mean."""
    table = evaluation[["dataset", "rows", "accuracy", "loss"]]
    table = table.join(guesses, on="dataset") if guesses is not None else table.assign(chance=np.nan, majority=np.nan)
    table = table.assign(guess=table[["chance", "majority"]].max(axis=1))
    mean = table.mean(numeric_only=True).to_dict() | {"dataset": "mean", "rows": int(table["rows"].sum())}
    if table["chance"].isna().any():  # of other data sets than the accuracy next to it
        mean["chance"] = np.nan
    shown = []
    for row in [*table.to_dict("records"), mean]:
        names = ("accuracy", "chance", "majority", "loss", "guess")
        told = {name: "–" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in names}
        bar = beside(float(row["accuracy"]), float(row["guess"]))
        shown.append({"dataset": row["dataset"], "rows": int(row["rows"]), "bar": bar, **told})
    return shown


def guessing(config: TrainConfig) -> pd.DataFrame | None:
    """chance and majority of the rows that a run was evaluated on, by data set; None if its suite is not here."""
    from .prepare import run_rows

    if config.suite.startswith(HUB):  # a card asks for no network
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluated = run_rows(replace(config, transfer_suites=None))["test"].assign(split="test")
            whole = load_suite(config.suite, datasets=config.datasets)
    except (ValueError, OSError):
        return None
    # the constant of the majority rule is counted among all train rows
    return baselines(pd.concat([whole[whole["split"] == "train"], evaluated]))
