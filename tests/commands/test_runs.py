"""`runs` and the commands inside it, on folders that nobody had to train."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from moe_analysis.commands import terminal
from moe_analysis.training.recorders.attached_run import AttachedConfig, AttachedRun
from moe_analysis.training.status import locked
from tests.commands.calls import DATASETS, call, document, write_run


@pytest.fixture
def folder(out: Path, config) -> Path:
    """Two finished runs, the second better by 0.2, one that stopped, and one that is damaged."""
    write_run(out, config(name="plain", lr=0.1))
    write_run(out, config(name="better", lr=0.2), better=0.2)
    write_run(out, config(name="between"), steps=2, finished=False)
    (write_run(out, config(name="broken")) / "config.json").write_text("{")
    return out


def listed(folder: Path, *options: str) -> list[str]:
    result = call("runs", "--out", str(folder), "--json", *options)
    assert result.exit_code == 0, result.stderr
    return [row["system"] or "broken" for row in document(result.stdout)]


def rows_of(text: str) -> dict[str, list[str]]:
    """The words of the table's lines behind the run's id, by the id's beginning; "run" has the heads."""
    lines = [line.split() for line in text.splitlines() if "-s0-" in line or line.startswith(" run ")]
    return {words[0].partition("-")[0]: words[1:] for words in lines}


def test_runs_alone_lists_all_with_their_state(folder: Path) -> None:
    result = call("runs", "--out", str(folder))
    rows = rows_of(result.stdout)
    assert rows["run"] == ["lr", "state", "step", "seconds", "loss", "accuracy"]
    assert rows["plain"] == ["0.1", "finished", "6/6", "2", "1.000", "0.500"]
    assert rows["between"] == ["0.01", "stopped", "2/6", "2"] and rows["broken"] == ["–", "damaged"]
    assert "4 runs in" in result.stderr and "2 finished, 1 stopped, 1 damaged" in result.stderr
    assert "config.json is not readable JSON" in result.stderr


def test_what_the_runs_have_in_common_is_said_once_and_what_differs_is_a_column(folder: Path, config) -> None:
    import peft

    write_run(folder, config(name="other", adapter=peft.LoraConfig(r=3, target_modules=["q_proj"])))
    result = call("runs", "--out", str(folder))
    common, *_ = result.stdout.splitlines()
    assert common.startswith("the same in all 4: backbone backbone0, suite suite0, optimizer adamw, steps 6")
    rows = rows_of(result.stdout)
    assert rows["run"][:4] == ["adapter", "lr", "r", "target_modules"] and "num_experts" not in rows["run"]
    assert rows["other"][:4] == ["LORA", "0.01", "3", "q_proj"] and rows["plain"][:3] == ["MOELORA", "0.1", "2"]
    listed = {row["system"]: row for row in document(call("runs", "--out", str(folder), "--json").stdout)}
    assert listed["other"]["settings"]["adapter.r"] == 3 and listed["plain"]["settings"]["lr"] == 0.1
    assert "steps" not in listed["plain"]["settings"] and listed[None]["settings"] == {}


def test_parameters_are_counted_in_the_checkpoint_without_reading_it(folder: Path) -> None:
    from safetensors.torch import save_file

    for name, rank in (("plain", 2), ("better", 3)):
        run = next(folder.glob(f"{name}-*"))
        (run / "adapter").mkdir()
        tensors = {"a": torch.zeros(rank, 5), "b": torch.zeros(5, rank), "centroids": torch.zeros(7, dtype=torch.int32)}
        save_file(tensors, run / "adapter" / "adapter_model.safetensors", {"format": "pt"})
    rows = rows_of(call("runs", "--out", str(folder), "--sort", "parameters", "--reverse").stdout)
    place = rows["run"].index("parameters")
    assert rows["plain"][place] == "20" and rows["better"][place] == "30" and list(rows)[1:3] == ["better", "plain"]
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"no checkpoint")
    assert rows_of(call("runs", "--out", str(folder)).stdout)["better"][-1] == "damaged"


def test_the_list_imports_neither_torch_nor_transformers_nor_peft(folder: Path) -> None:
    program = """
import sys
from moe_analysis.__main__ import app
sys.argv = ["moe_analysis", "runs", "--out", sys.argv[1]]
try:
    app()
finally:
    print(sorted({"torch", "transformers", "peft"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=120)
    assert "4 runs in" in done.stderr and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_narrow_terminal_shows_the_first_settings_and_names_the_others(folder: Path, config, monkeypatch) -> None:
    changes = {"seed": 1, "optimizer": "sgd", "batch_size": 4, "warmup_steps": 3, "schedule": "cosine"}
    write_run(folder, config(name="far", lr=0.5, **changes))
    monkeypatch.setattr(terminal, "results", Console(width=80, force_terminal=True, no_color=True))
    result = call("runs", "--out", str(folder))
    assert "3 more settings differ: batch_size, schedule, warmup_steps; a wider terminal" in result.stderr
    assert "optimizer" in result.stdout and "schedule" not in result.stdout


def test_records_of_own_loops_are_named_below_the_list(folder: Path) -> None:
    assert "besides" not in call("runs", "--out", str(folder)).stderr
    for name in ("mine", "other"):
        (folder / name).mkdir()
        AttachedRun(folder / name, AttachedConfig("T-REX", 0, "TREX", "adamw", 1)).describe(updates=3)
    result = call("runs", "--out", str(folder))
    assert f"2 recorded loops besides: mine, other; ma.AttachedRun.load('{folder / 'mine'}') opens one" in result.stderr
    assert "mine" not in result.stdout and "4 runs in" in result.stderr


def test_the_list_is_filtered_and_sorted(folder: Path) -> None:
    assert listed(folder) == ["better", "between", "broken", "plain"]
    assert listed(folder, "--state", "finished", "--sort", "loss") == ["better", "plain"]
    assert listed(folder, "--state", "stopped", "--state", "damaged") == ["between", "broken"]
    assert listed(folder, "--name", "B*r*") == ["better", "broken"] and listed(folder, "--name", "TWEEN") == ["between"]
    assert listed(folder, "--sort", "accuracy", "--reverse")[:2] == ["better", "plain"], "missing values come last"


def test_the_variable_names_the_folder_and_an_option_goes_before_it(folder: Path, tmp_path: Path) -> None:
    assert len(document(call("runs", "--json", MOE_ANALYSIS_RUNS=str(folder)).stdout)) == 4
    assert call("runs", "--out", str(folder), "show", "better", MOE_ANALYSIS_RUNS=str(tmp_path)).exit_code == 0
    assert call("runs", "show", "better", MOE_ANALYSIS_RUNS=str(folder)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--state", "lost"), "--state lost is unknown; choose from finished"),
        (("--sort", "size"), "--sort size is unknown"),
        (("--state", "failed", "show", "plain"), "use them with `runs` alone"),
        (("show", "nobody"), "'nobody' matches no run"),
        (("show", "bet"), "'bet' matches 2 runs"),  # t is no digit of a hash
        (("show", "be*"), "matches 2 runs; give more of the id, or use `runs compare`"),
        (("show", "broken"), "is not readable JSON"),
        (("compare", "plain"), "has 1 run; pass at least two"),
        (("delete", "plain"), "pass --yes"),
    ],
)
def test_what_cannot_be_done_is_said_with_status_2(folder: Path, arguments, message: str) -> None:
    result = call("runs", "--out", str(folder), *arguments)
    assert result.exit_code == 2 and message in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == "" and len(list(folder.glob("*/config.json"))) == 4


def test_a_folder_that_is_not_there_is_an_error_and_an_empty_one_an_empty_list(tmp_path: Path) -> None:
    assert document(call("runs", "--out", str(tmp_path), "--json").stdout) == []
    assert call("runs", "--out", str(tmp_path / "nowhere")).exit_code == 2


def test_show_prints_what_was_chosen_and_what_came_out(folder: Path) -> None:
    told = call("runs", "--out", str(folder), "show", "better").stdout
    assert "finished, step 6 of 6" in told and "lr " in told and "0.2" in told
    assert "weight_decay" not in told, "a default is nobody's choice"
    assert [line.split()[-1] for line in told.splitlines() if line.strip().startswith(DATASETS)] == [
        "0.600",
        "0.700",
        "0.800",
    ]
    full = document(call("runs", "--out", str(folder), "show", "better", "--json").stdout)
    assert full["config"]["lr"] == 0.2 and [row["dataset"] for row in full["evaluation"]] == list(DATASETS)


def test_compare_sets_configurations_losses_and_data_sets_side_by_side(folder: Path) -> None:
    told = call("runs", "--out", str(folder), "compare", "plain", "better")
    assert told.exit_code == 0, told.stderr
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert "lr 0.1 0.2 peak learning rate of the experts: how far one update goes" in lines
    assert "name plain better name of the method in tables and figures" in lines
    assert not any(line.startswith("batch_size") for line in lines), "a field that is the same"
    assert "say 10 0.500 0.700 +0.200" in lines and "say 10 1.000 0.800 -0.200" in lines
    assert "mean 0.500 0.700 +0.200" in lines and "95 % low +0.200" in lines
    parts = document(call("runs", "--out", str(folder), "compare", "plain", "better", "between", "--json").stdout)
    assert set(parts) == {"config", "final", "loss", "datasets", "mean_differences"}
    assert [row["test_loss"] for row in parts["final"]] == pytest.approx([1.0, 0.8, None])


def test_more_runs_than_a_table_has_room_for_are_refused_but_not_as_json(out: Path, config) -> None:
    for seed in range(9):
        write_run(out, config(seed=seed, name="many"))
    refused = call("runs", "--out", str(out), "compare", "many*")
    assert refused.exit_code == 2 and "room for 8" in refused.stderr
    assert len(document(call("runs", "--out", str(out), "compare", "many*", "--json").stdout)["final"]) == 9


def test_a_page_takes_any_number_of_runs_and_is_written_beside_json(out: Path, config, tmp_path: Path) -> None:
    for seed in range(9):
        write_run(out, config(seed=seed, name="many"))
    done = call("runs", "--out", str(out), "compare", "many*", "--html", str(tmp_path / "new" / "page.html"))
    assert done.exit_code == 0 and "the page has them all" in done.stderr, done.stderr
    assert "9 runs side by side" in (tmp_path / "new" / "page.html").read_text()
    refused = call("runs", "--out", str(out), "compare", "many*", "--html", "page.txt", "--json")
    assert refused.exit_code == 2 and "ends in .html" in refused.stderr and refused.stdout == ""


def test_delete_removes_what_is_named_and_nothing_else(folder: Path) -> None:
    left = folder / ".deleted-old-1"
    left.mkdir()
    result = call(
        "runs",
        "--out",
        str(folder),
        "delete",
        "--yes",
        "--json",
        "plain",
        "b*",
        "--state",
        "damaged",
        "--state",
        "finished",
    )
    assert result.exit_code == 0, result.stderr
    names = document(result.stdout)["deleted"]
    assert [name.partition("-")[0] for name in names] == ["plain", "better", "broken"]
    assert [path.name.partition("-")[0] for path in folder.iterdir()] == ["between"]


def test_a_person_is_asked_and_no_is_the_usual_answer(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("moe_analysis.commands.runs.watched", lambda: True)
    for typed, left in (("\n", 4), ("n\n", 4), ("y\n", 3)):
        from typer.testing import CliRunner

        from moe_analysis.__main__ import app

        result = CliRunner().invoke(app, ["runs", "--out", str(folder), "delete", "plain"], input=typed)
        assert result.exit_code == 0 and "Delete 1 run (" in result.stderr and "plain-" in result.stderr
        assert len(list(folder.iterdir())) == left


def test_a_run_that_is_trained_is_listed_as_running_and_not_deleted(folder: Path, config) -> None:
    run = folder / dataclasses.replace(config(name="between")).run_name
    with locked(run):
        assert listed(folder, "--state", "running") == ["between"]
        result = call("runs", "--out", str(folder), "delete", "--yes", "*")
    assert result.exit_code == 2 and f"{run.name} is being trained" in result.stderr
    assert len(list(folder.iterdir())) == 4, "the others were kept too"
