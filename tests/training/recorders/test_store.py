from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from moe_analysis.training.recorders.store import BLOCK, RecordError, RecordStore, open_records


def filled(path: Path, start: int, stop: int, flush_at: tuple[int, ...] = ()) -> RecordStore:
    store = RecordStore(path)
    store.declare("router_weight", ("module", "expert"), (2, 3), {"module": ["a.q_proj", "b.q_proj"]})
    for step in range(start, stop):
        store.append(step, {"router_weight": np.full((2, 3), step, dtype=np.float32)})
        if step in flush_at:
            store.flush()
    store.flush()
    return store


def steps_and_values(path: Path) -> tuple[list[int], list[float]]:
    data = open_records(path)
    return data["step"].values.tolist(), data["router_weight"][:, 1, 2].values.tolist()


def test_what_is_appended_comes_back_in_order_whatever_the_flushes(tmp_path: Path) -> None:
    filled(tmp_path / "r", 0, 2 * BLOCK + 7, flush_at=(3, 60))
    steps, values = steps_and_values(tmp_path / "r")
    assert steps == list(range(2 * BLOCK + 7)) == values
    assert open_records(tmp_path / "r")["module"].values.tolist() == ["a.q_proj", "b.q_proj"]


def test_a_record_says_what_its_arrays_are_and_how_its_steps_count(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "r")
    for name in ("gate_load", "gate_load_1", "my_own"):
        store.declare(name, ("module",), (2,), {"module": ["a.q_proj", "b.q_proj"]})
    store.append(0, {name: np.zeros(2, np.float32) for name in ("gate_load", "gate_load_1", "my_own")})
    store.flush()
    records = open_records(tmp_path / "r")
    named = {name: array.attrs.get("long_name") for name, array in records.data_vars.items()}
    used = "share of tokens that use the expert"
    assert named == {"gate_load": used, "gate_load_1": used, "my_own": None}
    assert records["step"].attrs == {"long_name": "updates made before; history step - 1", "units": "updates"}


def test_a_block_of_nothing_but_nan_is_no_lost_chunk(tmp_path: Path) -> None:
    filled(tmp_path / "r", 0, BLOCK)
    store = RecordStore(tmp_path / "r")
    for step in range(BLOCK, 2 * BLOCK):
        store.append(step, {"router_weight": np.full((2, 3), np.nan, dtype=np.float32)})
    values = open_records(tmp_path / "r")["router_weight"].values
    assert values.shape == (2 * BLOCK, 2, 3) and np.isnan(values[BLOCK:]).all() and np.isfinite(values[:BLOCK]).all()


def test_cutting_back_and_going_on_leaves_neither_gap_nor_double(tmp_path: Path) -> None:
    store = filled(tmp_path / "r", 0, 75)
    store.cut(40)
    filled(tmp_path / "r", 40, 90)
    steps, values = steps_and_values(tmp_path / "r")
    assert steps == list(range(90)) == values


def test_an_append_cut_off_before_its_step_is_written_does_not_count(tmp_path: Path) -> None:
    store = filled(tmp_path / "r", 0, 10)
    array = store.group["router_weight"]
    array.resize((14, 2, 3))
    array[10:14] = 99.0
    assert steps_and_values(tmp_path / "r")[0] == list(range(10))
    store = RecordStore(tmp_path / "r")
    store.cut(8)
    filled(tmp_path / "r", 8, 12)
    assert steps_and_values(tmp_path / "r")[1] == list(range(12))


def test_a_missing_chunk_is_reported_by_the_array_it_belongs_to(tmp_path: Path) -> None:
    filled(tmp_path / "r", 0, 3 * BLOCK)
    chunks = sorted((tmp_path / "r" / "router_weight" / "c").iterdir())
    assert len(chunks) == 3
    shutil.rmtree(chunks[1])
    with pytest.raises(RecordError, match="router_weight .* lacks 1 of 3 chunks"):
        open_records(tmp_path / "r")


def test_a_damaged_group_and_an_empty_folder_are_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record"):
        open_records(tmp_path)
    filled(tmp_path / "r", 0, 3)
    (tmp_path / "r" / "zarr.json").write_text("{broken")
    with pytest.raises(RecordError, match="cannot be read"):
        open_records(tmp_path / "r")


def test_a_record_of_a_single_module_can_be_read(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "r")
    store.declare("router_weight", ("module",), (1,), {"module": ["a.q_proj"]})
    store.append(0, {"router_weight": np.zeros(1, dtype=np.float32)})
    store.flush()
    assert open_records(tmp_path / "r")["module"].values.tolist() == ["a.q_proj"]


# Resuming


def lost(name: str) -> Callable[[Path], object]:
    return lambda path: shutil.rmtree(path / name)


def with_other_labels(path: Path) -> None:
    zarr.open_group(path)["module"].attrs["labels"] = ["a.q_proj", "c.q_proj"]


def of_other_steps(path: Path) -> None:
    zarr.open_group(path)["step"][3] = 2


def shorter(path: Path) -> None:
    zarr.open_group(path)["router_weight"].resize((BLOCK, 2, 3))


FAULTS = {
    "has lost its zarr.json": lost("."),
    "array router_weight in .* is missing": lost("router_weight"),
    "array module in .* is missing": lost("module"),
    "array step in .* is missing": lost("step"),
    "array module in .* has the labels": with_other_labels,
    "array step in .* has not the steps before 60": of_other_steps,
    "array router_weight in .* has 50 of 60 records": shorter,
    "array router_weight in .* lacks 1 of 2 chunks": lost("router_weight/c/1"),
    "array router_weight in .* has a chunk that cannot be read": lambda path: (
        path / "router_weight/c/1/0/0"
    ).write_bytes(b"{x"),
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_record_that_has_lost_what_a_run_resumes_after_is_refused_and_not_filled_up(tmp_path: Path, said) -> None:
    filled(tmp_path / "r", 0, 60)
    FAULTS[said](tmp_path / "r")
    with pytest.raises(RecordError, match=f"{said}.*restore"):
        declared(RecordStore(tmp_path / "r", range(60)))


def declared(store: RecordStore) -> RecordStore:
    store.declare("router_weight", ("module", "expert"), (2, 3), {"module": ["a.q_proj", "b.q_proj"]})
    return store


def test_what_was_written_after_the_checkpoint_may_be_damaged(tmp_path: Path) -> None:
    filled(tmp_path / "r", 0, 2 * BLOCK)
    lost("router_weight/c/1")(tmp_path / "r")
    store = declared(RecordStore(tmp_path / "r", range(BLOCK)))
    store.cut(BLOCK)
    filled(tmp_path / "r", BLOCK, BLOCK + 3)
    assert steps_and_values(tmp_path / "r")[0] == list(range(BLOCK + 3))


def test_steps_that_a_cut_off_flush_never_wrote_do_not_count(tmp_path: Path) -> None:
    store = filled(tmp_path / "r", 0, 10)
    store.group["step"].resize((14,))
    store.cut(8)
    filled(tmp_path / "r", 8, 10)
    assert steps_and_values(tmp_path / "r")[1] == list(range(10))


def test_other_shapes_than_a_runs_are_refused(tmp_path: Path) -> None:
    filled(tmp_path / "r", 0, 5)
    with pytest.raises(RecordError, match=r"array router_weight in .* has the shape \(2, 3\), not \(2, 4\); restore"):
        RecordStore(tmp_path / "r", range(5)).declare("router_weight", ("module", "expert"), (2, 4), {})
