"""Runs side by side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import peft
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.run_comparison.tables import (
    config_differences,
    dataset_scores,
    final_results,
    flat,
    loss_windows,
    mean_differences,
    untouched,
)


def run(
    name: str,
    losses: list[float],
    accuracies: dict[str, float] | None = None,
    rows: int = 10,
    balance: float = 0.0,
    **config: Any,
) -> Any:
    """A run of these training losses; without accuracies it is not finished."""
    steps = np.arange(1, len(losses) + 1)
    history = pd.DataFrame(
        {"step": steps, "split": "train", "loss": np.array(losses) + balance, "accuracy": 0.5, "balance_loss": balance}
    )
    test = pd.DataFrame({"step": [len(losses)], "split": "test", "loss": 0.5, "accuracy": 0.75})
    known = accuracies or {}
    evaluation = pd.DataFrame(
        {
            "dataset": list(known),
            "group": "g",
            "kind": "choices",
            "rows": rows,
            "accuracy": list(known.values()),
            "loss": [1 - value for value in known.values()],
        }
    )
    return SimpleNamespace(
        id=name,
        config=SimpleNamespace(to_dict=lambda: config),
        finished=accuracies is not None,
        status={"state": "finished" if known else "running", "step": len(losses), "seconds": 2.0},
        history=pd.concat([history, test]),
        evaluation=evaluation,
    )


def test_only_fields_that_differ_are_listed_and_those_inside_by_their_dotted_name() -> None:
    first = run("a", [1.0], lr=0.1, steps=5, adapter={"r": 4, "gate": "dense"})
    second = run("b", [1.0], lr=0.1, steps=5, adapter={"r": 8, "keys": [1]})
    frame = config_differences([first, second])
    assert frame.columns.tolist() == ["field", "a", "b"]
    assert frame.to_numpy(dtype=object).tolist() == [
        ["adapter.r", 4, 8],
        ["adapter.gate", "dense", None],
        ["adapter.keys", None, [1]],
    ]
    assert config_differences([first, run("c", [1.0], **first.config.to_dict())]).empty


def test_what_only_some_adapters_have_and_nobody_set_is_untouched() -> None:
    lora = peft.LoraConfig(r=8, lora_dropout=0.1, task_type="CAUSAL_LM")
    trex = ma.TRexConfig(num_down=3)
    runs = [
        SimpleNamespace(id=name, config=ma.TrainConfig(adapter=adapter))
        for name, adapter in (("a", lora), ("b", trex), ("c", ma.TRexConfig(num_down=3, router_coef=2.0)))
    ]
    frame = config_differences(runs)
    left_out = set(frame["field"][untouched(frame, runs)])
    assert {"adapter.use_dora", "adapter.loftq_config", "adapter.temperature"} <= left_out
    kept = set(frame["field"]) - left_out
    assert kept == {"adapter.lora_dropout", "adapter.num_down", "adapter.router_coef", "adapter.peft_type", "adapter.r"}
    assert untouched(config_differences([runs[0], runs[0].__class__(id="d", config=runs[0].config)]), runs).empty


@pytest.mark.parametrize(
    ("names", "message"), [("a", "has 1 run; pass at least two"), ("aa", "has 1 run; pass"), ("aba", "twice")]
)
def test_one_run_and_a_run_twice_cannot_be_compared(names: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_differences([run(name, [1.0]) for name in names])


def test_final_losses_leave_the_balance_loss_out_and_unfinished_runs_have_none() -> None:
    frame = final_results([run("a", [9.0, *[2.0] * 10], {"x": 1.0}, balance=0.5), run("b", [1.0])])
    assert frame.loc[0, ["train_loss", "test_loss", "test_accuracy"]].tolist() == [2.0, 0.5, 0.75]
    assert frame.loc[1, "state"] == "running" and frame.loc[1, ["train_loss", "test_loss"]].isna().all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=40), st.integers(1, 9))
def test_windows_share_all_steps_and_their_means_weigh_up_to_the_mean(losses: list[float], windows: int) -> None:
    frame = loss_windows([run("a", losses, {})], windows)
    counts = frame["last"] - frame["first"] + 1
    assert len(frame) == min(windows, len(losses)) and counts.sum() == len(losses)
    assert counts.max() - counts.min() <= 1
    assert np.average(frame["loss"], weights=counts) == pytest.approx(np.mean(losses))


def test_a_shorter_run_has_rows_as_far_as_it_came() -> None:
    frame = loss_windows([run("long", [1.0] * 8, {}), run("short", [2.0] * 3, {}), run("none", [1.0])], 4)
    assert frame[frame["run"] == "short"][["first", "last", "loss"]].to_numpy().tolist() == [[1, 2, 2.0], [3, 4, 2.0]]
    with pytest.raises(ValueError, match="windows = 0 must be at least 1"):
        loss_windows([], 0)


def test_differences_are_against_the_first_run_and_only_on_as_many_rows() -> None:
    first = run("a", [1.0], {"x": 0.5, "y": 0.5, "z": 0.5})
    frame = dataset_scores([first, run("b", [1.0], {"x": 0.75, "new": 1.0}), run("c", [1.0], {"x": 0.75}, rows=5)])
    assert frame[frame["run"] == "a"]["accuracy_difference"].isna().all()
    gaps = frame[frame["run"] == "b"].set_index("dataset")
    assert gaps.loc["x", ["accuracy_difference", "loss_difference"]].tolist() == [0.25, -0.25]
    assert np.isnan(gaps.loc["new", "accuracy_difference"])
    assert frame[frame["run"] == "c"]["accuracy_difference"].isna().all(), "tested on other rows"
    assert dataset_scores([run("b", [1.0])]).empty


def test_the_mean_difference_has_the_t_interval_over_data_sets() -> None:
    first = run("a", [1.0], {"x": 0.5, "y": 0.5, "z": 0.5})
    means = mean_differences(dataset_scores([first, run("b", [1.0], {"x": 0.5, "y": 0.6, "z": 0.7})]))
    (row,) = means[means["measure"] == "accuracy"].itertuples()
    half = 4.302653 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom at 97.5 %
    assert (row.run, row.datasets) == ("b", 3)
    assert (row.difference, row.low, row.high) == pytest.approx((0.1, 0.1 - half, 0.1 + half), abs=1e-6)


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("ab", min_size=1), inner), max_leaves=6))
@settings(max_examples=50, deadline=None)
def test_flat_keeps_every_leaf(values: Any) -> None:
    def leaves(value: Any) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) and value else 1

    assert len(flat({"top": values})) == leaves(values)
