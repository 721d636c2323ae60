"""What all studies ask of the runs that they are given."""

from __future__ import annotations

import pandas as pd
import pytest

import moe_analysis as ma


@pytest.mark.parametrize(
    "given", ["runs", ["runs/one", "runs/two"], pd.DataFrame({"run": ["one"]})], ids=["a path", "paths", "a table"]
)
def test_what_is_no_list_of_runs_is_refused_with_what_makes_one(given) -> None:
    with pytest.raises(ValueError, match=r"(?s)^runs = .* is no list of runs; pass what `ma.Run.load.*measure_table"):
        ma.studies.systems.measure(given)


def test_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="runs is empty"):
        ma.studies.systems.measure([])
