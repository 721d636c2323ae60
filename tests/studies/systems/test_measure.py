"""From runs, and from a campaign's table of results, to the same kind of result."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import moe_analysis as ma
from moe_analysis.campaigns.table import PER_DATASET, ResultsError, write_rows
from moe_analysis.studies import systems
from moe_analysis.studies.systems.explore_tasks import task_widget
from moe_analysis.studies.systems.scores import OUTSIDE, scores, task_differences
from moe_analysis.studies.systems.stored import stored_scores
from moe_analysis.tasks import SuiteError, load_suite, task_roles
from moe_analysis.tasks.baselines import baselines
from moe_analysis.training.config import TrainConfig
from tests.drawing.test_explorer import picture

from .test_scores import INSIDE_TASKS, OOD_TASKS, compare

SHOWN = ("LoRA", "LoRA-MoE", "SiRA", "mix-and-match", "T-REX")
ROWS = 40
ROLES = task_roles("embedded", pd.DataFrame({"dataset": INSIDE_TASKS}))
measuring = import_module("moe_analysis.studies.systems.measure")  # its package has a function of that name


@pytest.fixture
def runs(monkeypatch):
    """Runs that were never trained, with what would be evaluated of them."""
    found, transferred = compare({"T-REX": 0.1}, methods=SHOWN, seeds=range(3))
    adapter = ma.MoeLoraConfig(num_experts=4, r=2, target_modules=["q_proj"])
    for run in found:
        vars(run.config).update(backbone="compact", adapter=adapter, eval_rows=5, steps=7)
    levels = {"chance": 0.1, "majority": 0.1, "untrained": 0.2, "untrained_loss": 2.0, "kind": "choices", "rows": 50}

    def levels_on(run, suite, rows):
        assert rows == 5
        return pd.DataFrame({"dataset": list(INSIDE_TASKS if suite == "embedded" else OOD_TASKS), **levels})

    monkeypatch.setattr(measuring, "evaluate_all", lambda *asked: transferred)
    monkeypatch.setattr(measuring, "levels_on", levels_on)
    return found


def stored_row(system: str, seed: int, right: float, stage: str = "final", cell: str = "a", **more) -> dict:
    """A row of a campaign's table: a run that answers a share of its rows right, drawn by its seed and system."""
    rng = np.random.default_rng([seed, len(system), stage == "tune"])
    inside = list(INSIDE_TASKS)
    names = inside if stage == "tune" else [*inside, *OOD_TASKS]
    outcomes = [np.packbits(rng.random(ROWS) < right).tobytes() for _ in names]
    tested = {"holdout_rows": ROWS} if stage == "tune" else {"transfer_suites": ["embedded_ood"]}
    adapter = ma.MoeLoraConfig(num_experts=4, r=2, target_modules=["q_proj"])
    config = TrainConfig(adapter=adapter, steps=9, seed=seed, **tested)
    return {
        "study": "trial",
        "stage": stage,
        "system": system,
        "seed": seed,
        "run": f"{system}-s{seed}-{stage}-{cell}",
        "configuration": f"{stage} {cell} of {system}",
        "config": json.dumps(config.to_dict()),
        "suites": ["embedded"] * 5 + ["embedded_ood"] * (len(names) - 5),
        "datasets": names,
        "kinds": ["choices"] * len(names),
        "rows": [ROWS] * len(names),
        "rows_digests": [f"rows of {name}" for name in names],
        "losses": [1.0] * len(names),
        "correct": outcomes,
        "correct_norm": outcomes,
        "roles": [ROLES.get(name, "ood") for name in names],
        "chances": [0.1] * len(names),
        "majorities": [0.2] * len(names),
        "curve_steps": [],
        "curve_loss": [],
        "curve_norm": [],
        "steps": 9,
        "seconds": 1.0,
        "machine": "a processor",
        "versions": "{}",
        "backbone_sha256": "0" * 64,
        **more,
    }


def table_of(**shares: float) -> pd.DataFrame:
    final = [stored_row(system.replace("_", "-"), seed, right) for system, right in shares.items() for seed in range(4)]
    tuned = [
        stored_row(name, 100, right, "tune", cell) for name in ("LoRA",) for cell, right in (("a", 0.3), ("b", 0.7))
    ]
    return pd.DataFrame([*tuned, *final])


def test_runs_become_a_result_that_draws_and_judges_itself(runs):
    found = ma.papers.trex_fig3(runs)
    assert found.methods == list(SHOWN) and found.origin.startswith("15 runs of 3 seeds, 7 steps each")
    assert set(found.numbers) >= {"costs", "levels", "summary", "guessing", "gains", "pairs", "losses"}
    assert isinstance(found.plot(), Figure) and found.interactive().data
    assert found.judged[0].parts[0].verdict in ("reproduced", "undecided")
    by_task = found.by_task
    assert by_task.scores is found.scores and by_task.runs == found.runs
    assert set(by_task.numbers) == {"accuracy", "loss"} and by_task.widget().controls
    assert isinstance(by_task.plot(), Figure) and len(by_task.judged) == 2 * 3


def test_the_map_of_tasks_and_an_own_adapter_are_measured_alike(runs):
    pd.testing.assert_frame_equal(ma.papers.comparison_tasks(runs).scores, ma.papers.trex_fig3(runs).scores)
    own = ma.papers.own_adapter(runs, "SiRA")
    assert list(own.numbers) == ["costs", "summary", "pairs"] and own.item == "own_adapter"
    assert len(own.judged) == 3 and len(own.judged[0].parts) == 4
    with pytest.raises(ValueError, match="name = 'mine' has no run; choose one of LoRA"):
        systems.measure_adapter(runs, "mine")


def test_runs_of_two_suites_are_refused_before_anything_is_evaluated(runs, monkeypatch):
    monkeypatch.setattr(measuring, "evaluate_all", lambda *asked: pytest.fail("evaluated"))
    runs[0].config.suite = "another"
    with pytest.raises(ValueError, match="runs are of the suites another, embedded"):
        systems.measure(runs)


@pytest.mark.parametrize("form", ["path", "rows", "frame of results"])
def test_a_table_of_results_becomes_the_same_kind_of_result(form, tmp_path):
    rows = table_of(LoRA=0.5, LoRA_MoE=0.6, T_REX=0.9)
    given = {"path": tmp_path / "trial.parquet", "rows": rows, "frame of results": long(rows)}[form]
    write_rows(tmp_path / "trial.parquet", rows.to_dict("records"))
    found = systems.measure_table(given)
    assert found.methods == ["LoRA", "LoRA-MoE", "T-REX"] and not found.runs
    assert found.stored == ("trial.parquet" if form == "path" else "trial")
    assert found.origin.startswith("12 runs of 4 seeds") and "drawn from the stored results trial" in found.origin
    assert set(found.scores["part"]) == {"originals", "variants", OUTSIDE} and len(found.scores) == 3 * 4 * 9
    expected = np.unpackbits(np.frombuffer(rows.iloc[-1]["correct"][0], np.uint8)).mean()
    last = found.scores.query("method == 'T-REX' and seed == 3 and dataset == @INSIDE_TASKS[0]")
    assert last["accuracy"].item() == pytest.approx(expected)
    assert found.judged[0].parts[0].verdict == "reproduced" and found.judged[0].parts[0].over.endswith("4 seeds")
    assert isinstance(found.plot(), Figure) and found.interactive().data
    assert found.by_task.stored == found.stored
    assert list(found.costs["trainable"]) == ([] if form == "frame of results" else [10240] * 3)


def long(rows: pd.DataFrame) -> pd.DataFrame:
    """As the `results` of a campaign gives it: without configurations."""
    from moe_analysis.studies.systems.stored import per_dataset

    return per_dataset(rows)


def test_tasks_are_left_out_by_the_best_cell_on_held_out_rows():
    found = stored_scores(table_of(LoRA=0.5, T_REX=0.9))
    assert found.held_out["configuration"].unique().tolist() == ["tune b of LoRA"]
    tasks = systems.measure_table(table_of(LoRA=0.99, T_REX=0.9)).tasks
    inside = tasks[tasks["part"] != OUTSIDE]
    assert inside["kept"].all() and inside["reference"].mean() == pytest.approx(0.7, abs=0.1)


def test_levels_are_those_of_the_table_or_of_its_suite_where_the_table_is_older():
    rows = table_of(LoRA=0.5, T_REX=0.9)
    assert systems.measure_table(rows).levels["chance"].eq(0.1).all()
    older = rows.drop(columns=["roles", "chances", "majorities"])
    found = systems.measure_table(older).levels.set_index("dataset")
    expected = baselines(load_suite("embedded")).loc[list(INSIDE_TASKS)]
    pd.testing.assert_series_equal(found.loc[list(INSIDE_TASKS), "majority"], expected["majority"])


def test_a_table_is_drawn_where_its_suite_is_not_and_an_older_one_names_it():
    away = {"suites": ["on another machine"] * len(INSIDE_TASKS)}
    rows = pd.DataFrame([moved(stored_row(name, seed, 0.5), away) for name in ("LoRA", "T-REX") for seed in (0, 1)])
    found = systems.measure_table(rows)
    assert set(found.scores["part"]) == {"originals", "variants"} and isinstance(found.plot(), Figure)
    with pytest.raises(SuiteError, match="on another machine"):
        systems.measure_table(rows.drop(columns=["roles", "chances", "majorities"]))


def moved(row: dict, change: dict) -> dict:
    """The row with its first suite alone, which another one is."""
    kept = {name: value[: len(INSIDE_TASKS)] if name in PER_DATASET else value for name, value in row.items()}
    return kept | change


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda rows: rows[rows["stage"] == "tune"], "trial has no final run; finish the campaign"),
        (
            lambda rows: pd.concat([rows, pd.DataFrame([stored_row("LoRA", 9, 0.5, cell="z")])]),
            "'LoRA' has the final configurations final a of LoRA, final z of LoRA",
        ),
        (
            lambda rows: pd.concat([rows, pd.DataFrame([stored_row("SiRA", 0, 0.5, rows_digests=["other"] * 9)])]),
            "data set 'add_small' of embedded was tested on different rows",
        ),
        (lambda rows: rows.drop(columns="correct"), "the table lacks correct; pass a campaign's table"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        systems.measure_table(change(table_of(LoRA=0.5, T_REX=0.9)))
    with pytest.raises(ValueError, match="measure = 'f1' is unknown; choose one of accuracy, accuracy_norm"):
        systems.measure_table(table_of(LoRA=0.5), measure="f1")


def test_a_table_of_another_version_and_one_that_is_not_there_are_refused_by_name(tmp_path):
    table_of(LoRA=0.5, T_REX=0.9).to_parquet(tmp_path / "trial.parquet")  # without the number of a schema
    with pytest.raises(ResultsError, match="trial.parquet has schema None of a table of results"):
        systems.measure_table(tmp_path / "trial.parquet")
    with pytest.raises(ResultsError, match="elsewhere.parquet.* has no table"):
        systems.measure_table(tmp_path / "elsewhere.parquet")


def configured(row: dict, **fields: float) -> dict:
    return {**row, "config": json.dumps({**json.loads(row["config"]), **fields})}


@pytest.mark.parametrize("method", ["LoRA", "LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA", "MoMOR", "S'MoRE", "T-REX"])
def test_final_runs_that_the_tuning_no_longer_chooses_are_never_pooled(method):
    rows = [
        configured(stored_row(method, 100, 0.3, "tune", "a"), lr=0.1),
        configured(stored_row(method, 100, 0.8, "tune", "b"), lr=0.2),
        *(configured(stored_row(method, seed, 0.1, cell="a"), lr=0.1) for seed in (0, 1)),
        *(configured(stored_row(method, seed, 0.9, cell="b"), lr=0.2) for seed in (0, 1)),
        *(stored_row("another", seed, 0.5) for seed in (0, 1)),
    ]
    found = systems.measure_table(pd.DataFrame(rows))
    own = found.scores[found.scores["method"] == method]
    assert len(own) == 2 * 9 and own["accuracy"].mean() > 0.8
    assert f"2 final runs of {method} at lr = 0.1 left out: the tuning chose lr = 0.2" in found.origin


def tuned(best: float, rates: tuple[float, ...] = (0.001, 0.01, 0.1)) -> pd.DataFrame:
    """Two systems over one grid of rates and two rates of the router, of which one is right more often."""
    rows = []
    for method in ("LoRA", "T-REX"):
        for lr in rates:
            for router_lr in (None, lr / 10):
                right = 0.9 if lr == best and router_lr is None else 0.4
                row = stored_row(method, 100, right, "tune", f"{lr} {router_lr}")
                rows.append(configured(row, lr=lr, router_lr=router_lr))
        rows += [configured(stored_row(method, seed, 0.8), lr=best) for seed in (0, 1)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("best", "end"), [(0.001, "least"), (0.01, ""), (0.1, "most")])
def test_the_whole_grid_is_shown_and_a_choice_at_its_end_is_told(best, end):
    found = systems.measure_table(tuned(best)).rates
    assert len(found.tuning) == 2 * 3 * 2 and set(found.tuning["router_multiplier"]) == {1, 0.1}
    assert found.chosen["lr"].tolist() == [best] * 2 and found.chosen["end"].tolist() == [end] * 2
    assert found.chosen["router_multiplier"].tolist() == [1, 1] and found.chosen["trials"].tolist() == [6, 6]
    assert found.judged[0].verdict == ("fails" if end else "holds")
    assert (
        found.origin
        == "12 runs of 1 seed, 9 steps each, by rows held out of train; drawn from the stored results trial"
    )
    assert isinstance(found.plot(), Figure) and len(found.interactive().data) == 2 * 2 + 1


def test_a_table_without_tuning_has_no_figure_of_it():
    rows = table_of(LoRA=0.5, T_REX=0.9)
    found = systems.measure_table(rows[rows["stage"] == "final"])
    with pytest.raises(ValueError, match="trial has no tuning"):
        _ = found.rates


def test_the_prompt_form_stands_in_the_caption():
    rows = table_of(LoRA=0.5, T_REX=0.9)
    assert "prompt form options" in systems.measure_table(rows).origin
    cloze = pd.DataFrame([configured(row, prompt_form="cloze") for row in rows.to_dict("records")])
    assert "prompt form cloze" in systems.measure_table(cloze).origin


def with_base(rows: pd.DataFrame, **more) -> pd.DataFrame:
    base = stored_row("base model", 0, 0.4, stage="base", **more)
    return pd.concat([pd.DataFrame([base]), rows], ignore_index=True)


def test_the_base_model_of_a_table_is_what_learning_is_held_against():
    found = systems.measure_table(with_base(table_of(LoRA=0.2, T_REX=0.9)))
    assert "base model" not in found.methods and found.levels["untrained"].notna().all()
    words = found.learning.groupby("method")["learning"].unique().map(set).to_dict()
    assert words["T-REX"] == {"above the base model"} and "not above the base model" in words["LoRA"]
    row = found.learning.iloc[0]
    assert row["gain"] == pytest.approx(row["accuracy"] - row["base"]) and row["seeds"] == 4
    assert found.gains.query("method == 'T-REX'")["difference"].gt(0).all()
    assert "learning" in found.tables and "learned" in found.numbers
    assert isinstance(found.plot(), Figure) and found.interactive().data


@pytest.mark.parametrize("table", ["without a base model", "with one of other rows"])
def test_learning_is_unknown_where_no_base_model_was_tested_on_these_rows(table):
    rows = table_of(LoRA=0.2, T_REX=0.9)
    if table == "with one of other rows":
        rows = with_base(rows, rows_digests=["of other rows"] * 9)
    found = systems.measure_table(rows)
    assert set(found.learning["learning"]) == {"no base model on these rows"}
    assert found.levels["untrained"].isna().all()


# the knobs


@pytest.fixture(scope="module")
def accuracies() -> pd.DataFrame:
    return scores(*compare({"T-REX": 0.05}, methods=("LoRA", "SiRA", "T-REX"), seeds=range(3)))


def test_the_reference_and_the_part_change_the_differences(accuracies):
    explorer = task_widget(accuracies, part="all parts")
    before = picture(explorer)
    explorer.controls["against"].value = "SiRA"
    explorer.controls["part"].value = OUTSIDE
    expected = task_differences(accuracies[accuracies["part"] == OUTSIDE], "SiRA")
    for method in ("LoRA", "T-REX"):
        rows = expected[expected["method"] == method]
        assert (
            f"{method}: {100 * rows['difference'].mean():+.1f} points against SiRA over {len(rows)} tasks; "
            f"interval above 0 on {(rows['low'] > 0).sum()}, below on {(rows['high'] < 0).sum()}"
        ) in explorer.note.value
    assert picture(explorer).shape != before.shape  # fewer tasks, a lower map


def test_a_part_is_shown_first_for_all_of_them_take_longer(accuracies):
    explorer = task_widget(accuracies)
    against, part = explorer.values
    assert (against, part) == ("LoRA", "originals")
    assert explorer.note.value.count(f"over {accuracies.query('part == @part')['dataset'].nunique()} tasks") == 2


def test_systems_and_parts_without_scores_are_refused(accuracies):
    with pytest.raises(ValueError, match="against = 'MixLoRA' is unknown; choose one of LoRA, SiRA, T-REX"):
        task_widget(accuracies, "MixLoRA")
    with pytest.raises(ValueError, match="part = 'elsewhere' is unknown"):
        task_widget(accuracies, part="elsewhere")
