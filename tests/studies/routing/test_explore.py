"""Experts against data sets by router."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.routing.explore_experts import chosen_module, pool_of, projection_of, widget
from moe_analysis.studies.routing.specialization import expert_shares
from tests.drawing.test_explorer import picture
from tests.studies.fake_routers import MODULES, named_run, soft, tokens_of


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    tokens, generator = tokens_of(12), np.random.default_rng(0)
    return expert_shares(
        [
            (
                named_run(seed, method, experts),
                {module: soft(generator, len(tokens), experts) for module in MODULES},
                tokens,
            )
            for method, experts in {"LoRA-MoE": 4, "T-REX": 6}.items()
            for seed in range(2)
        ]
    )


def test_another_router_shows_its_own_experts(shares):
    explorer = widget(SimpleNamespace(shares=shares), "T-REX", seed=1)
    before, last = picture(explorer), shares["layer"].max()
    explorer.controls["layer"].value = last
    method, seed, _, projection, _ = explorer.values
    own = shares[(shares["seed"] == seed) & (shares["layer"] == last) & (shares["method"] == method)]
    own = own[own["module"].map(projection_of) == projection]
    top = own.loc[own["log_lift"].idxmax()]
    assert (method, seed, own["module"].nunique()) == ("T-REX", 1, 1)
    times = 2 ** top["log_lift"]
    assert f"{top['label']} uses expert {top['expert']} {times:.1f} times as often" in explorer.note.value
    assert own["module"].iloc[0] in explorer.picture.value and (picture(explorer) != before).any()


def test_a_pool_that_a_system_does_not_have_is_refused_with_those_it_has():
    names = ["layers.0.mlp.up_proj pool 0", "layers.0.mlp.up_proj pool 1", "layers.0.mlp.up_proj"]
    assert [pool_of(name) for name in names] == [0, 1, 0] and {projection_of(name) for name in names} == {"up_proj"}
    routers = pd.DataFrame(
        {
            "method": ["S'MoRE", "S'MoRE", "T-REX"],
            "seed": 0,
            "module": names,
            "layer": 0,
            "projection": "up_proj",
            "pool": [0, 1, 0],
        }
    )
    assert chosen_module(routers, "S'MoRE", 0, 0, "up_proj", 1) == names[1]
    assert chosen_module(routers, "T-REX", 0, 0, "up_proj", 0) == names[2]
    with pytest.raises(ValueError, match="T-REX has no router of pool 1 in layer 0, .* choose one of the pools 0, the"):
        chosen_module(routers, "T-REX", 0, 0, "up_proj", 1)


def test_routers_that_were_not_recorded_are_refused(shares):
    with pytest.raises(ValueError, match="layer = 99 is unknown"):
        widget(SimpleNamespace(shares=shares), layer=99)
    with pytest.raises(ValueError, match="method = 'LoRA' is unknown; choose one of LoRA-MoE, T-REX"):
        widget(SimpleNamespace(shares=shares), "LoRA")
