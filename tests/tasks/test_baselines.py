"""Chance and majority accuracy against their definitions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from moe_analysis.tasks.baselines import baselines
from moe_analysis.tasks.suite import load_suite

from .suites import choice_row, free_row, write


def test_chance_is_the_mean_share_of_right_choices_on_test_rows(tmp_path: Path) -> None:
    three = choice_row("c", "test", choices=["yes", "no", "maybe"])
    frame = load_suite(write(tmp_path, "a.jsonl", choice_row(), choice_row("b", "test"), three))
    assert baselines(frame).loc["facts", "chance"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_chance_is_unknown_for_free_answers(tmp_path: Path) -> None:
    assert pd.isna(baselines(load_suite(write(tmp_path, "a.jsonl", free_row("3", "test")))).loc["sums", "chance"])


def test_majority_gives_the_most_frequent_train_answer_to_the_test_rows(tmp_path: Path) -> None:
    train = [free_row("a"), free_row("b"), free_row("c", answer="5")]
    test = [free_row("d", "test"), *(free_row(f"e{n}", "test", answer="5") for n in range(3))]
    frame = load_suite(write(tmp_path, "a.jsonl", *train, *test))
    assert baselines(frame).loc["sums", "majority"] == 0.25


def test_majority_follows_the_answer_text_where_positions_are_shuffled(tmp_path: Path) -> None:
    rows = [
        choice_row(f"p{n}", "test", choices=["yes", "no"][:: 1 if n % 2 else -1], label=0 if n % 2 else 1)
        for n in range(6)
    ]
    assert baselines(load_suite(write(tmp_path, "a.jsonl", *rows))).loc["facts", "majority"] == 1.0


def test_a_dataset_without_test_rows_has_no_baseline(tmp_path: Path) -> None:
    assert baselines(load_suite(write(tmp_path, "a.jsonl", choice_row()))).isna().all(axis=None)
