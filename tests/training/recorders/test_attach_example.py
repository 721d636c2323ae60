"""A user's own model and data frame, as the manual shows them: from get_peft_model to the figure, and into a run."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.training.recorders.attached_run import AttachedRun

from ...tiny_runs import WORDS

MANUAL = (Path(__file__).parents[3] / "docs" / "pages" / "loop.md").read_text()
EXAMPLE = next(
    block for block in re.findall(r"```python\n(.*?)```", MANUAL, flags=re.DOTALL) if "get_peft_model" in block
)


@pytest.fixture
def frame() -> pd.DataFrame:
    """A user's table: 40 different prompts with answers, half of them with choices."""
    prompts = [f"The {WORDS[n % 22]} {WORDS[(n * 7 + 3) % 22]} sees {n}." for n in range(40)]
    chosen = [["red", "blue"] if n % 2 else None for n in range(40)]
    return pd.DataFrame(
        {
            "dataset": ["choose" if n % 2 else "say" for n in range(40)],
            "group": "mine",
            "split": ["train" if n < 32 else "test" for n in range(40)],
            "prompt": prompts,
            "choices": chosen,
            "answer": ["red" if n % 2 else "cat" for n in range(40)],
            "label": pd.array([0 if n % 2 else None for n in range(40)], dtype="Int64"),
        }
    )


def test_the_example_goes_from_a_users_model_to_the_figure(backbone, frame, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, tokenizer = ma.load_backbone(backbone)
    names = {"model": model, "tokenizer": tokenizer, "texts": list(frame["prompt"])}
    exec(compile(EXAMPLE.replace('"minilm"', '"tfidf"'), "EXAMPLE", "exec"), names)
    assert "Router weights during training" in Path("path.html").read_text()
    mine = AttachedRun.load("runs/mine")
    assert mine.records["router_weight"].shape == (5, 4, 32, 16)
    assert mine.records["router_grad"].values.any() and mine.history["loss"].between(2, 6).all()


def test_the_paper_figure_takes_attached_records(backbone, frame, tmp_path: Path, monkeypatch) -> None:
    """Two recorded loops beside each other, drawn by the function that draws T-REX Fig. 2."""
    from moe_analysis.evidence.intervals import method_summary
    from moe_analysis.studies import convergence
    from moe_analysis.studies.router_paths import paths as trajectories
    from moe_analysis.studies.router_paths import smoothness
    from moe_analysis.studies.router_paths.draw import trajectory_figure

    monkeypatch.chdir(tmp_path)
    for name in ("T-REX", "of my own"):
        model, tokenizer = ma.load_backbone(backbone)
        names = {"model": model, "tokenizer": tokenizer, "texts": list(frame["prompt"])}
        text = EXAMPLE.replace('"minilm"', '"tfidf"').replace("runs/mine", f"runs/{name}")
        exec(compile(text.replace('name="T-REX"', f'name="{name}"'), "EXAMPLE", "exec"), names)
    runs = [AttachedRun.load(f"runs/{name}") for name in ("T-REX", "of my own")]
    axes = trajectories.path_axes(runs, "layers.1.self_attn.q_proj")
    smooth = smoothness.smoothness(runs)
    bands = convergence.loss_bands(convergence.loss_curves(runs))
    summary = method_summary(smooth, smoothness.MEASURES)
    figure = trajectory_figure(trajectories.router_paths(runs, axes.module, axes), axes, smooth, summary, bands)
    titles = [text.get_text() for part in figure.subfigs for text in part.texts]
    assert "(a) T-REX" in titles and "(b) of my own" in titles


def test_a_users_data_frame_becomes_a_suite_and_a_run(config, frame, tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    frame.to_parquet(folder / "mine.parquet")
    pd.testing.assert_frame_equal(ma.load_suite(folder), frame, check_dtype=False)
    run = ma.train(config(suite=str(folder), steps=2), tmp_path / "runs")
    assert run.finished and set(run.evaluation["dataset"]) == {"choose", "say"}
