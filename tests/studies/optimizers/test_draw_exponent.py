"""What the figures of the exponent and of the learning-rate confound contain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.optimizers import draw_confound, draw_exponent
from moe_analysis.studies.optimizers.exponent import confound_cases, confound_comparisons, exponent_table
from tests.studies.fake_result import Found

from .test_exponent import LRS, TUNING, curves, matched, rows


def texts(panel) -> list[str]:
    return [text.get_text() for text in panel.texts if text.get_text()]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return exponent_table(
        rows(lambda p, t, k, seed: 0.5 + 0.1 * seed * p + (1 - p) * (t - 0.5), (1.0, 0.75, 0.5, 0.0), (0.2, 0.7, 0.9))
    )


@pytest.fixture(scope="module")
def confound() -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = curves(noise=0.01)
    lost = (frame["method"] == "gRSGD") & (frame["lr"] > 2) & (frame["seed"] == 0)
    frame = frame.assign(loss=frame["loss"].where(~lost, np.inf))
    return frame, confound_comparisons(confound_cases(frame, TUNING, matched(frame, 0.02, 0.04)))


def test_every_temperature_has_a_line_named_by_its_entropy(table):
    lines, _, *_ = draw_exponent.plot(Found(table=table)).axes
    assert [text.get_text() for text in lines.get_legend().get_texts()] == [
        "0.20  (T = 0.2)",
        "0.70  (T = 0.7)",
        "0.90  (T = 0.9)",
    ]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in lines.lines}
    expected = table.loc[table["entropy"] == 0.7, "mean"].tolist()
    assert drawn["0.70  (T = 0.7)"] == pytest.approx(expected) and len(lines.collections) == 3
    assert lines.get_yscale() == "log"


def test_the_heat_map_tells_every_difference_and_which_are_decided(table):
    heat = draw_exponent.plot(Found(table=table)).axes[1]
    rescaled = table[table["power"] != 1.0].sort_values(["entropy", "power"])
    expected = [f"{row.difference:+.3f}" + (" •" if row.decided else "") for row in rescaled.itertuples()]
    assert texts(heat) == expected and 0 < sum("•" in text for text in expected) < len(expected)
    assert [label.get_text() for label in heat.get_xticklabels()] == ["0", "0.5", "0.75"]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["0.20", "0.70", "0.90"]


def test_a_diverged_cell_says_so(table):
    lost = table.assign(difference=table["difference"].where(table["power"] != 0.0))
    assert texts(draw_exponent.plot(Found(table=lost)).axes[1]).count("diverged") == 3


def test_the_interactive_exponents_have_a_line_a_temperature_and_the_map(table):
    fig = draw_exponent.interactive(Found(table=table))
    assert [trace.type for trace in fig.data] == ["scatter"] * 3 + ["heatmap"]
    assert fig.data[3].z.shape == (3, 3) and fig.data[0].y.dtype == np.float32
    assert fig.data[1].customdata[0, 0] == pytest.approx(0.7) and "to p = 1" in fig.data[0].hovertemplate


def test_bands_leave_out_learning_rates_where_a_seed_diverged(confound):
    bands = draw_confound.loss_bands(confound[0]).set_index(["method", "lr"])
    assert bands.loc["gRSGD", "diverged"].gt(0).tolist() == [False] * 7 + [True] * 2
    assert bands["mean"].isna().sum() == 2 and not bands.loc["RSGD", "diverged"].any()


def test_curves_carry_a_mark_a_comparison_and_a_cross_where_a_seed_diverged(confound):
    frame, comparisons = confound
    rates, _ = draw_confound.plot(Found(bench=frame, comparisons=comparisons)).axes
    marks = [line for line in rates.lines if line.get_marker() in "os^" and len(line.get_xdata())]
    assert len(marks) == 2 * len(comparisons)
    assert [line.get_xdata()[0] for line in marks] == pytest.approx(
        comparisons[["plain_lr", "rescaled_lr"]].to_numpy().ravel().tolist()
    )
    assert [line.get_xdata()[0] for line in rates.lines if line.get_marker() == "x"] == pytest.approx(LRS[-2:])
    assert rates.get_legend_handles_labels()[1] == ["RSGD", "gRSGD", "equal lr", "matched step", "both tuned"]


def test_differences_stand_with_their_intervals_in_order(confound):
    frame, comparisons = confound
    gaps = draw_confound.plot(Found(bench=frame, comparisons=comparisons)).axes[1]
    bars = [line.get_xdata() for line in gaps.lines if len(line.get_xdata()) == 2][1:]  # the first is zero
    assert np.array(bars) == pytest.approx(comparisons[["low", "high"]].to_numpy())
    assert gaps.get_xlabel() == "gRSGD minus RSGD, validation error"
    assert gaps.get_yticklabels()[0].get_text().replace("\n", " ") == "equal lr, the lowest"


def test_an_undecided_comparison_says_why(confound):
    frame, comparisons = confound
    lost = comparisons.assign(
        **{name: comparisons[name].where(comparisons.index > 0) for name in ("difference", "low", "high")},
        diverged=[2, 0, 0, 0, 0],
    )
    assert texts(draw_confound.plot(Found(bench=frame, comparisons=lost)).axes[1]) == [
        "undecided: 2 of 4 seeds diverged"
    ]


def test_runs_of_a_transformer_will_do(confound):
    frame = confound[0].replace({"RSGD": "RAdamW", "gRSGD": "gRAdamW"})
    comparisons = confound_comparisons(confound_cases(frame, TUNING))
    rates, gaps = draw_confound.plot(Found(bench=frame, comparisons=comparisons)).axes
    assert rates.get_ylabel() == "validation error" and "gRAdamW minus RAdamW" in gaps.get_xlabel()
    fig = draw_confound.interactive(Found(bench=frame, comparisons=comparisons))
    assert [trace.name for trace in fig.data[:4]] == ["RAdamW, seeds", "RAdamW", "gRAdamW, seeds", "gRAdamW"]
    assert len(fig.data[4].x) == len(comparisons) == 4
    assert len(fig.data[2].x) == np.isfinite(frame.loc[frame["method"] == "gRAdamW", "loss"]).sum()
