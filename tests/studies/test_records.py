"""What all studies ask of the runs that they are given."""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis import studies

FOLDERS = [import_module(found.name) for found in iter_modules(studies.__path__, f"{studies.__name__}.") if found.ispkg]


def takes_runs_alone(found: object) -> bool:
    if not inspect.isfunction(found):
        return False
    first, *others = [*inspect.signature(found).parameters.values(), None]
    return first is not None and first.name == "runs" and all(one.default is not one.empty for one in others[:-1])


MEASURES = [
    getattr(folder, name)
    for folder in FOLDERS
    for name in dir(folder)
    if name.startswith("measure") and takes_runs_alone(getattr(folder, name))
]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: f"{one.__module__.split('.')[-2]}.{one.__name__}")
@pytest.mark.parametrize(
    "given", ["runs", ["runs/one"], pd.DataFrame({"run": ["one"]})], ids=["path", "paths", "table"]
)
def test_what_is_no_run_is_refused_with_what_makes_one(measure, given) -> None:
    with pytest.raises(ValueError, match=r"(?s)^runs = .* is no (list of runs; pass what `ma.Run.load|mapping; pass)"):
        measure(given)


def test_all_studies_of_runs_are_asked() -> None:
    assert {ma.studies.systems.measure, ma.studies.budgets.measure, ma.studies.optimizers.measure} <= set(MEASURES)


def test_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        ma.studies.systems.measure([])
