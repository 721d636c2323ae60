"""A campaign from its first run to its table: in any number of calls, on any number of machines, with the same rows."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import moe_analysis as ma
from moe_analysis.backbones import load_tokenizer
from moe_analysis.campaigns import running
from moe_analysis.campaigns.campaign import Campaign
from moe_analysis.campaigns.endpoints import endpoint_table, system_means
from moe_analysis.campaigns.files import campaign_of
from moe_analysis.campaigns.results import result_runs, results
from moe_analysis.campaigns.row import planned_row, rows_digest
from moe_analysis.campaigns.running import CampaignRun, run_campaign
from moe_analysis.campaigns.table import ResultsError, merge_tables, read_rows, write_rows
from moe_analysis.campaigns.tuning import chosen_cells, tuning_table
from moe_analysis.training.evaluation import row_numbers
from moe_analysis.training.files import FINISHED, RunError
from moe_analysis.training.prepare import fitting_rows
from moe_analysis.training.sweep import work
from moe_analysis.training.sweep.running import SweepStatus, display
from moe_analysis.training.sweep.work import Outcome
from moe_analysis.training.transfer import levels_on
from tests.campaigns.made_up_campaigns import sections_of

# where and how long a run was trained is no outcome of it
OUTCOMES = ("configuration", "seed", "stage", "system", "datasets", "rows_digests", "correct", "losses", "curve_loss")


@pytest.fixture
def campaign(backbone: str, suite: str) -> Campaign:
    return campaign_of(sections_of(backbone, suite))


@contextmanager
def unwatched(*_: Any):
    yield lambda name, outcome: None


def run(campaign: Campaign, folder: Path, **options: Any) -> CampaignRun:
    with ThreadPoolExecutor(1) as pool:
        return run_campaign(campaign, folder / "trial.parquet", folder / "runs", unwatched, pool, **options)


def outcomes(path: Path) -> list[tuple]:
    return sorted(tuple(str(row[name]) for name in OUTCOMES) for row in read_rows(path))


@pytest.fixture(scope="module")
def whole(backbone: str, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the campaign that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(campaign_of(sections_of(backbone, suite)), folder)
    assert not (done.failures or done.left or done.untuned or done.unwritten or done.differences)
    return folder


@pytest.fixture
def known(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To train a run is to copy its folder from `whole`, for what is about the order of runs and the table alone."""

    def copied(config: ma.TrainConfig, out: Path, permit: str | None = None) -> None:
        shutil.copytree(whole / "runs" / config.run_name, out / config.run_name, dirs_exist_ok=True)

    monkeypatch.setattr(work, "train_alone", copied)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"per_job": 0}, "per_job = 0 must be at least 1"),
        ({"workers": 0}, "workers = 0 must be at least 1"),
        ({"time_limit": -1.0}, "time_limit = -1.0 must be a positive number of seconds"),
        ({"part": (0, 2)}, r"part = \(0, 2\) must be \(k, n\) with k from 1 to n"),
        ({"part": (3, 2)}, r"part = \(3, 2\) must be"),
    ],
)
def test_what_no_stage_could_be_trained_with_is_refused_before_the_base_model_is_scored(
    options: dict[str, Any], told: str, campaign: Campaign, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        run(campaign, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("table", "out"), [("file/trial.parquet", "runs"), ("trial.parquet", "file")])
def test_folders_that_cannot_be_written_are_refused_before_the_base_model_is_scored(
    table: str, out: str, campaign: Campaign, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(running, "base_row", lambda *_: pytest.fail("the base model was scored"))
    (tmp_path / "file").touch()
    with ThreadPoolExecutor(1) as pool, pytest.raises((ResultsError, RunError), match="cannot be written"):
        run_campaign(campaign, tmp_path / table, tmp_path / out, unwatched, pool)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_variables_that_no_run_could_be_trained_with_are_refused_before_the_base_model_is_scored(
    campaign: Campaign, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ValueError, match="ACCELERATE_MIXED_PRECISION = 'bf16' but precision = 'float32'"):
        run(campaign, tmp_path)
    assert list(tmp_path.iterdir()) == []
    shutil.copy(whole / "trial.parquet", tmp_path)
    assert run(campaign, tmp_path) == CampaignRun()  # nothing is left to train


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rows_digests": ["0123456789"] * 2}, "would have runs with different test rows"),
        ({"backbone_sha256": "0" * 64}, "would have runs with different weights of the backbone"),
    ],
)
@pytest.mark.parametrize("kept", [slice(0, 1), slice(1, 3)], ids=["base model", "tuning"])
def test_a_table_of_other_rows_or_weights_is_refused_before_anything_is_scored_or_trained(
    kept: slice, changed: dict, told: str, campaign: Campaign, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    rows = [row | changed for row in read_rows(whole / "trial.parquet")[kept]]
    write_rows(tmp_path / "trial.parquet", rows)
    before = (tmp_path / "trial.parquet").read_bytes()
    for name in ("base_row", "train_stage"):
        monkeypatch.setattr(running, name, lambda *_: pytest.fail("something was scored or trained"))
    with pytest.raises(ResultsError, match=told):
        run(campaign, tmp_path)
    assert not (tmp_path / "runs").exists() and (tmp_path / "trial.parquet").read_bytes() == before


def test_what_is_planned_of_a_run_is_what_its_row_says(campaign: Campaign, whole: Path) -> None:
    rows = {row["run"]: row for row in read_rows(whole / "trial.parquet")}
    for config in (campaign.base_config(), *campaign.tuning_configs()):
        row = rows[config.run_name]
        planned = planned_row(config, row["backbone_sha256"])
        assert planned | {"study": row["study"], "stage": row["stage"]} == {name: row[name] for name in planned}


@pytest.mark.parametrize("stage", ["systems", "tune"])
def test_a_system_that_does_not_fit_the_backbone_is_refused_before_the_base_model_is_scored(
    stage: str, backbone: str, suite: str, tmp_path: Path, monkeypatch
) -> None:
    sections = sections_of(backbone, suite)
    if stage == "systems":
        sections["systems"]["LoRA"]["adapter"]["target_modules"] = ["qq"]
    else:
        sections["tune"]["grid"]["adapter.target_modules"] = [["q_proj"], ["qq"]]
    monkeypatch.setattr(running, "base_row", lambda *_: pytest.fail("the base model was scored"))
    with pytest.raises(ValueError, match=r"\['qq'\] are not in the model"):
        run(campaign_of(sections), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_come_in_an_order_of_which_every_part_is_balanced(whole: Path) -> None:
    runs = result_runs(whole / "trial.parquet")
    assert runs["stage"].tolist() == ["base"] + ["tune"] * 4 + ["final"] * 4
    assert runs["system"].tolist() == ["base model"] + ["LoRA", "MixLoRA"] * 4
    assert runs["seed"].tolist() == [0] + [100] * 4 + [0, 0, 1, 1]
    assert [len(curve) for curve in runs["curve_loss"]] == [0] + [2] * 4 + [3] * 4


def test_a_damaged_run_in_the_folder_fails_alone(campaign: Campaign, tmp_path: Path, known) -> None:
    damaged = campaign.tuning_configs()[0]
    (tmp_path / "runs" / damaged.run_name).mkdir(parents=True)
    (tmp_path / "runs" / damaged.run_name / "status.json").write_text("{x")
    done = run(campaign, tmp_path)
    assert list(done.failures) == [damaged.run_name] and "status.json" in done.failures[damaged.run_name].error
    assert done.untuned == [damaged.name] and not (done.left or done.unwritten)
    assert len(read_rows(tmp_path / "trial.parquet")) == 1 + 3 + 2  # base, tuning, and the other system's final runs


def test_the_curve_is_the_tasks_loss_without_balance_losses(whole: Path) -> None:
    row = next(row for row in read_rows(whole / "trial.parquet") if row["system"] == "MixLoRA")
    history = ma.Run.load(whole / "runs" / row["run"]).history.query("split == 'train'")
    assert (history["balance_loss"] > 0).all()
    assert row["curve_loss"] == pytest.approx((history["loss"] - history["balance_loss"]).tolist(), rel=1e-5)
    assert row["curve_norm"] == pytest.approx(history["grad_norm"].tolist(), rel=1e-5)


def test_tuning_never_reads_a_test_row(whole: Path, suite: str) -> None:
    frame = ma.load_suite(suite)
    numbers = {split: set(row_numbers(rows)) for split, rows in frame.groupby("split")}
    stages: dict[str, set[int]] = {"tune": set(), "final": set()}
    for row in read_rows(whole / "trial.parquet")[1:]:  # the base model's is no run
        found = ma.Run.load(whole / "runs" / row["run"]).outcomes
        for place, (_, part) in enumerate(found.groupby("dataset", sort=False)):
            assert rows_digest(part["row"].to_numpy()) == row["rows_digests"][place]
        stages[row["stage"]] |= set(found["row"])
    assert stages["tune"] <= numbers["train"] - numbers["test"] and stages["final"] <= numbers["test"]


def test_what_tunes_has_no_part_in_its_training_rows(campaign: Campaign) -> None:
    for config in campaign.tuning_configs():
        rows, _ = fitting_rows(config, load_tokenizer(config.backbone))
        assert not set(row_numbers(rows["train"])) & set(row_numbers(rows["test"]))


def test_the_best_cell_by_the_held_out_rows_trains_the_final_runs(campaign: Campaign, whole: Path) -> None:
    rows = read_rows(whole / "trial.parquet")
    table, cells = tuning_table(campaign, rows), chosen_cells(campaign, rows)
    assert table.groupby("system")["runs"].sum().to_dict() == {"LoRA": 2, "MixLoRA": 2}
    for label, (lr, multiplier) in cells.items():
        mine = table[table["system"] == label]
        best = mine.sort_values(["accuracy", "loss"], ascending=[False, True], kind="stable").iloc[0]
        assert (best["lr"], best["router_multiplier"]) == (lr, multiplier) and best["chosen"]
        finals = [row for row in rows if row["system"] == label and row["stage"] == "final"]
        assert {f'"lr": {lr}' in row["config"] for row in finals} == {True}


def test_called_again_it_trains_nothing_though_the_runs_are_gone(
    campaign: Campaign, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copy(whole / "trial.parquet", tmp_path)
    monkeypatch.setattr(running, "train_stage", lambda *_: pytest.fail("something was trained"))
    assert run(campaign, tmp_path) == CampaignRun()
    assert (tmp_path / "trial.parquet").read_bytes() == (whole / "trial.parquet").read_bytes()


@pytest.mark.usefixtures("known")
def test_a_campaign_that_dies_anywhere_goes_on_to_the_same_table(
    campaign: Campaign, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    """It dies behind a run that is finished and not yet in the table, at every place in turn."""

    class Died(BaseException):
        """What no part of a sweep catches."""

    original = running.Ledger.enter

    def deadly(self, stage: str, config: ma.TrainConfig, diverged: bool = False) -> None:
        if config.run_name not in seen:
            seen.add(config.run_name)
            raise Died
        original(self, stage, config, diverged)

    seen: set[str] = set()
    monkeypatch.setattr(running.Ledger, "enter", deadly)
    for _ in range(9):  # the base model and eight runs
        with pytest.raises(Died):
            run(campaign, tmp_path)
    done = run(campaign, tmp_path)
    assert not done.left and not done.failures and len(seen) == 9
    assert outcomes(tmp_path / "trial.parquet") == outcomes(whole / "trial.parquet")


@pytest.mark.usefixtures("known")
def test_the_end_of_its_time_leaves_names_and_a_balanced_table(campaign: Campaign, whole: Path, tmp_path: Path) -> None:
    done = run(campaign, tmp_path, time_limit=1e-9)
    assert len(done.left) == 5 and not (tmp_path / "trial.parquet").exists()
    run(campaign, tmp_path)
    assert outcomes(tmp_path / "trial.parquet") == outcomes(whole / "trial.parquet")


def test_two_machines_that_share_no_disk_train_a_half_each(campaign: Campaign, whole: Path, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "two")]
    tables = [place / "trial.parquet" for place in places]
    for _ in range(2):  # tuning, then the final runs
        for number, place in enumerate(places, 1):
            run(campaign, place, part=(number, 2))
        for table in tables:
            merge_tables([one for one in tables if one != table], table)
    assert all(outcomes(table) == outcomes(whole / "trial.parquet") for table in tables)
    trained = [{path.name for path in (place / "runs").iterdir() if path.is_dir()} for place in places]
    assert not trained[0] & trained[1] and len(trained[0] | trained[1]) == 8


@pytest.mark.usefixtures("known")
def test_a_system_whose_tuning_lies_elsewhere_waits_for_it(campaign: Campaign, tmp_path: Path) -> None:
    done = run(campaign, tmp_path, part=(1, 2))
    found = {row["system"] for row in read_rows(tmp_path / "trial.parquet")}
    assert done.untuned == ["MixLoRA"] and found == {"base model", "LoRA"}


def test_a_changed_configuration_is_another_row(backbone: str, suite: str, whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / "trial.parquet", tmp_path)
    changed = campaign_of(sections_of(backbone, suite, final__changes={"steps": 4, "eval_rows": 4}))
    run(changed, tmp_path)
    rows = read_rows(tmp_path / "trial.parquet")
    assert [row["steps"] for row in rows if row["stage"] == "final"] == [3] * 4 + [4] * 4
    assert len(endpoint_table(changed, rows)) == 4 and system_means(changed, rows)["seeds"].tolist() == [0, 2, 2]
    assert [row["stage"] for row in rows].count("base") == 1  # tested on the same rows as before


@pytest.mark.usefixtures("known")
def test_a_run_that_the_table_could_not_take_is_named_and_taken_later(
    campaign: Campaign, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(running, "add_rows", full)
        done = run(campaign, tmp_path)
    assert len(done.unwritten) == 5 and "No space left" in next(iter(done.unwritten.values()))
    assert not run(campaign, tmp_path).unwritten
    assert outcomes(tmp_path / "trial.parquet") == outcomes(whole / "trial.parquet")


def test_endpoints_are_means_over_their_own_tasks(campaign: Campaign, whole: Path) -> None:
    rows = read_rows(whole / "trial.parquet")
    runs = result_runs(whole / "trial.parquet").query("stage == 'final'")
    table = endpoint_table(campaign, rows)
    assert table["tasks"].eq(2).all()
    np.testing.assert_allclose(table["accuracy"], runs["accuracy"])


def test_the_base_model_is_tested_on_the_rows_of_the_final_runs_before_anything_is_trained(whole: Path) -> None:
    base, *others = read_rows(whole / "trial.parquet")
    final = [row for row in others if row["stage"] == "final"]
    assert base["stage"] == "base" and base["steps"] == 0
    assert all(base[name] == row[name] for row in final for name in ("suites", "datasets", "rows", "rows_digests"))
    assert {row["backbone_sha256"] for row in others} == {base["backbone_sha256"]}


def test_the_base_model_answers_as_a_run_does_whose_adapter_is_off(whole: Path) -> None:
    base = results(whole / "trial.parquet").query("stage == 'base'").set_index("dataset")
    one = next(row for row in read_rows(whole / "trial.parquet") if row["stage"] == "final")
    loaded = ma.Run.load(whole / "runs" / one["run"])
    levels = levels_on(loaded, loaded.config.suite, loaded.config.eval_rows).set_index("dataset")
    np.testing.assert_allclose(base.loc[levels.index, "accuracy"], levels["untrained"])
    np.testing.assert_allclose(base.loc[levels.index, "loss"], levels["untrained_loss"], rtol=1e-5)


def test_other_test_rows_ask_for_another_base_model_and_other_training_does_not(backbone: str, suite: str) -> None:
    first, longer, fewer = (
        campaign_of(sections_of(backbone, suite, final__changes=changes)).base_config()
        for changes in ({"eval_rows": 4}, {"eval_rows": 4, "steps": 9, "lr": 1.0}, {"eval_rows": 3})
    )
    assert first.run_name == longer.run_name != fewer.run_name


def test_a_table_without_a_base_model_stays_readable(campaign: Campaign, whole: Path) -> None:
    rows = read_rows(whole / "trial.parquet")
    means = system_means(campaign, rows)
    assert means["system"].tolist() == ["base model", "LoRA", "MixLoRA"]
    old = system_means(campaign, rows[1:])
    assert old["system"].tolist() == ["LoRA", "MixLoRA"]
    np.testing.assert_allclose(old["all"], means["all"][1:])


@pytest.mark.usefixtures("known")
def test_a_base_model_that_cannot_be_scored_is_a_failure_that_stops_no_run(
    campaign: Campaign, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("the weights are gone")

    monkeypatch.setattr(running, "base_row", broken)
    done = run(campaign, tmp_path)
    (name, failure), *_ = done.failures.items()
    assert name.startswith("base model") and "the weights are gone" in failure.error and len(done.failures) == 1
    assert outcomes(tmp_path / "trial.parquet") == [
        row for row in outcomes(whole / "trial.parquet") if "base" not in row[2]
    ]


def test_a_run_that_diverges_is_the_worst_result_of_its_grid_and_no_failure(
    backbone: str, suite: str, tmp_path: Path
) -> None:
    sections = sections_of(backbone, suite, systems__LoRA=None, final__seeds=[0], tune__grid__lr=[0.01, 1e30])
    sections["base"] |= {"optimizer": "riemannian_sgd", "max_grad_norm": None}
    done = run(campaign_of(sections), tmp_path)
    assert not (done.failures or done.left or done.untuned or done.unwritten)
    rows = {(row["stage"], json.loads(row["config"])["lr"]): row for row in read_rows(tmp_path / "trial.parquet")}
    lost, kept = rows["tune", 1e30], rows["tune", 0.01]
    assert np.isnan(lost["losses"]).all() and not any(b"".join(lost["correct"])) and not lost["curve_loss"]
    for column in ("suites", "datasets", "kinds", "rows", "rows_digests", "backbone_sha256"):
        assert lost[column] == kept[column]
    assert ("final", 0.01) in rows and ("final", 1e30) not in rows
    assert run(campaign_of(sections), tmp_path).failures == {}  # nothing is tried again


def test_a_base_model_that_was_just_tested_is_told_without_scores(
    whole: Path, backbone: str, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = campaign_of(sections_of(backbone, suite))
    status = SweepStatus([campaign.base_config()], whole / "runs")
    with display(status, Console()) as tell:
        tell(campaign.base_config().run_name, Outcome(FINISHED))
    assert capsys.readouterr().out.rstrip().endswith(": finished")
