"""What a campaign compares: declared parts of the data sets, without those that could show no difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from ..tasks import load_suite
from ..tasks.baselines import baselines
from ..tasks.rows import SuiteError
from ..tasks.suite import HUB, suite_folder, task_roles
from ..training.files import wrong_type
from ..training.sweep.grid import values_of
from .campaign import BASE_MODEL, FINAL, TUNE, Campaign, CampaignError, Cell
from .row import configuration_digest, unpacked
from .table import Key, Row, key_of
from .tuning import chosen_cells, tuning_table

KINDS = {"role": str, "datasets": list[str], "suite": str}
NO_SEED = -1
COLUMNS = {"accuracy": "correct", "accuracy_norm": "correct_norm"}


def check_endpoints(campaign: Campaign, rows: Iterable[Row] = ()) -> None:
    """Raise CampaignError for endpoints that name what the campaign does not have, or a data set in two of them.

    rows: as of `members`.
    """
    said = campaign.endpoints
    if said.measure not in COLUMNS:
        raise CampaignError(f"endpoints: measure = {said.measure!r} is unknown; choose one of {', '.join(COLUMNS)}")
    if unknown := [label for label in said.references if label not in campaign.systems]:
        raise CampaignError(
            f"endpoints: references has {unknown[0]!r}, which is not a system; choose from {', '.join(campaign.systems)}"
        )
    if bool(said.references) != ((said.floor, said.ceiling) != (None, None)):
        raise CampaignError(
            "endpoints: references work only together with floor or ceiling; give both, or omit both to keep all tasks"
        )
    if said.references and campaign.tune is None:
        raise CampaignError(
            "endpoints: references are judged on the held-out rows of tune, but tune is missing; add it"
        )
    floor, ceiling = said.bounds
    if not 0.0 <= floor < ceiling <= 1.0:
        raise CampaignError(
            f"endpoints: floor = {floor}, ceiling = {ceiling}; give shares from 0 to 1, floor below ceiling"
        )
    if not said.parts:
        raise CampaignError("endpoints: parts is empty; name one, such as all: {role: task}")
    seen: dict[tuple[str, str], str] = {}
    for name, suite, dataset in members(campaign, rows):
        if (twin := seen.setdefault((suite, dataset), name)) != name:
            raise CampaignError(f"endpoints: {dataset} is in {twin} and in {name}; put it into one part only")


def members(campaign: Campaign, rows: Iterable[Row] = ()) -> Iterator[tuple[str, str, str]]:
    """(part, suite, data set) of everything that the endpoints name; raises CampaignError for an unknown one.

    rows: of the campaign's table, which say the data sets and roles of a suite that is not here.
    """
    rows = list(rows)
    config = campaign.config(FINAL, next(iter(campaign.systems)), campaign.cells()[0], campaign.final.seeds[0])
    roles = levels_of(config.suite, rows, config.datasets)["role"]
    for name, part in campaign.endpoints.parts.items():
        if not isinstance(part, Mapping) or len(part) != 1 or (kind := next(iter(part))) not in KINDS:
            raise CampaignError(f"endpoints: parts: {name} = {part!r} is not a part; give one of {', '.join(KINDS)}")
        if fault := wrong_type(part, KINDS, f"endpoints: parts: {name}: "):
            raise CampaignError(f"{fault}; correct it")
        value, suite = part[kind], config.suite
        if kind == "suite":
            if value not in (config.transfer_suites or ()):
                raise CampaignError(
                    f"endpoints: parts: {name}: suite = {value!r} is not a suite that the final runs are tested on; add "
                    "it to final: changes: transfer_suites"
                )
            suite, found = value, list(levels_of(value, rows).index)
        else:
            place = f"endpoints: parts: {name}: datasets"
            wanted = roles.index[roles == value] if kind == "role" else values_of(value, place)
            if unknown := sorted(set(wanted) - set(roles.index)):
                raise CampaignError(f"endpoints: parts: {name}: {unknown[0]!r} is not a data set of {config.suite}")
            found = list(wanted)
        if not found:
            raise CampaignError(
                f"endpoints: parts: {name}: no data set of {config.suite} has {kind} = {value!r}; there are "
                f"{', '.join(sorted(set(roles)))}"
            )
        yield from ((name, suite, dataset) for dataset in found)


def levels_of(suite: str, rows: Iterable[Row], datasets: list[str] | None = None) -> pd.DataFrame:
    """role, chance and majority of the data sets of a suite, by name.

    Args:
        suite: its name or folder.
        rows: of a campaign's table; where the suite is not here, they say what was stored when it was.
        datasets: the names that are kept; None keeps all.

    Raises:
        SuiteError: for a suite that is neither here nor in the rows.
    """
    if not is_here(suite) and len(told := told_levels(suite, rows)):
        return told if datasets is None else told[told.index.isin(datasets)]
    frame = load_suite(suite, datasets=datasets)
    return baselines(frame)[["chance", "majority"]].assign(role=task_roles(suite, frame))


def is_here(suite: str) -> bool:
    """Whether a suite's data can be read."""
    try:
        return bool(str(suite).startswith(HUB) or suite_folder(suite))
    except SuiteError:
        return False


def told_levels(suite: str, rows: Iterable[Row]) -> pd.DataFrame:
    """As `levels_of`, from rows alone; empty where the table is older than these columns."""
    found = {
        dataset: (chance, majority, role)
        for row in rows
        for name, dataset, role, chance, majority in zip(
            row["suites"], row["datasets"], row["roles"], row["chances"], row["majorities"]
        )
        if name == suite and role
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["chance", "majority", "role"])


def strongest_reference(campaign: Campaign, rows: Iterable[Row]) -> str | None:
    """The reference whose chosen cell is best on the held-out rows; None while one of them is not tuned to its end."""
    table = tuning_table(campaign, rows)
    if not campaign.endpoints.references:
        return None
    best = table[table["chosen"] & table["system"].isin(campaign.endpoints.references)].set_index("system")
    if len(best) < len(campaign.endpoints.references):
        return None
    return str(best[campaign.endpoints.measure].idxmax())


def task_table(campaign: Campaign, rows: Iterable[Row]) -> pd.DataFrame:
    """Every data set of the endpoints and whether it counts.

    Args:
        campaign: its endpoints hold the rule.
        rows: of its table.

    Returns:
        part, suite, dataset, guess (the better of chance and majority), reference (the accuracy of the strongest
        reference on rows held out of train; NaN if there are none, as of suites to transfer to, whose tasks all
        count, and while the tuning is not complete), kept.
    """
    rows, (floor, ceiling) = list(rows), campaign.endpoints.bounds
    label = strongest_reference(campaign, rows)
    scores = {} if label is None else held_out_scores(campaign, rows, label)
    lines = []
    levels: dict[str, pd.Series] = {}
    for part, suite, dataset in members(campaign, rows):
        if suite not in levels:
            levels[suite] = levels_of(suite, rows)[["chance", "majority"]].fillna(0.0).max(axis=1)
        guess, found = float(levels[suite][dataset]), scores.get((suite, dataset), np.nan)
        kept = bool(np.isnan(found) or guess + floor <= found <= ceiling)
        lines.append((part, suite, dataset, guess, found, kept))
    return pd.DataFrame(lines, columns=["part", "suite", "dataset", "guess", "reference", "kept"])


def held_out_scores(campaign: Campaign, rows: Iterable[Row], label: str) -> dict[tuple[str, str], float]:
    """(suite, data set) -> the measure of a system's chosen cell on the held-out rows, mean over the tuning seeds."""
    rows, known = list(rows), {key_of(row): row for row in rows}
    cell, tune = chosen_cells(campaign, rows)[label], campaign.tune
    assert tune is not None
    digest = configuration_digest(campaign.config(TUNE, label, cell, tune.seeds[0]))
    found = [scores_of(known[digest, seed], campaign.endpoints.measure) for seed in tune.seeds]
    return {place: float(np.mean([one[place] for one in found])) for place in found[0]}


def scores_of(row: Row, measure: str) -> dict[tuple[str, str], float]:
    """(suite, data set) -> share of its rows that were answered right."""
    outcomes = zip(row["suites"], row["datasets"], row[COLUMNS[measure]], row["rows"])
    return {(suite, dataset): float(unpacked(packed, count).mean()) for suite, dataset, packed, count in outcomes}


def endpoint_table(campaign: Campaign, rows: Iterable[Row]) -> pd.DataFrame:
    """One row per final run and part: system, seed, part, tasks (how many count) and the campaign's measure.

    Runs of configurations other than those that the tuning chose are left out.
    """
    rows = list(rows)
    known: dict[Key, Row] = {key_of(row): row for row in rows}
    tasks = task_table(campaign, rows)
    kept = tasks[tasks["kept"]]
    lines = [
        (label, seed, *line)
        for label, seed, row in final_rows(campaign, chosen_cells(campaign, rows), known)
        for line in part_means(campaign, kept, row)
    ]
    return pd.DataFrame(lines, columns=["system", "seed", "part", "tasks", campaign.endpoints.measure])


def part_means(campaign: Campaign, kept: pd.DataFrame, row: Row) -> list[tuple[str, int, float]]:
    """(part, how many of its tasks count, the campaign's measure) of a run."""
    scores = scores_of(row, campaign.endpoints.measure)
    found = []
    for part, places in kept.groupby("part", sort=False):
        mean = float(np.mean([scores[place] for place in zip(places["suite"], places["dataset"])]))
        found.append((str(part), len(places), mean))
    return found


def system_means(campaign: Campaign, rows: Iterable[Row]) -> pd.DataFrame:
    """One row per system: system, seeds (final runs in the table), and a column per part: the mean over its seeds.

    The base model, which has no seed, comes first where the table has it.
    """
    rows = list(rows)
    table, tasks, base = endpoint_table(campaign, rows), task_table(campaign, rows), base_of(campaign, rows)
    if base:
        lines = [(BASE_MODEL, NO_SEED, *line) for line in part_means(campaign, tasks[tasks["kept"]], base)]
        table = pd.concat([pd.DataFrame(lines, columns=table.columns), table], ignore_index=True)
    means = table.pivot_table(campaign.endpoints.measure, "system", "part", sort=False).reindex(
        index=dict.fromkeys(table["system"]), columns=dict.fromkeys(table["part"])
    )
    seeds = table[table["seed"] != NO_SEED].groupby("system", sort=False)["seed"].nunique()
    means.insert(0, "seeds", seeds.reindex(means.index, fill_value=0))
    return means.rename_axis(columns=None).reset_index()


def base_of(campaign: Campaign, rows: Iterable[Row]) -> Row | None:
    """The row of the base model on the rows of the final runs, where the table has it."""
    config = campaign.base_config()
    return {key_of(row): row for row in rows}.get((configuration_digest(config), config.seed))


def final_rows(
    campaign: Campaign, chosen: Mapping[str, Cell], known: Mapping[Key, Row]
) -> Iterator[tuple[str, int, Row]]:
    """(system, seed, row) of the final runs that the table has."""
    for config in campaign.final_configs(chosen):
        if row := known.get((configuration_digest(config), config.seed)):
            yield str(config.name), config.seed, row
