"""Systems against each other by task, and experts against data sets by router."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.analysis.generalization import OUTSIDE, scores, task_differences
from moe_analysis.analysis.specialisation import expert_shares
from moe_analysis.widgets import specialist_widget, task_widget
from moe_analysis.widgets.anatomy import chosen_module, pool_of, projection_of
from tests.analysis.fake_routers import MODULES, named_run, soft, tokens_of
from tests.drawing.test_explorer import picture

from ..analysis.test_generalization import compare

METHODS = ("LoRA", "SiRA", "T-REX")


@pytest.fixture(scope="module")
def accuracies() -> pd.DataFrame:
    return scores(*compare({"T-REX": 0.05}, methods=METHODS, seeds=range(3)))


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


def test_another_router_shows_its_own_experts(shares):
    explorer = specialist_widget(shares, "T-REX", seed=1)
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
        specialist_widget(shares, layer=99)
    with pytest.raises(ValueError, match="method = 'LoRA' is unknown; choose one of LoRA-MoE, T-REX"):
        specialist_widget(shares, "LoRA")
