from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import transformers
import yaml
from typer.testing import CliRunner

import moe_analysis as ma
from moe_analysis.__main__ import app, main
from moe_analysis.theory.claim import CHECKS, Claim

FIELDS = {"name", "source", "statement", "measured", "expected", "residual", "holds"}


def call(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """One claim in place of all, whose verdict the test sets."""
    import moe_analysis.theory  # noqa: F401  fills the registry first

    verdict = {"holds": True}

    def only_claim(seed: int = 0) -> Claim:
        return Claim("only_claim", "a paper", "1 = 1", 1, 1, 0.0, verdict["holds"])

    for name in list(CHECKS):
        monkeypatch.delitem(CHECKS, name)
    monkeypatch.setitem(CHECKS, "only_claim", only_claim)
    return verdict


def test_verify_prints_claims_as_json_and_exits_by_their_verdict(claims: dict[str, bool]) -> None:
    result = call("verify", "--json")
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert set(listed[0]) == FIELDS and listed[0]["holds"] is True
    assert "only_claim" in call("verify").stdout
    claims["holds"] = False
    assert call("verify").exit_code == 1 and call("verify", "--json").exit_code == 1


def test_verify_stores_the_verdicts_for_the_index_of_papers(claims: dict[str, bool], tmp_path: Path) -> None:
    assert call("verify", "--save", str(tmp_path / "new")).exit_code == 0
    stored = (tmp_path / "new" / "verify.csv").read_text().splitlines()
    assert stored == ["name,source,statement,verdict", "only_claim,a paper,1 = 1,holds"]


def test_verify_of_some_claims_keeps_the_stored_verdicts_of_the_others(claims: dict[str, bool], tmp_path: Path) -> None:
    head, first, last = "name,source,statement,verdict", "a_claim,a paper,x,holds", "z_claim,a paper,y,fails"
    path = tmp_path / "verify.csv"
    path.write_text("\n".join([head, first, "only_claim,a paper,1 = 1,fails", last]))
    assert call("verify", "--only", "only_*", "--save", str(tmp_path)).exit_code == 0
    assert path.read_text().splitlines() == [head, first, "only_claim,a paper,1 = 1,holds", last]
    assert call("verify", "--save", str(tmp_path)).exit_code == 0
    assert path.read_text().splitlines() == [head, "only_claim,a paper,1 = 1,holds"], "all claims replace all rows"


def test_verify_refuses_a_folder_that_cannot_be_written_before_it_checks(tmp_path: Path, monkeypatch) -> None:
    def never(seed: int = 0) -> Claim:
        raise AssertionError("checked in vain")

    monkeypatch.setitem(CHECKS, "never", never)
    (tmp_path / "file").write_text("")
    refused = call("verify", "--only", "never", "--save", str(tmp_path / "file"))
    assert refused.exit_code == 2 and "--save" in refused.stderr and "cannot be written" in refused.stderr
    assert call("verify", "--only", "no_claim", "--save", str(tmp_path / "new")).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("option", "told"), [("--out", "cannot be written"), ("--runs", "is not a folder")])
def test_figures_refuse_a_folder_that_is_none_before_a_notebook_starts(
    option: str, told: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("moe_analysis.figures.regenerate", lambda *_: pytest.fail("a notebook was started"))
    (tmp_path / "file").touch()
    refused = call("figures", "--only", "trex_fig2", "--preset", "tiny", option, str(tmp_path / "file"))
    assert refused.exit_code == 2 and option in refused.stderr and told in refused.stderr


def test_train_and_runs_go_from_a_json_file_to_a_listed_run(tmp_path: Path, training_config) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(training_config.to_dict()))
    result = call("train", str(path), "--out", str(tmp_path / "runs"), "--json")
    assert result.exit_code == 0, result.output
    assert transformers.logging.is_progress_bar_enabled()
    run = ma.Run.load(json.loads(result.stdout)["path"])
    assert run.finished
    listing = call("runs", "--out", str(tmp_path / "runs")).stdout
    assert "finished" in listing and "moelora" in listing


@pytest.fixture
def grid_file(tmp_path: Path, training_config) -> str:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"base": training_config.to_dict()}))
    return str(path)


def test_an_interrupted_sweep_says_how_to_go_on(grid_file: str, tmp_path: Path, monkeypatch) -> None:
    def interrupt(*_, **__) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moe_analysis.training.sweep.running.sweep", interrupt)
    result = call("sweep", grid_file, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 130 and "resume from the last checkpoints" in result.stderr


def test_a_sweep_on_workers_that_cannot_be_had_trains_nothing(grid_file: str, tmp_path: Path) -> None:
    result = call("sweep", grid_file, "--out", str(tmp_path / "runs"), "--executor", "spark")
    assert result.exit_code == 2 and "choose one of process, dask, submitit" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_runs_lists_a_failed_run_and_one_that_stopped(tmp_path: Path, training_config) -> None:
    for seed, note in ((0, "config.json"), (1, "failure.txt")):
        config = dataclasses.replace(training_config, seed=seed)
        folder = tmp_path / config.run_name
        folder.mkdir()
        (folder / note).touch()
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
    first, second = [line for line in call("runs", "--out", str(tmp_path)).stdout.splitlines() if "-s" in line]
    assert "stopped" in first and "failed" in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "missing.yaml"), "missing.yaml is missing; pass a YAML file"),
        (("figures", "--preset", "huge"), "preset = 'huge' is unknown; choose one of tiny, quick, long, full"),
        (("figures", "--only", "fig9"), "only = fig9 is unknown"),
        (("figures", "--suite", "nowhere"), "MOE_ANALYSIS_DATA"),
        (("train", "missing.json"), "missing.json"),
    ],
)
def test_errors_are_one_message_without_a_traceback(arguments, message, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["moe_analysis", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, told = capsys.readouterr()
    printed = " ".join(told.split())
    assert stopped.value.code == 2 and message in printed and "Traceback" not in printed and out == ""
