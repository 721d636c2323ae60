"""S'MoRE contains its relatives: Propositions 3.1 and 3.2 by the proofs' constructions, on the real modules.

σ = id, B of an expert a block of the identity, W = [0; I], and the target's own up factors side by side in W_proj: then
x_L holds Σ α A x of every expert in rows of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .claim import Claim, claim_check, largest
from .smore import IN_FEATURES, MIXED, TOKENS, inputs, paper_sizes

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..adapters import MoeLora, Momor, Smore
    from ..adapters.tree_gates import Choice


def as_momor(mixture: MoeLora) -> Momor:
    """A LoRA mixture with the softmax or switch gate as the MoMOR of one pool that it is."""
    from ..adapters import Momor, MomorConfig

    config = mixture.config
    momor = Momor(
        mixture.in_features,
        mixture.out_features,
        MomorConfig(
            r=[config.r],
            alpha=config.alpha,
            num_experts=[config.num_experts],
            top_k=[config.active_experts],
            gate=config.gate,
            balance_coef=0.0,
        ),
    ).to(mixture.A.dtype)
    momor.load_state_dict({"A.0": mixture.A, "B.0": mixture.B, "gates.0.weight": mixture.router.weight})
    return momor


def as_smore(momor: Momor) -> Smore:
    """The S'MoRE of Propositions 3.1 and 3.2, whose own router repeats the MoMOR's when top_k ≥ 2 in every pool.

    Every parent of a layer chooses the same children with the same scores, since their keys see the input alone; the
    scores of siblings sum to 1, so that an expert's coefficient, the sum over its ancestral paths of the products of
    scores, is its gate. The blocks and W = [0; I] are those of init="eq_1_layer".
    """
    import torch

    from ..adapters import Smore, SmoreConfig

    old, width = momor.config, momor.in_features
    config = SmoreConfig(
        r=old.by_pool("r"),
        alpha=old.by_pool("alpha"),
        num_experts=old.num_experts,
        fanout=old.by_pool("top_k"),
        gate="switch",
        gate_arch="linear",
        down_dim=width,
        activation="identity",
        init="eq_1_layer",
        balance_coef=0.0,
    )
    layer = Smore(width, momor.out_features, config).to(momor.A[0].dtype)
    with torch.no_grad():
        layer.down.weight.copy_(torch.eye(width))
        layer.down.bias.zero_()
        for level, gate in enumerate(layer.gates):
            layer.A[level].copy_(momor.A[level])
            keys = gate.get_parameter("keys").zero_()  # (s, known)
            keys[:, :width] = momor.gates[level].get_parameter("weight")  # the rest would look at ancestors
        layer.W_proj.copy_(torch.cat([B.transpose(0, 1).flatten(1) for B in reversed(list(momor.B))], dim=1))
    return layer


def choices_of_gates(gates: list[Float[Tensor, "token _expert"]], top_k: list[int]) -> list[Choice]:
    """Trees with scores that give the experts of every pool any gates ≥ 0 with top_k entries above 0.

    Every parent of layer l takes the pool's experts with the scores g_l / Σ g_{l+1}: the paths that reach the layer
    carry Σ g_{l+1} in all, which the division undoes (Proposition 3.2 for gates that do not sum to 1).
    """
    import torch

    from ..adapters.tree_gates import Choice

    choices: list[Choice] = []
    parents, total = 1, torch.ones_like(gates[-1][:, :1])  # (N, 1)
    for gate, k in zip(reversed(gates), reversed(top_k)):
        kept = (gate / total).topk(k, dim=-1)
        ids, scores = (part.unsqueeze(1).expand(-1, parents, -1) for part in (kept.indices, kept.values))
        choices.insert(0, Choice(ids, scores, gate.shape[1]))
        parents, total = parents * k, gate.sum(-1, keepdim=True)
    return choices


def planned_update(layer: Smore, x: Float[Tensor, "token in"], choices: list[Choice]) -> Float[Tensor, "token out"]:
    """W_proj x_L + b of tokens that follow given trees with given scores."""
    import torch

    from .tree_enumeration import pool_values

    with torch.no_grad():
        hidden = pool_values(layer, x)
        output, _ = layer.aggregate(hidden, hidden[:, :0], planned=choices)
        return torch.nn.functional.linear(output, layer.W_proj, layer.W_proj_bias if layer.config.expert_bias else None)


def collapsed(layer: Smore) -> MoeLora:
    """The mixture over the experts of all layers that a S'MoRE with σ = id and init="eq_1_layer" begins as.

    Needs ranks and scales that are equal in all layers, as a `MoeLora` has them; ValueError otherwise, and where B, W
    or a bias is no longer what it starts as.
    """
    import torch

    from ..adapters import MoeLora, MoeLoraConfig, Smore

    config, blocks = layer.config, []
    if config.activation != "identity" or config.init != "eq_1_layer" or config.shared_pool:
        raise ValueError(
            f"activation = {config.activation!r}, init = {config.init!r}, shared_pool = "
            f"{config.shared_pool}: only 'identity', 'eq_1_layer' and own pools begin as one layer"
        )
    if len({*config.ranks}) > 1 or len({*config.scales}) > 1:
        raise ValueError(f"r = {config.r}, alpha = {config.alpha} must be equal in all layers to be one mixture's")
    start = dict(Smore(layer.in_features, layer.out_features, config).to(layer.W_proj.dtype).named_parameters())
    for name, value in layer.named_parameters():
        kept = name.startswith(("B", "W.", "A_bias", "W_bias", "W_proj_bias"))
        if kept and not torch.equal(start[name], value):
            raise ValueError(f"{name} was trained; only an untrained module equals one layer")
    for s, r, width in zip(config.num_experts, config.ranks, config.widths[1:]):
        first = config.widths[-1] - width  # the layers above stand before this one in x_L
        blocks.append(layer.W_proj[:, first : first + s * r].unflatten(1, (s, r)).transpose(0, 1))  # (s, out, r)
    rank = config.ranks[0]
    mixture = MoeLora(
        layer.in_features,
        layer.out_features,
        MoeLoraConfig(r=rank, alpha=config.scales[0] * rank, num_experts=sum(config.num_experts)),
    ).to(layer.W_proj.dtype)
    with torch.no_grad():
        mixture.A.copy_(torch.cat(list(layer.A)))
        mixture.B.copy_(torch.cat(blocks))
    return mixture


def relative_gap(found: Float[Tensor, "*tokens out"], wanted: Float[Tensor, "*tokens out"]) -> float:
    return float((found - wanted).norm() / wanted.norm())


def closeness(name: str, source: str, statement: str, gaps: list[float]) -> Claim:
    """A claim that holds when every relative difference is within 1e-12, a few thousand roundings of float64."""
    worst = largest(*gaps)
    return Claim(name, source, statement, worst, 0.0, worst, worst < 1e-12)


@claim_check("S'MoRE Prop. 3.1")
def smore_prop31_mixture(seed: int = 0) -> Claim:
    """A S'MoRE of one layer with σ = id repeats any LoRA mixture, its router included."""
    import torch

    from ..adapters import MoeLora, MoeLoraConfig
    from .smore_families import randomized

    x, gaps = inputs(seed, TOKENS, IN_FEATURES), []
    for experts, top_k, gate, r in [(5, 2, "switch", 3), (3, 1, "switch", 2), (6, 3, "softmax", 1), (4, 4, "dense", 2)]:
        config = MoeLoraConfig(num_experts=experts, top_k=top_k, gate=gate, r=r)
        mixture = randomized(MoeLora(IN_FEATURES, 7, config), seed)
        with torch.no_grad():
            gaps.append(relative_gap(as_smore(as_momor(mixture))(x)[0], mixture(x)[0]))
    return closeness(
        "smore_prop31_mixture",
        "S'MoRE Prop. 3.1",
        "L = 1 and σ = id express any Σ α B A x: B^n the n-th block of the identity, W_proj = [B̄^1 … B̄^s] (largest "
        f"relative difference to 4 random mixtures, {TOKENS} tokens, each module with its own router)",
        gaps,
    )


@claim_check("S'MoRE Prop. 3.2")
def smore_prop32_momor(seed: int = 0) -> Claim:
    """A S'MoRE with σ = id repeats any MoMOR, by its own router and for any gates."""
    import torch

    from ..adapters import Momor, MomorConfig
    from .smore_families import randomized
    from .tree_enumeration import HeldMomor

    x, gaps = inputs(seed, TOKENS, IN_FEATURES), []
    for s, k in [paper_sizes(1), paper_sizes(2), paper_sizes(3), ([5, 3, 4], [2, 3, 2]), ([3, 6], [2, 4])]:
        config = MomorConfig(r=list(range(1, len(s) + 1)), alpha=8.0, num_experts=s, top_k=k)
        momor = randomized(Momor(IN_FEATURES, 7, config), seed)
        layer = as_smore(momor)
        gates = []
        for pool, top, size in zip(s, k, inputs(seed, len(s), TOKENS, max(s)).exp()):  # size (N, max s)
            kept = size[:, :pool].topk(top)
            gates.append(torch.zeros_like(size[:, :pool]).scatter(1, kept.indices, kept.values))
        with torch.no_grad():
            gaps.append(relative_gap(layer(x)[0], momor(x)[0]))
            wanted = HeldMomor(momor, torch.cat(gates, dim=1))(x)[0]
        gaps.append(relative_gap(planned_update(layer, x, choices_of_gates(gates, k)), wanted))
    return closeness(
        "smore_prop32_momor",
        "S'MoRE Prop. 3.2",
        "σ = id expresses any MoMOR: blocks of the identity, W = [0; I], W_proj all B̄ side by side (largest relative "
        "difference to 5 random MoMORs of 1 to 3 pools: each module with its own router; given gates that sum to "
        "anything)",
        gaps,
    )


@claim_check("S'MoRE Prop. 3.2")
def smore_prop32_coefficients(seed: int = 0) -> Claim:
    """For any trees and scores an expert counts with the sum over its paths of the products of their scores."""
    import torch

    from ..adapters import Momor, MomorConfig
    from ..adapters.tree_gates import Choice, TreeRouting
    from .smore_families import randomized
    from .tree_enumeration import HeldMomor, random_trees

    x, gaps, generator = inputs(seed, TOKENS, IN_FEATURES), [], torch.Generator().manual_seed(seed)
    for s, f in MIXED:
        momor = randomized(Momor(IN_FEATURES, 7, MomorConfig(r=2, num_experts=s, top_k=f)), seed)
        layer, choices = as_smore(momor), []
        for pool, ids in zip(s, random_trees(layer.config, TOKENS, generator)):
            scores = torch.randn(ids.shape, generator=generator, dtype=torch.float64)
            choices.append(Choice(ids, scores, pool))
        with torch.no_grad():
            wanted = HeldMomor(momor, TreeRouting(choices, (TOKENS,), None).gates)(x)[0]
        gaps.append(relative_gap(planned_update(layer, x, choices), wanted))
    return closeness(
        "smore_prop32_coefficients",
        "S'MoRE Prop. 3.2",
        "with σ = id an expert's coefficient is the sum over its ancestral paths of the products of α, for any tree "
        f"and any α, negative too (largest relative difference to MoMOR with those gates, {len(MIXED)} structures)",
        gaps,
    )


@claim_check("S'MoRE init eq_1_layer")
def smore_collapse_to_one_layer(seed: int = 0) -> Claim:
    """Two layers that start with init="eq_1_layer" and have σ = id are one mixture over both pools."""
    import torch

    from ..adapters import Smore, SmoreConfig
    from .tree_enumeration import HeldMomor

    x, gaps = inputs(seed, TOKENS, IN_FEATURES), []
    for s, f in [([4, 4], [2, 2]), ([3, 5], [2, 3]), ([4, 3, 2], [2, 2, 1])]:
        layer = Smore(
            IN_FEATURES,
            7,
            SmoreConfig(num_experts=s, fanout=f, r=2, down_dim=4, key_dim=4, activation="identity", init="eq_1_layer"),
        ).double()
        with torch.no_grad():
            layer.W_proj.copy_(inputs(seed, *layer.W_proj.shape))  # at the start it is 0, and everything equal
            found, routing = layer(x)
            gaps.append(relative_gap(found, HeldMomor(as_momor(collapsed(layer)), routing.gates)(x)[0]))
    return closeness(
        "smore_collapse_to_one_layer",
        "S'MoRE init eq_1_layer",
        "S'MoRE with init eq_1_layer and σ = id is one LoRA mixture over the experts of all layers, with the "
        "coefficients that its router gives them (largest relative difference; two structures of two layers, one of "
        "three, W_proj random)",
        gaps,
    )


@claim_check("our control of S'MoRE's trees")
def smore_thm34_trees_as_trained(seed: int = 0) -> Claim:
    """Training computes all trees at once, in `adapters.tree_pass`; the other statements are about trees node by node."""
    import torch

    from ..adapters import Smore, SmoreConfig
    from .smore_families import randomized

    x, gaps = inputs(seed, TOKENS, IN_FEATURES), []
    for (s, f), activation in zip([paper_sizes(2), paper_sizes(3), ([3, 6], [2, 3])], ("tanh", "relu", "tanh")):
        config = SmoreConfig(num_experts=s, fanout=f, r=2, key_dim=4, down_dim=4, activation=activation)
        layer = randomized(Smore(IN_FEATURES, 7, config), seed)
        assert layer.usual, "a configuration whose trees are computed at once"
        with torch.no_grad():
            gaps.append(relative_gap(layer(x)[0], planned_update(layer, x, layer.route(layer.down(x)))))
    return closeness(
        "smore_thm34_trees_as_trained",
        "our control of S'MoRE's trees",
        "a training step's trees, computed at once, are those that the router chooses and the layers mix node by node "
        f"(largest relative difference, {len(gaps)} structures, {TOKENS} tokens)",
        gaps,
    )
