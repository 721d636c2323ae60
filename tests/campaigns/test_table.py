"""Tables of results: what is in one stays in it, whoever writes, wherever the disk ends; and two tables are one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.campaigns import table as results_table
from moe_analysis.campaigns.row import packed
from moe_analysis.campaigns.table import (
    ABOUT,
    ANSWERED,
    COLUMNS,
    OF_SCHEMA,
    SCHEMA,
    ResultsError,
    add_rows,
    key_of,
    locked_table,
    merge_tables,
    merged,
    read_rows,
    write_rows,
)
from tests.campaigns.made_up import made_up

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trial.parquet"


def test_rows_come_back_as_they_were_in_the_order_they_came(path: Path) -> None:
    rows = [made_up(seed, system) for seed in range(3) for system in ("LoRA", "T-REX")]
    for row in rows:
        assert add_rows(path, [row]) == []
    assert read_rows(path) == rows
    assert {one.name for one in path.parent.iterdir()} - {".trial.parquet.lock"} == {"trial.parquet"}


def test_a_loss_that_is_no_number_is_kept_as_such(path: Path) -> None:
    add_rows(path, [{**made_up(), "losses": [float("nan"), 1.0]}])
    assert np.isnan(read_rows(path)[0]["losses"][0]) and add_rows(path, read_rows(path)) == []


def test_where_there_is_no_table_there_are_no_rows(path: Path) -> None:
    assert read_rows(path) == [] and not path.exists()


def test_a_hundred_runs_of_the_largest_study_stay_below_a_megabyte(path: Path) -> None:
    """37 data sets of 200 rows, and curves of 200 points that nothing compresses."""
    counts = {f"data_set_{number}": 200 for number in range(37)}
    add_rows(path, [made_up(seed, counts=counts, points=200) for seed in range(100)])
    assert path.stat().st_size < 1_000_000


def test_a_table_of_schema_1_is_read_and_continued(path: Path) -> None:
    old = pa.Table.from_pylist([made_up()], OF_SCHEMA[1]).replace_schema_metadata({ABOUT: json.dumps({"schema": 1})})
    pq.write_table(old, path)
    row = read_rows(path)[0]
    assert row["roles"] == ["", ""] and np.isnan(row["chances"]).all() and np.isnan(row["majorities"]).all()
    assert {name: row[name] for name in ANSWERED} == {name: made_up()[name] for name in ANSWERED}
    assert add_rows(path, [made_up(), made_up(1)]) == []  # what was not told is no other outcome
    assert [row["roles"][0] for row in read_rows(path)] == ["", "original"]


@pytest.mark.parametrize("schema", [None, 0, SCHEMA + 1, "one"])
def test_a_table_of_another_schema_is_named_and_left_alone(path: Path, schema: object) -> None:
    table = pa.Table.from_pylist([made_up()], COLUMNS).replace_schema_metadata({ABOUT: json.dumps({"schema": schema})})
    pq.write_table(table, path)
    before = path.read_bytes()
    for use in (lambda: read_rows(path), lambda: add_rows(path, [made_up(1)]), lambda: merge_tables([], path)):
        with pytest.raises(
            ResultsError, match=f"{path} has schema .*reads 1 and {SCHEMA}; use the version that wrote it"
        ):
            use()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change, told",
    [
        ({"rows": [10]}, "lists of different lengths"),
        ({"correct": [b"\x00", b"\x00"]}, "different numbers of test rows and outcomes"),
        ({"curve_steps": [1]}, "lists of different lengths"),
        ({"machine": None}, "has no machine in row 1"),
    ],
)
def test_a_table_that_contradicts_itself_is_named_with_the_row(path: Path, change: dict, told: str) -> None:
    write_rows(path, [{**made_up(), **change}])
    with pytest.raises(ResultsError, match=f"{path} .*{told}"):
        read_rows(path)


def test_a_table_with_a_run_twice_or_with_other_columns_is_damaged(path: Path) -> None:
    write_rows(path, [made_up(), made_up()])
    with pytest.raises(ResultsError, match="with seed 0 twice"):
        read_rows(path)
    table = pa.table({"seed": [1]}).replace_schema_metadata({ABOUT: json.dumps({"schema": SCHEMA})})
    pq.write_table(table, path)
    with pytest.raises(ResultsError, match="has the columns .*which are not those of schema"):
        add_rows(path, [made_up()])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_table_is_refused_by_name_or_reads_the_same_and_is_never_overwritten(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("damaged") / "trial.parquet"
    rows = [made_up(seed) for seed in range(3)]
    write_rows(path, rows)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut off"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read_rows(path)
    except ResultsError as error:
        assert str(path) in str(error)
        with pytest.raises(ResultsError):
            add_rows(path, [made_up(9)])
        assert path.read_bytes() == content
    else:  # what Parquet does not read, such as the name of the program that wrote it
        assert [key_of(row) for row in found] == [key_of(row) for row in rows]


def test_what_is_no_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ResultsError, match="is not a file"):
        add_rows(path, [made_up()])


ADD_ON_A_SMALL_DISK = """
import resource, sys
from moe_analysis.campaigns.table import add_rows
from tests.campaigns.made_up import made_up
counts = {f"d{number}": 100 for number in range(40)}
more = [made_up(seed, counts=counts, points=200) for seed in range(4, 20)]
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    add_rows(sys.argv[1], more)
except OSError as error:
    sys.exit(f"full: {error}")
"""


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_disk_that_ends_in_the_middle_of_an_export_leaves_the_table_as_it_was(path: Path, share: float) -> None:
    """No file of that process can become larger: the system refuses the byte behind, in the middle of a write."""
    add_rows(path, [made_up(seed) for seed in range(4)])
    before = path.read_bytes()
    command = [sys.executable, "-c", ADD_ON_A_SMALL_DISK, str(path), str(int(share * len(before)))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "full: " in done.stderr
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 2
    add_rows(path, [made_up(9)])
    assert [row["seed"] for row in read_rows(path)] == [0, 1, 2, 3, 9]


READ_AND_END = """
import os, sys
from moe_analysis.campaigns.table import read_rows
for _ in range(4):
    children = []
    for _ in range(16):
        child = os.fork()
        if not child:
            sys.exit(0 if read_rows(sys.argv[1]) else 3)
        children.append(child)
    for child in children:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks processes")
def test_a_process_that_ends_right_after_reading_ends_well() -> None:
    """With the file opened by Python, pyarrow's threads aborted 3 to 14 in 100 processes that end on a busy machine."""
    table = ROOT / "data/results/optimizers.parquet"
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_END, str(table)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0"] * 64, done.stderr


ADD = """
import sys
from moe_analysis.campaigns.table import add_rows
from tests.campaigns.made_up import made_up
print("ready", flush=True)
sys.stdin.readline()
for seed in range(20):
    add_rows(sys.argv[1], [made_up(seed, sys.argv[2])])
"""


def test_two_processes_that_write_at_the_same_time_lose_no_row(path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), name],
            stdin=subprocess.PIPE,
            text=True,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for name in "AB"
    ]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    for one in both:
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [one.wait() for one in both] == [0, 0]
    assert {key_of(row) for row in read_rows(path)} == {
        (f"digest of {name}", seed) for name in "AB" for seed in range(20)
    }


def test_a_table_that_somebody_holds_is_waited_for_and_then_named(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(results_table, "LOCK_SECONDS", 0.2)
    with locked_table(path), pytest.raises(ResultsError, match="has been held by another process"):
        add_rows(path, [made_up()])
    held = threading.Event()

    def briefly() -> None:
        with locked_table(path):
            held.set()
            threading.Event().wait(0.1)

    threading.Thread(target=briefly).start()
    held.wait()
    monkeypatch.setattr(results_table, "LOCK_SECONDS", 60)
    add_rows(path, [made_up()])
    assert len(read_rows(path)) == 1


# two tables ----------------------------------------------------------------------------------------------------------


def test_tables_of_several_machines_are_one_by_configuration_and_seed(tmp_path: Path) -> None:
    here, there, all_of_them = (tmp_path / f"{name}.parquet" for name in ("here", "there", "all"))
    add_rows(here, [made_up(0), made_up(1)])
    add_rows(there, [made_up(1), made_up(2), made_up(1, configuration="with another rate")])
    assert merge_tables([here, there], all_of_them) == (4, [])
    assert {key_of(row) for row in read_rows(all_of_them)} == {
        ("digest of LoRA", 0),
        ("digest of LoRA", 1),
        ("digest of LoRA", 2),
        ("with another rate", 1),
    }
    assert merge_tables([there, here], all_of_them) == (0, [])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=4), st.randoms())
def test_the_order_of_merging_changes_no_row(parts: list[set[int]], random) -> None:
    tables = [[made_up(seed) for seed in part] for part in parts]
    random.shuffle(tables)
    rows, differences = merged([], [row for table in tables for row in table])
    assert not differences and {row["seed"]: row for row in rows} == {
        seed: made_up(seed) for seed in set().union(*parts)
    }


def flipped(row: dict, number: int) -> dict:
    """One more or less of the first data set's rows is right."""
    content = bytearray(row["correct"][0])
    content[0] ^= 1 << (7 - number)
    return {**row, "correct": [bytes(content), *row["correct"][1:]]}


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda row: flipped(row, 3), "1 of 23 rows answered differently by the summed likelihood"),
        (lambda row: flipped(flipped(row, 3), 0), "2 of 23 rows answered differently"),
        (lambda row: {**row, "correct_norm": [packed(np.ones(10)), row["correct_norm"][1]]}, "by the normalized"),
        (lambda row: {**row, "losses": [row["losses"][0] * 1.001, row["losses"][1]]}, "losses differ by up to"),
        (lambda row: {**row, "losses": [float("nan"), row["losses"][1]]}, "losses are numbers in only one of them"),
        (lambda row: {**row, "rows_digests": ["other", "rows"]}, "evaluated on other rows"),
        (lambda row: {**row, "backbone_sha256": "f" * 64}, "trained on other backbones"),
    ],
)
def test_a_run_that_came_out_otherwise_elsewhere_is_reported_and_its_first_row_stays(path, change, told: str) -> None:
    first, second = made_up(), {**change(made_up()), "machine": "another processor, 8 cores", "seconds": 3.0}
    add_rows(path, [first])
    (found,) = add_rows(path, [second])
    assert told in found.told and str(found).startswith("LoRA-embedded-s0: ")
    assert "a processor, 2 cores and another processor, 8 cores" in str(found)
    assert read_rows(path) == [first]


@pytest.mark.parametrize("change", [{"seconds": 1.0}, {"machine": "another"}, {"versions": "{}"}, {"system": "other"}])
def test_where_and_how_long_a_run_took_makes_no_difference(change: dict) -> None:
    assert merged([made_up()], [{**made_up(), **change}]) == ([made_up()], [])


def test_losses_rounded_otherwise_on_another_processor_are_the_same() -> None:
    row = made_up()
    other = {**row, "losses": [loss * (1 + 1e-8) for loss in row["losses"]]}
    assert merged([row], [other])[1] == []


def test_tables_of_two_studies_and_tables_that_are_not_there_are_not_merged(tmp_path: Path, path: Path) -> None:
    other = tmp_path / "other.parquet"
    add_rows(path, [made_up()])
    add_rows(other, [made_up(1, study="other")])
    with pytest.raises(ResultsError, match="belongs to another study than the other tables: other, trial"):
        merge_tables([other], path)
    with pytest.raises(ResultsError, match="none.parquet is not a file"):
        merge_tables([tmp_path / "none.parquet"], path)
    assert len(read_rows(path)) == 1


@pytest.mark.parametrize("stage", ["tune", "final"])
@pytest.mark.parametrize(
    "other, told",
    [
        ({"rows_digests": ["other", "rows"]}, "different test rows"),
        ({"backbone_sha256": "f" * 64}, "different weights of the backbone"),
    ],
)
def test_runs_of_other_rows_or_weights_are_never_mixed(path: Path, other: dict, told: str, stage: str) -> None:
    known, foreign = made_up(stage=stage), {**made_up(1, "T-REX", stage=stage), **other}
    add_rows(path, [known])
    with pytest.raises(ResultsError, match=f"{path} would have runs with {told}, LoRA-embedded-s0 and T-REX-.*machine"):
        add_rows(path, [foreign])
    assert read_rows(path) == [known]
    write_rows(path, [known, foreign])  # as versions before did
    with pytest.raises(ResultsError, match=f"{path} has runs with {told}"):
        read_rows(path)


def test_a_tuning_on_other_weights_is_not_mixed_with_final_runs(path: Path) -> None:
    tuned = {**made_up(1, counts={"add_small": 5}, stage="tune"), "backbone_sha256": "f" * 64}
    add_rows(path, [made_up()])
    with pytest.raises(ResultsError, match="would have runs with different weights of the backbone"):
        add_rows(path, [tuned])


def test_runs_whose_configurations_ask_for_other_rows_are_together(path: Path) -> None:
    fewer = made_up(1, counts={"add_small": 5}, stage="tune")
    unknown = {**made_up(2), "backbone_sha256": ""}
    add_rows(path, [made_up(), fewer, unknown])
    assert len(read_rows(path)) == 3


def test_nothing_of_a_merge_is_written_when_one_table_is_damaged(tmp_path: Path, path: Path) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    add_rows(good, [made_up()])
    bad.write_bytes(b"PAR1" + os.urandom(50))
    with pytest.raises(ResultsError, match="bad.parquet is not a readable table"):
        merge_tables([good, bad], path)
    assert not path.exists()
