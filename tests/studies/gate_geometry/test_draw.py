"""What Fig. 1 of gR shows: both manifolds, the arrows, and every rule with its measured exponent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from moe_analysis.adapters import MoeLora, MoeLoraConfig
from moe_analysis.studies.gate_geometry import draw, geometry
from tests.studies.fake_result import Found

GATES = (0.02, 0.2, 1.0)


@pytest.fixture(scope="module")
def frames() -> tuple[geometry.LocalPicture, pd.DataFrame, pd.DataFrame]:
    generator = torch.Generator().manual_seed(0)
    layer = MoeLora(10, 8, MoeLoraConfig(r=2, num_experts=3))
    torch.nn.init.normal_(layer.B, generator=generator)
    batch = layer, torch.randn(20, 10, generator=generator), torch.randn(20, 8, generator=generator)
    return (
        geometry.local_picture(*batch, gates=(0.1, 0.4)),
        geometry.curvature(*batch, gates=GATES, directions=2),
        geometry.first_order_change(*batch, gates=GATES),
    )


MODULE = "layers.1.self_attn.v_proj"


def measured(picture: geometry.LocalPicture, bends: pd.DataFrame, changes: pd.DataFrame) -> Found:
    return Found(module=MODULE, picture=picture, curvature=bends, changes=changes.assign(module=MODULE))


def legend(panel) -> list[str]:
    return [text.get_text() for text in panel.get_legend().get_texts()]


def test_the_picture_has_both_manifolds_with_their_gaps_and_both_arrows(frames):
    picture, bends, changes = frames
    panel = draw.plot(measured(picture, bends, changes)).axes[0]
    gaps = [f"g = {row.g:g}: it lands {100 * row.gap:.0f} % off" for row in draw.landings(picture).itertuples()]
    assert legend(panel) == [*gaps, "tangent space", "full step −lr·Γ", "its projection"]
    tips = [note.xy for note in panel.texts]
    arrows = picture.steps.set_index("part").loc[["full step", "projection"], ["tangent", "off"]].to_numpy()
    np.testing.assert_allclose(tips, arrows)
    assert panel.get_aspect() == 1.0
    curves = [line.get_xydata() for line in panel.lines[:2]]
    np.testing.assert_allclose(curves[1], picture.curves.loc[picture.curves["g"] == 0.4, ["tangent", "off"]])


def test_bending_is_shown_for_descent_and_random_tangents_on_logarithmic_axes(frames):
    panel = draw.plot(measured(*frames)).axes[1]
    assert legend(panel) == ["the layer's descent: $g^{−1.00}$", "random tangents: $g^{−1.00}$"]
    assert panel.get_xscale() == panel.get_yscale() == "log"
    descent = frames[1][frames[1]["direction"] == "descent"]
    dots = next(line for line in panel.lines if line.get_marker() == "o")
    assert dots.get_ydata() == pytest.approx(descent.groupby("g")["measured"].median())
    assert dots.get_xdata().tolist() == list(GATES) and len(panel.collections) == 2


def test_each_rule_has_its_dots_on_its_own_line_and_its_exponent_in_the_legend(frames):
    panel = draw.plot(measured(*frames)).axes[2]
    assert legend(panel) == [
        "plain, p = 1: $g^{2.00}$",
        "rescaled, p = 1/2: $g^{1.50}$",
        "p = 0: $g^{1.00}$",
        "exact remedy: $g^{1.00}$",
    ]
    predictions, dots = panel.lines[::2], panel.lines[1::2]
    for line, dot, exponent in zip(predictions, dots, (2, 1.5, 1, 1)):
        assert line.get_ydata() == pytest.approx(np.array(GATES) ** exponent)
        assert dot.get_ydata() == pytest.approx(line.get_ydata(), rel=1e-3)
    assert len({line.get_color() for line in dots}) == 4


def test_a_wrong_exponent_shows_in_the_legend_and_off_the_line(frames):
    picture, bends, changes = frames
    wrong = changes.assign(slope=changes["slope"] + 0.2, change=changes["change"] * changes["g"] ** 0.2)
    panel = draw.plot(measured(picture, bends, wrong)).axes[2]
    assert legend(panel)[0] == "plain, p = 1: $g^{2.20}$"
    assert panel.lines[1].get_ydata()[0] < 0.6 * panel.lines[0].get_ydata()[0]


def test_the_explorer_has_a_broken_line_a_kind_and_rule_with_every_expert(frames):
    picture, bends, changes = frames
    fig = draw.interactive(measured(picture, bends, changes))
    names = [trace.name for trace in fig.data if trace.showlegend is not False]
    assert names == [
        "manifold at g = 0.1",
        "manifold at g = 0.4",
        "full step",
        "projection",
        "the layer's descent",
        "random tangents",
        "plain, p = 1, exponent 2.00",
        "rescaled, p = 1/2, exponent 1.50",
        "p = 0, exponent 1.00",
        "exact remedy, exponent 1.00",
    ]
    plain = next(trace for trace in fig.data if trace.name.startswith("plain"))
    assert int(np.isnan(plain.y).sum()) == 3 and len(plain.y) == 3 * 4
    assert plain.y[:3] == pytest.approx(
        changes.loc[(changes["rule"] == "plain") & (changes["expert"] == 0), "change"], rel=1e-5
    )
    assert plain.y.dtype == np.float32 and "closed form" in plain.hovertemplate
    assert fig.layout.xaxis3.type == fig.layout.yaxis3.type == "log" and fig.layout.yaxis.scaleanchor == "x"


def test_a_frame_without_random_tangents_is_drawn_too(frames):
    picture, bends, changes = frames
    descent = bends[bends["direction"] == "descent"]
    assert len(legend(draw.plot(measured(picture, descent, changes)).axes[1])) == 1
    assert len(draw.interactive(measured(picture, descent, changes)).data) == 11
