"""The checker of golden cases: ours pass, and whatever is wrong with a case is said and counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from .check import main

HERE = Path(__file__).parent
CASE = "trex_flex_3x2"
PAIRS = sorted(path.stem for path in HERE.glob("*.json") if path.with_suffix(".npz").exists())


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with one good case, to be spoiled."""
    for suffix in (".json", ".npz"):
        shutil.copy(HERE / f"{CASE}{suffix}", tmp_path)
    return tmp_path


def arrays_of(folder: Path, case: str = CASE) -> dict[str, np.ndarray]:
    with np.load(folder / f"{case}.npz") as stored:
        return dict(stored)


def run(folder: Path, capsys, *options: str) -> tuple[int, list[str]]:
    code = main([str(folder), *options])
    return code, capsys.readouterr().out.splitlines()


def test_every_case_of_the_authors_code_passes(capsys):
    code, lines = run(HERE, capsys)
    assert code == 0
    assert len(lines) == len(PAIRS) + 1 > 10
    assert lines[-1].startswith(f"{len(PAIRS)} cases, 0 failed, largest relative error ")
    errors = {name: float(error) for _, name, error, *_ in map(str.split, lines[:-1])}
    assert max(error for name, error in errors.items() if not name.endswith("_f32") and "noisy" not in name) < 1e-10


def test_a_prefix_chooses_the_cases(capsys):
    code, lines = run(HERE, capsys, "--prefix", "trex_rank1")
    wanted = [name for name in PAIRS if name.startswith("trex_rank1")]
    assert code == 0 and [line.split()[1] for line in lines[:-1]] == wanted


def test_a_case_is_known_by_its_description_and_not_by_its_name(folder, capsys):
    for suffix in (".json", ".npz"):
        (folder / f"{CASE}{suffix}").rename(folder / f"moelora_another{suffix}")
    assert run(folder, capsys)[0] == 0


@pytest.mark.parametrize("array", ["y", "grad_x", "grad_A", "grad_B", "grad_router", "grad_omg_w", "grad_intuition"])
def test_a_tampered_array_fails_its_case_and_is_named(folder, capsys, array):
    arrays = arrays_of(folder)
    arrays[array].flat[0] += 1e-6 * np.abs(arrays[array]).max()
    np.savez(folder / f"{CASE}.npz", **arrays)
    code, lines = run(folder, capsys)
    assert code == 1
    assert lines[0].startswith(f"FAILED {CASE}") and lines[0].endswith(array)
    assert lines[-1].startswith("1 cases, 1 failed, largest relative error 1.00e-06")


@pytest.mark.parametrize("array", ["A_3", "B_1", "exp_avg_B_2", "exp_avg_sq_A_3"])
def test_a_tampered_step_of_an_optimizer_fails_its_case_and_is_named(tmp_path, capsys, array):
    case = "opt_adamwr"
    shutil.copy(HERE / f"{case}.json", tmp_path)
    arrays = arrays_of(HERE, case)
    arrays[array].flat[0] += 1e-6 * np.abs(arrays[array]).max()
    np.savez(tmp_path / f"{case}.npz", **arrays)
    code, lines = run(tmp_path, capsys)
    assert code == 1 and lines[0].startswith(f"FAILED {case}") and lines[0].endswith(array)


def test_an_unknown_hyper_parameter_of_an_optimizer_is_not_understood(tmp_path, capsys):
    shutil.copy(HERE / "opt_sgdr.npz", tmp_path)
    description = json.loads((HERE / "opt_sgdr.json").read_text())
    (tmp_path / "opt_sgdr.json").write_text(json.dumps(description | {"hyper": {"lr": 0.05, "momentum": 0.9}}))
    code, lines = run(tmp_path, capsys)
    assert code == 1 and "momentum" in lines[0]


def test_a_tampered_weight_fails_its_case(folder, capsys):
    arrays = arrays_of(folder)
    arrays["A"][0, 0] += 1e-3
    np.savez(folder / f"{CASE}.npz", **arrays)
    assert run(folder, capsys)[0] == 1


@pytest.mark.parametrize(
    "change", [{"system": "another system"}, {"mode": "rank2"}, {"hyper": {}}], ids=["system", "mode", "hyper"]
)
def test_a_case_that_is_not_understood_fails(folder, capsys, change):
    path = folder / f"{CASE}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    code, lines = run(folder, capsys)
    assert code == 1 and "not understood" in lines[0] and lines[-1].startswith("1 cases, 1 failed")


def test_an_array_that_nobody_computes_fails(folder, capsys):
    np.savez(folder / f"{CASE}.npz", **arrays_of(folder), grad_unheard_of=np.ones(3))
    code, lines = run(folder, capsys)
    assert code == 1 and "grad_unheard_of" in lines[0]


def test_a_case_that_records_nothing_to_compare_fails(folder, capsys):
    arrays = arrays_of(folder)
    kept = {key: arrays[key] for key in arrays if key == "grad_y" or not (key == "y" or key.startswith("grad_"))}
    np.savez(folder / f"{CASE}.npz", **kept)
    code, lines = run(folder, capsys)
    assert code == 1 and "not understood" in lines[0] and lines[-1].startswith("1 cases, 1 failed")


def test_a_case_whose_arrays_are_missing_fails(folder, capsys):
    (folder / f"{CASE}.npz").unlink()
    shutil.copy(HERE / "trex_none_r4.json", folder)
    shutil.copy(HERE / "trex_none_r4.npz", folder)
    code, lines = run(folder, capsys)
    assert code == 1 and any(CASE in line and line.startswith("FAILED") for line in lines)


def test_a_description_that_is_no_json_fails_without_hiding_the_other_cases(folder, capsys):
    (folder / "broken.json").write_text("{")
    shutil.copy(folder / f"{CASE}.npz", folder / "broken.npz")
    code, lines = run(folder, capsys)
    assert code == 1 and lines[-1].startswith("2 cases, 1 failed")


def test_a_record_without_arrays_is_no_case(folder, capsys):
    (folder / "record.json").write_text(json.dumps({"system": "T-REX", "note": "a remark"}))
    code, lines = run(folder, capsys)
    assert code == 0 and lines[-1].startswith("1 cases, 0 failed")


def test_a_failed_case_does_not_hide_the_others(folder, capsys):
    for suffix in (".json", ".npz"):
        shutil.copy(HERE / f"trex_none_r4{suffix}", folder)
    path = folder / f"{CASE}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mode": "rank2"}))
    code, lines = run(folder, capsys)
    assert code == 1 and len(lines) == 3 and lines[-1].startswith("2 cases, 1 failed")


def test_an_empty_folder_is_a_failure(tmp_path, capsys):
    code, lines = run(tmp_path, capsys)
    assert code == 1 and lines[-1].startswith("0 cases, 0 failed")
