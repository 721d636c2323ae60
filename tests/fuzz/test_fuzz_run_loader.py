"""Damaged runs: each reads, or is refused by name with a remedy; the defects that the fuzz found stand by name."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.training.files import RunError, write_table
from moe_analysis.training.recorders.store import RecordError, open_records

from . import run_subject
from .mutate import GOOD, cases, fault_of, results_of, sound

CASES = 50  # `make fuzz` has thousands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound run, which reads from end to end."""
    shutil.copytree(sound("run"), tmp_path / "run")
    return tmp_path / "run"


def refusal(call: Callable[[], Any], name: str) -> str:
    """The message of an error of ours that names a file and a remedy."""
    with pytest.raises(run_subject.ERRORS) as caught:
        call()
    assert fault_of(str(caught.value), {name}) == "refused"
    return str(caught.value)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_damaged_run_is_read_or_refused_by_name_with_a_remedy_and_is_never_touched() -> None:
    results = list(results_of(cases(CASES, ["run"]), seed=0))
    assert [result for result in results if result.outcome not in GOOD] == []
    refused = {result.case for result in results if result.outcome == "refused"}
    assert CASES // 4 < len(refused) < CASES


def test_a_sound_run_reads_from_end_to_end(folder: Path) -> None:
    for _, call in run_subject.readings(folder):
        call()


# config.json and status.json


@pytest.mark.parametrize(
    "content", ["[]", "null", '"text"', "[" * 100_000, '{"steps": ' + "7" * 5000 + "}", "\ufeff{}", ""]
)
@pytest.mark.parametrize("name", ["config.json", "status.json"])
def test_json_that_is_no_object_is_refused_by_its_file(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    refusal(lambda: ma.Run.load(folder).status, name)


@pytest.mark.parametrize("name", ["config.json", "status.json", "history.parquet", "clusters.npz"])
@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["folder", "pipe", "device"]
)
def test_what_is_no_file_is_refused_and_not_waited_for(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    (folder / name).unlink()
    make(folder / name)
    run = ma.Run(folder, run_subject.config()) if name != "config.json" else None
    reading = {"status.json": "status", "history.parquet": "history", "clusters.npz": "clusters"}
    text = refusal(lambda: getattr(run, reading[name]) if run else ma.Run.load(folder), name)
    assert "is not a file; " in text


WRONG = {
    "steps": "abc",
    "lr": [],
    "seed": 1.5,
    "batch_size": True,
    "datasets": "add_small",
    "suite": None,
    "adapter": None,
    "optimizer_options": 3,
    "eval_rows": {},
    "name": 7,
}


def test_a_whole_number_that_no_real_can_hold_is_refused_by_its_field(folder: Path) -> None:
    change(folder / "config.json", lr=10**400)
    assert "lr = 1" in refusal(lambda: ma.Run.load(folder), "config.json")


@pytest.mark.parametrize("field", WRONG)
def test_a_value_of_a_wrong_type_is_refused_by_its_field(folder: Path, field: str) -> None:
    change(folder / "config.json", **{field: WRONG[field]})
    assert f"{field} = {WRONG[field]!r} is " in refusal(lambda: ma.Run.load(folder), "config.json")


@pytest.mark.parametrize(
    "adapter, words",
    [
        ({"peft_type": "TREKS!"}, "adapter.peft_type = 'TREKS!' is unknown; use one of LORA, "),
        ({"peft_type": ["TREX"]}, r"adapter.peft_type = ['TREX'] is unknown"),
        ({"peft_type": "TREX", "num_up": "many"}, "adapter.num_up = 'many' is str; it must be int"),
        ({"peft_type": "LORA", "target_modules": 5}, "target_modules = 5 is int; it must be list[str] or str or None"),
        ({"peft_type": "LORA", "loftq_config": 1}, "adapter.loftq_config = 1 is int"),
    ],
)
def test_an_adapter_that_is_none_is_refused_by_its_field(folder: Path, adapter: dict, words: str) -> None:
    change(folder / "config.json", adapter=adapter)
    assert words in refusal(lambda: ma.Run.load(folder), "config.json")


@pytest.mark.parametrize("values", [{"state": None}, {"step": "six"}, {"seconds": []}, {"versions": 3}])
def test_a_status_of_wrong_types_is_refused(folder: Path, values: dict) -> None:
    change(folder / "status.json", **values)
    refusal(lambda: ma.Run.load(folder).finished, "status.json")


def test_a_name_too_long_for_a_file_is_no_folder() -> None:
    with pytest.raises(RunError, match="is not a folder; pass the folder of a run"):
        ma.Run.load("n" * 5000)


# history.parquet and evaluation.parquet


def test_tables_of_other_columns_types_or_without_rows_are_refused_by_their_file(folder: Path) -> None:
    history = pd.read_parquet(folder / "history.parquet")
    damaged = {
        "'loss'": history.drop(columns="loss"),
        "rows": history.head(0),
        "history.parquet": pd.DataFrame(),
        "column step": history.astype({"step": str}),
        "column split": history.assign(split=1),
    }
    for word, frame in damaged.items():
        write_table(folder / "history.parquet", frame)
        text = refusal(lambda: ma.Run.load(folder).history, "history.parquet")
        assert word.strip("'") in text
    shutil.copy(folder / "evaluation.parquet", folder / "history.parquet")
    refusal(lambda: ma.Run.load(folder).history, "history.parquet")


def test_a_byte_that_flips_in_a_table_is_found_or_changes_nothing(folder: Path) -> None:
    path = folder / "history.parquet"
    write_table(path, pd.concat([pd.read_parquet(path)] * 50))
    content, sound, found = path.read_bytes(), ma.Run.load(folder).history, 0
    for place in range(4, len(content), len(content) // 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            pd.testing.assert_frame_equal(ma.Run.load(folder).history, sound)
        except RunError as error:
            assert fault_of(str(error), {"history.parquet"}) == "refused"
            found += 1
    assert found > 20


# records


def metadata(folder: Path, array: str = "router_weight") -> Path:
    return folder / "records.zarr" / array / "zarr.json"


@pytest.mark.parametrize(
    "shape, words",
    [
        ([10**12, 2, 6, 4], "array gate_entropy in .* lacks"),
        ([60, 2, 6, 10**15], "array router_weight in .* lacks"),
        ([60, 2, 6], "cannot be read as a zarr group"),
        ([60, 2, -6, 4], "records.zarr"),
    ],
)
def test_a_shape_that_no_record_has_is_refused_at_once(folder: Path, shape: list[int], words: str) -> None:
    change(metadata(folder), shape=shape)
    for array in ("gate_entropy", "step"):  # the other arrays agree with a longer axis
        change(metadata(folder, array), shape=[shape[0], *([2] if array == "gate_entropy" else [])])
    with pytest.raises(RecordError, match=words):
        ma.Run.load(folder).records  # noqa: B018


@pytest.mark.parametrize(
    "values",
    [
        {"dimension_names": None},
        {"dimension_names": ["step", "a", "b", "b"]},
        {"data_type": "int32", "fill_value": 0},
        {"dimension_names": ["a", "b", "c", "d"]},
        {"attributes": {"labels": 3}},
        {"codecs": []},
        {"node_type": "group"},
    ],
)
def test_metadata_that_no_store_writes_is_refused(folder: Path, values: dict) -> None:
    change(metadata(folder), **values)
    refusal(lambda: ma.Run.load(folder).records, "records.zarr")


@pytest.mark.parametrize("array", ["step", "module", "router_weight"])
def test_an_array_without_its_metadata_or_its_folder_is_missed(folder: Path, array: str) -> None:
    metadata(folder, array).unlink()
    assert f"array {array} in " in refusal(lambda: ma.Run.load(folder).records, "zarr.json")
    shutil.rmtree(metadata(folder, array).parent)
    if array == "step":
        refusal(lambda: ma.Run.load(folder).records, "array step")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"\x00" * len(content),
        lambda content: content[:100] + bytes([content[100] ^ 4]) + content[101:],
    ],
    ids=["cut", "empty", "zeros", "one bit"],
)
def test_a_damaged_chunk_is_named_by_its_array_when_it_is_read(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    chunk = metadata(folder).parent / "c" / "1" / "0" / "0" / "0"
    chunk.write_bytes(damage(chunk.read_bytes()))
    weights = ma.Run.load(folder).records["router_weight"]
    assert np.isfinite(weights[:50].values).all()  # lazy: the other chunk is sound
    text = refusal(lambda: weights.values, "router_weight")
    assert "has a chunk that cannot be read" in text


def test_steps_that_do_not_rise_are_refused(folder: Path) -> None:
    import zarr

    zarr.open_group(folder / "records.zarr")["step"][:] = 7
    assert "array step in " in refusal(lambda: open_records(folder), "does not increase")


# clusters.npz


def test_clusters_that_a_finished_run_must_have_are_missed(folder: Path) -> None:
    (folder / "clusters.npz").unlink()
    assert "the adapter routes by it" in refusal(lambda: ma.Run.load(folder).clusters, "clusters.npz")
    change(folder / "status.json", state="running")
    assert ma.Run.load(folder).clusters is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"centroids": np.array(["a", "b"])[:, None]},
        {"centroids": np.full((2, 3), np.nan, np.float32)},
        {"centroids": np.zeros((0, 3), np.float32)},
        {"labels": np.zeros(4)},
        {"labels": np.array([9])},
        {"labels": np.array([-1])},
    ],
)
def test_arrays_that_are_no_clusters_are_refused(folder: Path, arrays: dict) -> None:
    values = {"centroids": np.ones((2, 3), np.float32), "labels": np.array([0, 1]), "seed": 0, "inertia": 1.0}
    np.savez(folder / "clusters.npz", **{**values, **arrays})
    refusal(lambda: ma.Run.load(folder).clusters, "clusters.npz")


def test_an_entry_that_is_no_array_is_refused(folder: Path) -> None:
    values = {"labels": np.array([0, 1]), "seed": 0, "inertia": 1.0}
    np.savez(folder / "clusters.npz", **values)
    with zipfile.ZipFile(folder / "clusters.npz", "a") as archive:
        archive.writestr("centroids", b"bytes")
    refusal(lambda: ma.Run.load(folder).clusters, "clusters.npz")
