"""A small folder of figures for every test of the gallery."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_analysis.drawing.save import save

from .pages import CLAIM


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """One item with a picture, a page and two claims, and a record that is no item of the list."""
    import matplotlib.pyplot as plt
    import plotly.graph_objects as go

    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "tiny")
    monkeypatch.setenv("MOE_ANALYSIS_SUITE", "my suite")
    claims = [CLAIM, {**CLAIM, "claim": "a < b & c", "verdict": "reproduced"}]
    figure = plt.figure(figsize=(3, 2))
    save("trex_fig2", figure, go.Figure(go.Scatter(y=[1, 2])), {"a": 1}, runs=["run-7"], claims=claims, folder=tmp_path)
    save("gr_control", None, None, {"a": 1}, folder=tmp_path)
    plt.close(figure)
    return tmp_path
