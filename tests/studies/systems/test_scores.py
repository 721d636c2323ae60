"""The tidy frames of systems whose differences are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from moe_analysis.evidence.bootstrap import holm, paired_bootstrap
from moe_analysis.studies.systems.scores import (
    against_level,
    comparisons,
    levels,
    part_summary,
    scores,
    task_differences,
)

NINE = ("LoRA", "LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA", "MoMOR", "S'MoRE", "mix-and-match", "T-REX")
INSIDE_TASKS = ("add_small", "reverse_list", "where_is", "add_small_one_over", "where_is_one_step_late")
OOD_TASKS = ("sum_of_three", "second_in_list", "swap_tracking", "object_order")


def find_pair(pairs: pd.DataFrame, part: str, method: str, against: str) -> dict:
    """One row of `comparisons`, turned round where it stands the other way."""
    inside = pairs[pairs["part"] == part]
    own = inside[(inside["method"] == method) & (inside["against"] == against)]
    if len(own):
        return own.iloc[0].to_dict()
    row = inside[(inside["method"] == against) & (inside["against"] == method)].iloc[0]
    return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def table(names, accuracy, loss=None, rows=50) -> pd.DataFrame:
    losses = np.ones(len(names)) if loss is None else loss
    return pd.DataFrame(
        {"dataset": list(names), "group": "g", "kind": "choices", "rows": rows, "loss": losses, "accuracy": accuracy}
    )


def compare(gains=None, seeds=range(5), base=0.5, noise=0.01, methods=NINE, suite="embedded"):
    """Runs and their transferred tables: accuracy `base` and the method's gain, task and seed effects, a little noise.

    The effects of tasks and seeds are the same for all methods, as when the data are.
    """
    rng = np.random.default_rng(0)
    tasks, shared = rng.normal(0, 0.1, 9), rng.normal(0, 0.02, 50)
    runs, transferred = [], []
    for method in methods:
        for seed in seeds:
            accuracy = base + tasks + shared[seed] + (gains or {}).get(method, 0.0) + noise * rng.standard_normal(9)
            config = SimpleNamespace(name=method, seed=seed, suite=suite, system="lora")
            runs.append(SimpleNamespace(config=config, evaluation=table(INSIDE_TASKS, accuracy[:5], 1 - accuracy[:5])))
            transferred.append(table(OOD_TASKS, accuracy[5:], 1 - accuracy[5:]))
    return runs, transferred


def levels_of(chance=0.1, untrained=0.2):
    def of(names):
        return pd.DataFrame(
            {
                "dataset": list(names),
                "kind": "choices",
                "rows": 50,
                "chance": chance,
                "majority": [chance + 0.05, *[chance - 0.05] * (len(names) - 1)],
                "untrained": untrained,
                "untrained_loss": 2.0,
            }
        )

    return levels(of(INSIDE_TASKS), of(OOD_TASKS))


@pytest.fixture(scope="module")
def clear():
    """Scores, comparisons and summary of nine methods: T-REX ten points above the others, S'MoRE ten below."""
    frame = scores(*compare({"T-REX": 0.1, "S'MoRE": -0.1}))
    return frame, comparisons(frame), part_summary(frame)


# the frames


def test_every_score_stands_under_its_part():
    frame = scores(*compare(methods=("LoRA", "T-REX"), seeds=(0, 1)))
    places = frame.groupby("part", sort=False)["dataset"].unique().apply(tuple).to_dict()
    assert places == {"originals": INSIDE_TASKS[:3], "variants": INSIDE_TASKS[3:], "ood": OOD_TASKS}
    assert len(frame) == 2 * 2 * 9 and list(frame["method"].unique()) == ["LoRA", "T-REX"]


def test_a_suite_that_names_no_roles_is_in_distribution(tmp_path):
    runs, transferred = compare(methods=("LoRA",), suite=str(tmp_path))
    assert list(scores(runs, transferred)["part"].unique()) == ["in-distribution", "ood"]
    assert list(part_summary(scores(runs))["part"].unique()) == ["in-distribution"]


def test_other_rows_at_one_seed_are_refused():
    runs, transferred = compare(methods=("LoRA",), seeds=(0, 1))
    transferred[1].loc[0, "rows"] = 49
    with pytest.raises(ValueError, match=r"'sum_of_three' \(ood\) has \[49, 50\] test rows in 2 of 2 runs"):
        scores(runs, transferred)
    with pytest.raises(ValueError, match="transferred holds 1 tables for 2 runs"):
        scores(runs, transferred[:1])


def test_originals_and_variants_together_are_in_distribution():
    runs, transferred = compare(methods=("LoRA",), seeds=(0, 1, 2))
    summary = part_summary(scores(runs, transferred)).set_index(["measure", "part"])
    means = [run.evaluation["accuracy"].mean() for run in runs]
    row = summary.loc[("accuracy", "in-distribution")]
    half = t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
    assert row["mean"] == pytest.approx(np.mean(means)) and row["tasks"] == 5 and row["seeds"] == 3
    assert [row["low"], row["high"]] == pytest.approx([np.mean(means) - half, np.mean(means) + half])


def test_comparisons_hold_every_pair_of_every_part_and_their_bootstrap(clear):
    frame, pairs, _ = clear
    assert len(pairs) == 36 * 4 and list(pairs["part"].unique()) == ["originals", "variants", "in-distribution", "ood"]
    row = find_pair(pairs, "ood", "T-REX", "LoRA")
    arrays = [
        frame[(frame["method"] == method) & (frame["part"] == "ood")]
        .pivot(index="dataset", columns="seed", values="accuracy")
        .sort_index()
        .to_numpy()
        for method in ("T-REX", "LoRA")
    ]
    expected = paired_bootstrap(*arrays)
    assert row["difference"] == pytest.approx(expected.difference) and row["tasks"] == 4 and row["seeds"] == 5
    assert row["low"] == pytest.approx(expected.low) and row["p"] == expected.p
    for _, rows in pairs.groupby("part"):
        np.testing.assert_allclose(rows["p_holm"], holm(rows["p"]))


def test_a_reference_stands_first_and_keeps_the_correction_over_all_pairs(clear):
    frame, pairs, _ = clear
    own = comparisons(frame, "S'MoRE")
    assert len(own) == 8 * 4 and set(own["method"]) == {"S'MoRE"}
    for row in own.to_dict("records"):
        same = find_pair(pairs, row["part"], "S'MoRE", row["against"])
        assert (row["difference"], row["p_holm"]) == pytest.approx((same["difference"], same["p_holm"]))
    with pytest.raises(ValueError, match="reference = 'DoRA' has no run; choose one of 'LoRA'"):
        comparisons(frame, "DoRA")


def test_only_seeds_that_both_methods_have_are_paired():
    first, second = compare(methods=("LoRA",), seeds=(0, 1, 2, 3)), compare(methods=("SiRA",), seeds=(2, 3, 4))
    pairs = comparisons(scores([*first[0], *second[0]][:3] + first[0][3:] + second[0]))
    assert set(pairs["seeds"]) == {2}
    with pytest.raises(ValueError, match="'LoRA' and 'SiRA' share 0 seeds"):
        comparisons(scores(first[0][:2] + second[0]))


def test_one_seed_gives_a_difference_and_no_verdict():
    pairs = comparisons(scores(*compare({"T-REX": 0.2}, seeds=(0,), methods=("LoRA", "T-REX"))), "T-REX")
    assert (pairs["difference"] > 0.15).all() and pairs[["low", "high", "p", "p_holm"]].isna().all(axis=None)


def test_a_level_is_that_of_the_same_task():
    frame, table = scores(*compare({"T-REX": 0.1}, methods=("LoRA", "T-REX"))), levels_of()
    assert table["guess"].tolist() == pytest.approx([0.15, *[0.1] * 4, 0.15, *[0.1] * 3])
    gain = against_level(frame, table, "untrained").set_index(["part", "method"])
    mean = frame[(frame["part"] == "ood") & (frame["method"] == "LoRA")]["accuracy"].mean()
    assert gain.loc[("ood", "LoRA"), "difference"] == pytest.approx(mean - 0.2)
    assert gain.loc[["originals", "in-distribution", "ood"], "above"].all()
    assert not gain.loc[("variants", "LoRA"), "above"]  # two tasks tell too little of others like them
    assert not against_level(frame, levels_of(untrained=0.9), "untrained")["above"].any()
    with pytest.raises(ValueError, match="table has no guess of ood/object_order"):
        against_level(frame, table.iloc[:-1])


def test_chance_of_a_free_answer_is_zero():
    assert levels_of(chance=np.nan)["chance"].eq(0.0).all()


def test_differences_by_task_are_paired_by_seed():
    frame = scores(*compare({"SiRA": 0.05}, noise=0.0, methods=("LoRA", "SiRA")))
    found = task_differences(frame)
    assert len(found) == 9 and set(found["method"]) == {"SiRA"}
    np.testing.assert_allclose(found[["difference", "low", "high"]], 0.05)  # the seeds' own effects cancel
    lora = frame[frame["method"] == "LoRA"].groupby("dataset")["accuracy"].mean()
    np.testing.assert_allclose(found["base"], lora.loc[found["dataset"]])
