"""The residual tree of a token is the adapter's own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from moe_analysis.adapters import Smore, SmoreConfig
from moe_analysis.studies.trees.residual_tree import COLUMNS, residual_tree, residual_trees
from tests.studies.fake_structures import structured_run


def smore(position: str = "all", router: str = "top_down", **changes) -> Smore:
    torch.manual_seed(1)
    values = {"num_experts": [4, 3], "fanout": [2, 2], "r": 2, "key_dim": 4, "down_dim": 5}
    config = SmoreConfig(**{**values, "activation_position": position, "router": router, **changes})
    layer = Smore(6, 5, config).double()
    for parameter in layer.parameters():
        parameter.data.normal_(0.0, 0.5)
    return layer


@pytest.mark.parametrize("router", ["top_down", "bottom_up"])
@pytest.mark.parametrize("position", ["all", "child", "child_scored"])
def test_the_tree_is_the_routers_own_and_its_root_the_whole_update(position: str, router: str):
    layer, x = smore(position, router), torch.randn(6, dtype=torch.double)
    tree = residual_tree(layer, x)
    with torch.no_grad():
        delta, routing = layer(x[None])
    assert tree["contribution"][0] == pytest.approx(float(delta.norm())) and tree["share"][0] == 1.0
    for number, choice in enumerate(routing.choices):
        nodes = tree[tree["layer"] == number]
        assert nodes["expert"].tolist() == choice.ids.flatten().tolist()
        np.testing.assert_allclose(nodes["score"], choice.scores.flatten())
    gates = routing.gates[0].numpy()
    for number, start, s in ((0, 0, 4), (1, 4, 3)):
        nodes = tree[tree["layer"] == number]
        paths = np.bincount(nodes["expert"], nodes["path_score"], minlength=s)
        np.testing.assert_allclose(paths, gates[start : start + s], atol=1e-12)


@torch.no_grad()
def one_node(layer: Smore, tree: pd.DataFrame, node: int, x: torch.Tensor) -> torch.Tensor:
    """x_2 of one branch of a two-layer tree by Eq. 3 written out: what the node at the top sends to the root."""
    row, below = tree.loc[node], tree[tree["parent"] == node]

    def expert(pool: int, number: int) -> torch.Tensor:
        hidden = layer.A[pool][number] @ x + layer.A_bias[pool][number]
        return layer.B[pool][number] @ hidden + layer.B_bias[pool][number]

    children = sum(leaf["score"] * torch.tanh(expert(0, int(leaf["expert"]))) for _, leaf in below.iterrows())
    inner = expert(1, int(row["expert"])) + layer.W[1] @ children + layer.W_bias[1]
    return layer.W_proj @ (row["score"] * torch.tanh(inner))


def test_contributions_are_the_norms_of_what_equation_3_loses():
    layer, x = smore(), torch.randn(6, dtype=torch.double)
    tree = residual_tree(layer, x)
    for node in tree.index[tree["layer"] == 1]:
        branch = one_node(layer, tree, node, x)
        assert tree["contribution"][node] == pytest.approx(float(branch.norm()))
        for leaf in tree.index[tree["parent"] == node]:
            silent = tree.assign(score=tree["score"].where(tree.index != leaf, 0.0))
            lost = branch - one_node(layer, silent, node, x)
            assert tree["contribution"][leaf] == pytest.approx(float(lost.norm()))


@pytest.mark.parametrize("position", ["child", "child_scored"])
def test_a_node_without_a_contribution_changes_nothing(position: str):
    layer, x = smore(position, activation="relu"), torch.randn(6, dtype=torch.double)
    for factor in (layer.B[0], layer.B_bias[0]):
        factor.data.zero_()
    tree = residual_tree(layer, x)
    rounding = 1e-12 * tree["contribution"][0]  # of the outputs with and without the node, which are made apart
    assert (tree.loc[tree["layer"] == 0, "contribution"] < rounding).all()
    assert (tree.loc[tree["layer"] == 1, "contribution"] > 1e6 * rounding).all()


@pytest.mark.parametrize("options", [{}, {"gate_arch": "linear"}, {"gate": "noisy_topk"}])
def test_the_similarity_is_the_cosine_that_the_router_ranks_experts_by(options: dict):
    """Where keys have the same length a larger cosine is a larger score, so the chosen ones are the closest."""
    layer, x = smore(**options), torch.randn(6, dtype=torch.double)
    for gate in layer.gates:
        gate.keys.data = torch.nn.functional.normalize(gate.keys.data, dim=-1)
    tree = residual_tree(layer, x)
    for _, siblings in tree[tree["parent"] >= 0].groupby("parent"):
        by_score = siblings.sort_values("score")
        assert by_score["similarity"].is_monotonic_increasing and siblings["similarity"].abs().max() <= 1.0
    known = layer.down(x)
    top = tree[tree["layer"] == 1].iloc[0]
    gate = layer.gates[1]
    query = gate.mlp(known) if len(gate.mlp) else known
    query = query.detach()
    expected = torch.cosine_similarity(query, gate.keys.detach()[int(top["expert"])], dim=0)
    assert top["similarity"] == pytest.approx(float(expected))


def test_only_leaves_of_the_bottom_up_router_are_chosen_by_a_cosine():
    tree = residual_tree(smore(router="bottom_up"), torch.randn(6, dtype=torch.double))
    assert tree.loc[tree["layer"] == 1, "similarity"].isna().all()
    assert tree.loc[tree["layer"] == 0, "similarity"].notna().all()


def test_the_adapter_is_left_as_it_was_and_several_tokens_are_refused():
    layer = smore().float().train()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    residual_tree(layer, torch.randn(6))
    assert layer.training and all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    with pytest.raises(ValueError, match=r"x has shape \(2, 6\); pass one token, \(6,\)"):
        residual_tree(layer, torch.randn(2, 6))


def test_trees_of_many_tokens_are_those_of_each():
    layer, inputs = smore(), torch.randn(9, 6, dtype=torch.double)
    frame = residual_trees([structured_run(4)], [{"a": SimpleNamespace(adapter=layer, inputs=inputs)}], tokens=3)
    assert frame["token"].drop_duplicates().tolist() == [0, 4, 8] and set(frame["seed"]) == {4}
    one = frame[frame["token"] == 4][list(COLUMNS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, residual_tree(layer, inputs[4]))
