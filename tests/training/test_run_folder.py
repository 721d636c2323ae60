"""Runs of a folder: found by what a person types, and deleted whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.training import Run, RunError
from moe_analysis.training.files import FAILED, FAILURE, LOCK, RESTORE, STOPPED
from moe_analysis.training.run_folder import (
    chosen,
    clear_deleted,
    delete_run,
    find_runs,
    folder_bytes,
    list_runs,
    matching,
    refuse_held,
    run_paths,
)
from moe_analysis.training.status import locked
from moe_analysis.training.sweep import work
from tests.commands.calls import call, write_run

ids = st.lists(st.text("ab-", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@settings(max_examples=100, deadline=None)
@given(ids, st.data())
def test_a_full_name_is_always_that_run_and_a_beginning_finds_it(names: list[str], data: st.DataObject) -> None:
    paths = [Path("runs") / name for name in names]
    name = data.draw(st.sampled_from(names))
    assert matching(name, paths) == [Path("runs") / name]
    beginning = name[: data.draw(st.integers(1, len(name)))]
    assert Path("runs") / name in matching(beginning, paths) or beginning in names
    assert matching("*", paths) == paths and matching(f"{beginning}[*]", [Path(f"{beginning}[*]")]) != []


def test_a_name_that_fits_none_or_several_is_refused_and_a_pattern_takes_all(out: Path, config) -> None:
    made = [write_run(out, config(seed=seed, name="one")) for seed in (0, 1)]
    assert find_runs(out, [made[1].name, "one*"]) == [made[1], made[0]], "each once, in the order of the names"
    assert find_runs(out, [made[0].name.rpartition("-")[2][:6]]) == [made[0]]
    with pytest.raises(RunError, match=r"'one' matches 2 runs: .*write more of it, or the pattern 'one\*'"):
        find_runs(out, ["one"])
    with pytest.raises(RunError, match="'two' matches no run of"):
        find_runs(out, ["two"])
    with pytest.raises(RunError, match="is not a folder; pass the folder"):
        run_paths(out / "nowhere")


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
@pytest.mark.parametrize("command", [("delete", "--yes"), ("show",), ("compare",)])
def test_an_empty_name_is_no_run_and_deletes_none(name: str, command: tuple[str, ...], out: Path, config) -> None:
    made = write_run(out, config())
    with pytest.raises(RunError, match="is an empty name; pass a run's id"):
        find_runs(out, [made.name, name])
    word, *options = command
    done = call("runs", word, name, *options, "--out", str(out))
    assert done.exit_code == 2 and "is an empty name" in done.stderr and run_paths(out) == [made]


def test_the_list_has_a_row_a_run_also_for_what_cannot_be_read(out: Path, config) -> None:
    good = write_run(out, config(), better=0.25)
    bad = write_run(out, config(seed=1))
    (bad / "history.parquet").write_bytes(b"PAR1")
    frame = list_runs(run_paths(out)).set_index("run")
    assert frame.loc[good.name, ["state", "loss", "accuracy", "step"]].tolist() == ["finished", 0.75, 0.75, 6]
    assert frame.loc[bad.name, "state"] == "damaged" and "history.parquet" in frame.loc[bad.name, "error"]
    assert len(chosen(list_runs(run_paths(out)), states=["finished"])) == 1
    assert len(list_runs([])) == 0


def test_a_configuration_without_what_the_list_shows_is_damaged(out: Path, config) -> None:
    path = write_run(out, config())
    values = json.loads((path / "config.json").read_text())
    faults = {
        "it has no steps": {name: value for name, value in values.items() if name != "steps"},
        "seed = 'one' is str; it must be int": {**values, "seed": "one"},
        "its adapter names no peft_type": {**values, "adapter": {"r": 2}},
    }
    for fault, changed in faults.items():
        (path / "config.json").write_text(json.dumps(changed))
        row = list_runs([path]).iloc[0]
        assert row["state"] == "damaged" and fault in row["error"]


def test_a_failure_that_is_no_text_stops_no_list(out: Path, config) -> None:
    path = write_run(out, config(), finished=False)
    (path / FAILURE).write_bytes(b"Traceback\n\xff\xfeboom\n")
    (path / LOCK).touch()
    assert list_runs([path])[["state", "error"]].values.tolist() == [["failed", r"\xff\xfeboom"]]
    assert "boom" in Run.load(path)._repr_html_()


@pytest.mark.parametrize("file, name", [("config.json", "steps"), ("config.json", "seed"), ("status.json", "step")])
def test_a_number_that_no_column_holds_is_damage_of_its_run_alone(out: Path, config, file: str, name: str) -> None:
    good, bad = write_run(out, config()), write_run(out, config(seed=1))
    (bad / file).write_text(json.dumps(json.loads((bad / file).read_text()) | {name: -(10**20)}))
    frame = list_runs([good, bad])
    assert frame["state"].tolist() == ["finished", "damaged"]
    assert frame.loc[1, "error"] == f"{bad}: {name} = -100000000000000000000 is too large; {RESTORE}"


def test_a_link_to_a_run_is_not_deleted_as_one(out: Path, config) -> None:
    there = write_run(out.with_name("elsewhere"), config())
    out.mkdir()
    (out / there.name).symlink_to(there)
    with pytest.raises(RunError, match=f"{out / there.name} is a link to {there}; delete the run there, or remove the"):
        delete_run(out / there.name)
    assert (out / there.name).is_symlink() and Run.load(there).finished


def test_the_states_are_those_of_a_sweep() -> None:
    assert (FAILED, STOPPED, FAILURE) == (work.FAILED, work.STOPPED, work.FAILURE)


def test_a_deleted_run_is_gone_and_a_trained_one_is_refused(out: Path, config) -> None:
    one, two = (write_run(out, config(seed=seed)) for seed in (0, 1))
    assert folder_bytes(one) == sum(path.stat().st_size for path in one.iterdir())
    with locked(two):
        with pytest.raises(RunError, match="is being trained"):
            refuse_held([one, two])
        with pytest.raises(RunError, match="is being trained by another process"):
            delete_run(two)
    delete_run(one)
    assert [path.name for path in out.iterdir()] == [two.name]
    with pytest.raises(RunError, match="is not a run"):
        delete_run(out)


def test_a_deletion_that_is_cut_off_leaves_no_run_and_is_cleared_later(out: Path, config, monkeypatch) -> None:
    one, two = (write_run(out, config(seed=seed)) for seed in (0, 1))

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", cut)
        delete_run(one)
    assert run_paths(out) == [two] and Run.load(two).finished
    assert len(list(clear_deleted(out))) == 1 and list(out.iterdir()) == [two]
