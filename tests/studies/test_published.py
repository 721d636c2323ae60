"""Published claims against a computation of their own: one of each stored table, from its bytes, with numpy and scipy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from moe_analysis.places import shipped
from moe_analysis.tasks.suite import DATA_FOLDER

LISTS = ["datasets", "rows", "correct", "losses"]  # one entry per data set
RATES = ["lr", "router_lr"]
# S'MoRE Table 2, Llama-3.2-1B, CommonsenseQA, and the accuracies of the reproduction of gR: percent
PRINTED = {"LoRA": 63.80, "MixLoRA (8)": 65.85, "S'MoRE (4-4)": 67.16, "RSGD": 71.18, "gRSGD": 77.79}


@cache
def table(name: str) -> pd.DataFrame:
    runs = pq.read_table(DATA_FOLDER / "results" / f"{name}.parquet").to_pandas()
    configs = pd.DataFrame([json.loads(one) for one in runs["config"]])
    return runs.join(configs[RATES].astype(float))


def by_task(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run and data set, with its accuracy and loss."""
    lines = runs.explode(LISTS, ignore_index=True).rename(columns={"datasets": "dataset"})
    bits = [np.unpackbits(np.frombuffer(one, np.uint8))[:rows] for one, rows in zip(lines["correct"], lines["rows"])]
    return lines.assign(accuracy=[one.mean() for one in bits], loss=lines["losses"].astype(float))


def finals(name: str, choose_by: str) -> pd.DataFrame:
    """The final runs at the rates that are best on rows held out of train; of equal cells, the one tried first."""
    runs = table(name)
    tried = by_task(runs[runs["stage"] == "tune"]).groupby(["system", *RATES], sort=False)[["accuracy", "loss"]].mean()
    key = tried["loss"] if choose_by == "loss" else -tried["accuracy"]
    best = tried.assign(key=key).sort_values(["key", "loss"]).reset_index().drop_duplicates("system")
    return runs[runs["stage"] == "final"].merge(best[["system", *RATES]])


def gaps(runs: pd.DataFrame, better: str, worse: str, tasks: list[str], measure: str = "accuracy") -> np.ndarray:
    """(tasks, seeds)"""
    lines = by_task(runs[runs["system"].isin([better, worse])])
    found = lines[lines["dataset"].isin(tasks)].pivot(index="dataset", columns=["system", "seed"], values=measure)
    return (found[better] - found[worse]).to_numpy()


def counted(
    name: str, choose_by: str, references: list[str], levels: dict[str, tuple[str, float]], role: str
) -> list[str]:
    """The tasks of a role on which the strongest reference, on held-out rows, is 5 points above guessing and at most at 95 %.

    levels: task -> its role, and the accuracy of guessing.
    """
    chosen = finals(name, choose_by)[["system", *RATES]].drop_duplicates()
    tried = by_task(table(name).query("stage == 'tune'").merge(chosen)).set_index("dataset")
    means = tried[tried["system"].isin(references)].groupby("system")["accuracy"].mean()
    reached = tried.loc[tried["system"] == means.idxmax(), "accuracy"]
    return [
        task for task in reached.index if levels[task][0] == role and levels[task][1] + 0.05 <= reached[task] <= 0.95
    ]


def variants() -> list[str]:
    manifest = json.loads((DATA_FOLDER / "embedded" / "manifest.json").read_text())
    levels = {task: (one["role"], max(one["chance"] or 0, one["majority"])) for task, one in manifest.items()}
    references = ["LoRA", "LoRA-MoE", "HydraLoRA", "MixLoRA"]
    return counted("compact", "accuracy", references, levels, "variant")


def counted_of(name: str, references: list[str]) -> list[str]:
    """`counted` of a table by loss that tells the levels of its tasks itself."""
    lines = finals(name, "loss").head(1).explode(["datasets", "roles", "chances", "majorities"])
    guess = lines[["chances", "majorities"]].astype(float).max(axis=1)
    levels = {task: (role, level) for task, role, level in zip(lines["datasets"], lines["roles"], guess)}
    return counted(name, "loss", references, levels, "task")


def multitask() -> np.ndarray:
    tasks = counted_of("smollm2_multitask", ["LoRA", "LoRA-MoE", "SiRA"])
    return gaps(finals("smollm2_multitask", "loss"), "T-REX", "LoRA", tasks)


def five_tasks() -> list[str]:
    return counted_of("smollm2_table2", ["LoRA", "LoRA-MoE", "HydraLoRA (4)", "MixLoRA (4)", "MixLoRA (8)"])


def trained(runs: pd.DataFrame) -> np.ndarray:
    """The share by which gRSGD's mean training loss is below RSGD's, by seed."""
    means = {(row.system, row.seed): np.mean(np.asarray(row.curve_loss, float)) for row in runs.itertuples()}
    seeds = sorted({seed for _, seed in means})
    return np.array([1 - means["gRSGD", seed] / means["RSGD", seed] for seed in seeds])


def gained() -> np.ndarray:
    """What S'MoRE gains on LoRA in acquisition by two thousand more steps."""
    tasks, few, many = variants(), finals("compact", "accuracy"), finals("compact_steps", "accuracy")
    few = few[few["seed"].isin(many["seed"])]
    return gaps(many, "S'MoRE", "LoRA", tasks) - gaps(few, "S'MoRE", "LoRA", tasks)


def budgets() -> np.ndarray:
    runs, sizes = finals("smollm2_budgets", "loss"), ("3800000", "6700000", "13000000")
    return np.mean([gaps(runs, f"S'MoRE @ {size}", f"LoRA @ {size}", ["commonsense_qa"])[0] for size in sizes], axis=0)


def half(better: str, worse: str) -> float:
    """Half of a printed effect, the smallest that matters."""
    return (PRINTED[better] - PRINTED[worse]) / 200


def half_of_five() -> float:
    """Half of the printed gain of S'MoRE (4-4) over LoRA, the mean over the tasks that count."""
    gains = {"ARC-Challenge": 4.07, "ARC-Easy": 0.0, "commonsense_qa": 3.36, "openbookqa": 1.2, "winogrande": 1.5}
    return float(np.mean([gains[task] for task in five_tasks()])) / 200


CLAIMS: dict[tuple[str, str], tuple[Callable[[], np.ndarray], float | Callable[[], float]]] = {
    ("trex_fig3", "trex_headline_acquisition_LoRA"): (
        lambda: gaps(finals("compact", "accuracy"), "T-REX", "LoRA", variants()),
        0.0178 / 2,
    ),
    ("smore_steps", "smore_steps_S'MoRE_acquisition"): (gained, 0.01),
    ("trex_fig3_pretrained", "trex_pretrained_headline_in_distribution_LoRA"): (multitask, 0.0178 / 2),
    ("gr_fig2", "gr_fig2_mean_loss"): (lambda: trained(table("rescaling").query("stage == 'final'")), 0.05),
    ("gr_fig3", "gr_fig3_gRSGD_RSGD"): (lambda: trained(finals("optimizers", "loss")), 0.05),
    ("gr_fig3_pretrained", "gr_pretrained_accuracy"): (
        lambda: gaps(finals("smollm2_optimizers", "loss"), "gRSGD", "RSGD", ["commonsense_qa"])[0],
        half("gRSGD", "RSGD"),
    ),
    ("smore_fig4_pretrained", "smore_fig4_switch_pretrained_in_distribution_LoRA"): (
        budgets,
        half("S'MoRE (4-4)", "LoRA"),
    ),
    ("smore_table2", "smore_table2_4-4_in_distribution_LoRA"): (
        lambda: gaps(finals("smollm2_table2", "loss"), "S'MoRE (4-4)", "LoRA", five_tasks()),
        half_of_five,
    ),
    ("smore_table2_alone", "smore_table2_alone_4-4_in_distribution_MixLoRA_(8)"): (
        lambda: gaps(finals("smollm2_commonsense", "accuracy"), "S'MoRE (4-4)", "MixLoRA (8)", ["commonsense_qa"])[0],
        half("S'MoRE (4-4)", "MixLoRA (8)"),
    ),
}


@pytest.mark.parametrize(("figure", "name"), list(CLAIMS))
def test_a_published_claim_is_what_its_table_says(figure: str, name: str) -> None:
    measure, smallest = CLAIMS[figure, name]
    values, claim = measure(), published(figure, name)
    smallest = smallest() if callable(smallest) else smallest
    assert claim["effect"] == pytest.approx(values.mean(), abs=1e-9) and claim["smallest"] == pytest.approx(smallest)
    reach = reach_of(values, claim["confidence"])
    tolerance = 1e-6 if values.ndim == 1 else 0.12 * reach  # two draws of a bootstrap
    ends = values.mean() - reach, values.mean() + reach
    assert [claim["low"], claim["high"]] == pytest.approx(ends, abs=tolerance)
    assert claim["verdict"] == verdict(*ends, smallest, claim["kind"] == "own")


def verdict(low: float, high: float, smallest: float, own: bool) -> str:
    if low > 0:
        return "supported" if own else "reproduced"
    if high < smallest:
        return "not supported" if own else "contradicted" if high < 0 else "not reproduced"
    return "undecided"


def reach_of(values: np.ndarray, confidence: float) -> float:
    """Half the width of the interval: Student's over (seeds,), and the crossed bootstrap over (tasks, seeds)."""
    if values.ndim == 1:
        return float(stats.sem(values) * stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    rng, total = np.random.default_rng(7), np.zeros(40_000)
    for means in (values.mean(1), values.mean(0)):
        drawn = rng.choice(means - means.mean(), (len(total), len(means))).mean(1)
        total += drawn / np.sqrt(rng.chisquare(len(means) - 1, len(total)) / len(means))
    return float(np.quantile(np.abs(total), confidence))


def published(figure: str, name: str) -> dict[str, Any]:
    record = json.loads((shipped("figures") / f"{figure}.json").read_text("utf-8"))
    return next(claim for claim in flat(record["claims"]) if claim["name"] == name)


def flat(claims: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for claim in claims:
        yield claim
        yield from flat(claim["parts"])
