"""Budgets, against exhaustive search, counts on built modules and counts on PEFT models."""

from __future__ import annotations

from dataclasses import fields, replace

import peft
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_analysis import peft_bridge
from moe_analysis.adapters import (
    HydraLoraConfig,
    MoeLoraConfig,
    MomorConfig,
    SiraConfig,
    SmoreConfig,
    TRexConfig,
)
from moe_analysis.theory.budget import match_budget, with_ranks
from moe_analysis.theory.count import count_lora, meta_layer
from moe_analysis.theory.method_table import adapter_cost, registered_name

PURE = {
    "LoRA-MoE": MoeLoraConfig(num_experts=4, r=4),
    "MixLoRA": MoeLoraConfig(num_experts=4, top_k=2, gate="switch"),
    "noisy top-k": MoeLoraConfig(num_experts=4, top_k=2, gate="noisy_topk"),
    "SiRA": SiraConfig(num_experts=8),
    "HydraLoRA": HydraLoraConfig(num_experts=3),
    "MoMOR": MomorConfig(num_experts=[4, 2], top_k=[2, 2], gate=["switch", "dense"], r=[1, 2]),
    "S'MoRE": SmoreConfig(num_experts=[3, 2], fanout=[2, 1], key_dim=3, down_dim=4),
    "S'MoRE of three": SmoreConfig(num_experts=[2] * 3, fanout=[1] * 3, r=[1, 1, 2], key_dim=3, down_dim=4),
    "S'MoRE#": SmoreConfig(num_experts=[3, 3], fanout=[2, 2], shared_pool=True, key_dim=3, down_dim=4),
    "T-REX": TRexConfig(num_down=2, num_up=4),
    "T-REX, no router": TRexConfig(num_down=2, num_up=4, router=False),
    "T-REX, mapper": TRexConfig(num_down=3, num_up=2, intuition_mapper=True, num_clusters=8),
    "T-REX, diagonal": TRexConfig(num_down=3, num_up=3, pairing="diagonal"),
}
SYSTEMS = {
    **PURE,
    "LoRA": peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj"]),
    "PEFT's S'MoRE": peft_bridge.SmoreConfig(num_experts=[3, 2], fanout=[2, 1], key_dim=3, down_dim=4),
    "PEFT's SiRA": peft_bridge.SiraConfig(num_experts=8),
    "PEFT's T-REX": peft_bridge.TRexConfig(num_down=2, num_up=4),
}
LAYERS = [(12, 20), (20, 12), (12, 20)]
systems = st.sampled_from(sorted(SYSTEMS))
shapes = st.lists(st.tuples(st.integers(8, 40), st.integers(8, 40)), min_size=1, max_size=4)


def numel(config, layers, part: str = "all") -> int:
    """Trainable parameters of the modules themselves, which stand on the meta device."""
    if isinstance(config, peft.LoraConfig):
        return sum(count_lora(*shape, config.r).expert_parameters for shape in layers)
    total = 0
    for shape in layers:
        module = meta_layer(registered_name(config), *shape, config)
        total += sum(parameter.numel() for parameter in module.parameters())
        if part == "experts":
            total -= sum(parameter.numel() for parameter in module.router_parameters())
    return total


def sized(config, steps: int):
    """The configuration with ranks of about so many steps, as a user could have written it."""
    if isinstance(config, TRexConfig):
        up = steps if config.pairing == "diagonal" else 2 * steps
        return replace(config, num_down=steps, num_up=up)
    held = getattr(config, "num_experts", None)
    return with_ranks(config, [steps] * len(held) if isinstance(held, list) else steps)


@settings(max_examples=40, deadline=None)
@given(systems, shapes, st.integers(300, 60_000), st.sampled_from([0.02, 0.05, 0.2]))
def test_a_budget_is_met_within_the_tolerance_and_counted_on_the_modules(name, layers, trainable, tolerance):
    try:
        found = match_budget(SYSTEMS[name], trainable, layers, tolerance=tolerance)
    except ValueError as error:
        assert "cannot be met" in str(error)
        assume(False)
    assert adapter_cost(found, layers).parameters == numel(found, layers)
    assert abs(numel(found, layers) - trainable) <= tolerance * trainable
    assert type(found) is type(SYSTEMS[name])


@settings(max_examples=30, deadline=None)
@given(systems, shapes, st.integers(1, 12))
def test_the_parameters_of_a_configuration_are_met_by_one_that_has_as_many(name, layers, steps):
    written = sized(SYSTEMS[name], steps)
    trainable = numel(written, layers)
    found = match_budget(SYSTEMS[name], trainable, layers, tolerance=0.0)
    assert numel(found, layers) == trainable
    if not isinstance(written, TRexConfig):  # other pairs may cost the same
        assert getattr(found, "num_experts", None) == getattr(written, "num_experts", None)


@settings(max_examples=30, deadline=None)
@given(systems, shapes, st.integers(1000, 40_000), st.floats(1.0, 1.5))
def test_a_larger_budget_never_gives_fewer_parameters(name, layers, trainable, more):
    try:
        less, greater = (match_budget(SYSTEMS[name], N, layers) for N in (trainable, int(trainable * more)))
    except ValueError:
        assume(False)
    assert numel(less, layers) <= numel(greater, layers)


@pytest.mark.parametrize("trainable", [2000, 4321, 9000])
def test_ranks_are_those_of_an_exhaustive_search(trainable):
    config = MoeLoraConfig(num_experts=4, r=1)
    nearest = min(range(1, 200), key=lambda r: abs(numel(replace(config, r=r), LAYERS) - trainable))
    assert match_budget(config, trainable, LAYERS, tolerance=0.2).r == nearest


@pytest.mark.parametrize("name", ["T-REX", "T-REX, no router", "T-REX, mapper"])
def test_pairs_of_vectors_are_those_of_an_exhaustive_search_where_no_ratio_meets_the_budget(name):
    config, width, height = PURE[name], 12, 20
    by_expert = (width if config.router else 0) + (8 if config.intuition_mapper else 0)
    grid = [i * width + j * height + i * j * by_expert + 2 for i in range(1, 150) for j in range(1, 100)]
    for trainable in range(400, 1900, 100):
        best = min(abs(size - trainable) for size in grid)
        found = match_budget(config, trainable, [(width, height)], tolerance=(best + 0.5) / trainable)
        assert abs(numel(found, [(width, height)]) - trainable) == best


def test_experts_are_kept_where_a_rank_meets_the_budget_and_give_way_where_none_does():
    eight = MoeLoraConfig(num_experts=8, top_k=2, gate="switch")
    floor = numel(replace(eight, r=1), LAYERS)
    assert match_budget(eight, floor, LAYERS).num_experts == 8
    below = match_budget(eight, int(floor * 0.76), LAYERS)
    assert (below.num_experts, below.top_k, below.r) == (6, 2, 1)


def test_the_share_of_experts_in_use_is_kept():
    four = SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=1, key_dim=4, down_dim=4)
    two = replace(four, num_experts=[2, 2], fanout=[1, 1])
    found = match_budget(four, numel(two, LAYERS), LAYERS, tolerance=0.01)
    assert (found.num_experts, found.fanout, found.r) == ([2, 2], [1, 1], 1)
    fewer = SiraConfig(num_experts=4, top_k=3, r=1)
    sira = match_budget(SiraConfig(num_experts=8), numel(fewer, LAYERS), LAYERS, tolerance=0.0)
    assert (sira.num_experts, sira.top_k) == (4, 3)


def test_alpha_follows_the_rank():
    mixture = match_budget(MoeLoraConfig(num_experts=4, r=4, alpha=16.0), 8000, LAYERS)
    assert mixture.r != 4 and mixture.alpha == 4.0 * mixture.r
    lora = match_budget(SYSTEMS["LoRA"], 32 * 96, LAYERS)
    assert (lora.r, lora.lora_alpha) == (32, 64)
    stabilised = peft.LoraConfig(r=4, lora_alpha=8, use_rslora=True)
    assert with_ranks(stabilised, 16).lora_alpha == 16  # 8 / √4 = 16 / √16
    pools = with_ranks(MomorConfig(alpha=8.0, r=[2, 4]), [3, 5])
    assert pools.scales == [4.0, 2.0] and with_ranks(SmoreConfig(), [3, 5]).scales == [1.0, 1.0]


def test_only_the_sizes_change():
    config = peft_bridge.TRexConfig(num_down=2, num_up=4, temperature=7.0, dropout=0.1, target_modules=["q_proj"])
    found = match_budget(config, 9000, LAYERS)
    changed = {one.name for one in fields(config) if getattr(config, one.name) != getattr(found, one.name)}
    assert changed == {"num_down", "num_up"}


def test_a_list_of_ranks_keeps_its_proportion():
    found = match_budget(MomorConfig(num_experts=[2, 2], r=[1, 3]), 20_000, LAYERS)
    assert abs(found.r[1] / found.r[0] - 3) < 0.2


def test_trex_keeps_its_ratio_and_the_clusters_that_are_set():
    assert match_budget(TRexConfig(), numel(TRexConfig(num_down=6, num_up=12), LAYERS), LAYERS).num_up == 12
    held = TRexConfig(num_down=4, num_up=8, num_clusters=32)
    pair = match_budget(held, numel(replace(held, num_down=2, num_up=16), LAYERS), LAYERS, tolerance=0.0)
    assert (pair.num_down, pair.num_up) == (2, 16)
    with pytest.raises(ValueError, match=r"nearest has .* \(num_down=1, num_up=32\)"):
        match_budget(held, 10 * numel(held, LAYERS), LAYERS)
    free = match_budget(replace(held, intuition=False), 2 * numel(held, LAYERS), LAYERS)
    assert free.num_experts > 32


def test_active_parameters_and_experts_alone_can_be_the_budget():
    config = MoeLoraConfig(num_experts=8, top_k=2)
    active = match_budget(config, 3000, LAYERS, counted="active")
    found = adapter_cost(active, LAYERS)
    assert abs(found.active_parameters + found.router_parameters - 3000) <= 150 and active.num_experts == 8
    experts = match_budget(config, 8 * 96 * 3, LAYERS, part="experts")
    assert experts.r == 3 and numel(experts, LAYERS, part="experts") == 8 * 96 * 3
    assert match_budget(config, 2 * 96 * 3, LAYERS, counted="active", part="experts").r == 3


def test_an_impossible_budget_names_the_nearest_that_there_is():
    with pytest.raises(
        ValueError,
        match=r"trainable = 10 trainable parameters \(all\) over 3 layers cannot be met "
        r"within 5 % by TRexConfig: the nearest has 146 \(num_down=1, num_up=1\)",
    ):
        match_budget(TRexConfig(), 10, LAYERS)


def test_the_tolerance_that_an_error_offers_is_enough():
    eight = MoeLoraConfig(num_experts=8)
    with pytest.raises(ValueError, match="the nearest has 280 \\(num_experts=2, r=1\\)") as raised:
        match_budget(eight, 340, LAYERS)
    offered = float(str(raised.value).rpartition("tolerance=")[2])
    assert numel(match_budget(eight, 340, LAYERS, tolerance=offered), LAYERS) == 280


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trainable": 0}, "trainable = 0 must be at least 1"),
        ({"counted": "total"}, "counted = 'total' is unknown; choose one of trainable, active"),
        ({"part": "router"}, "part = 'router' is unknown; choose one of all, experts"),
        ({"tolerance": -0.1}, "tolerance = -0.1 must be at least 0"),
        ({"shapes": []}, "shapes = \\[\\] has no layer"),
        ({"adapter": MoeLoraConfig(top_k=9)}, "top_k = 9 must be between 1 and num_experts = 8"),
        ({"adapter": peft.IA3Config()}, "adapter is a IA3Config, which has no cost formula"),
        ({"adapter": peft.LoraConfig(use_dora=True)}, "use_dora = True changes parameters in a way"),
    ],
)
def test_what_cannot_be_counted_is_refused_before_the_search(options, message):
    with pytest.raises(ValueError, match=message):
        match_budget(**{"adapter": MoeLoraConfig(), "trainable": 5000, "shapes": LAYERS, **options})
