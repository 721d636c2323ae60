"""The nine systems that are compared, each at one budget of trainable parameters, and the series made of them.

Every update is scaled alike. Where a system scales by alpha / r it is 2, LoRA's own convention (alpha = 2r, as in
S'MoRE's baselines), for LoRA as for the mixtures, whose gates sum to 1 (SiRA's to less): a mixture's update is then as
large as LoRA's. MoMOR's two pools, whose gates sum to 1 each, have scale 1 for the same reason. S'MoRE and T-REX keep
their papers' own: S'MoRE 1 inside its layers, T-REX the constants of its routing weights. T-REX's authors run LoRA-MoE
and SiRA with alpha / r = 1 (`presets.methods`); here that would be a smaller step for two systems of nine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from .backbones import load_shell
from .presets import FEED_FORWARD, TARGETS
from .theory.budget import TOLERANCE
from .theory.budget import match_budget as match_on_layers
from .theory.method_table import Shapes, adapter_cost, layer_shapes

LABELS = ("LoRA", "LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA", "MoMOR", "S'MoRE", "mix-and-match", "T-REX")
ALL_PROJECTIONS = FEED_FORWARD + TARGETS
SCALE = 2.0  # alpha / r
POOL, FANOUT = 4, 2  # S'MoRE's protocol
OTHER_GATES = {"noisy top-k": "noisy_topk", "dense": "dense"}  # in addition to the switch gates of `protocol`
# LoRA's rank at the budget of the comparison: 8 experts of rank r with their router cost what LoRA of rank 8r + 4 does
# (3.5 on the compact backbone), so here all nine keep their papers' experts and come within 2.5 %
REFERENCE_RANK = 20
CURVES = ("LoRA", "HydraLoRA", "MixLoRA", "S'MoRE")  # of S'MoRE's Fig. 4
RANKS = (12, 20, 28, 44)  # of LoRA, at the budgets of a series; at 12 S'MoRE's pools hold 3, not 4


def match_budget(adapter: Any, trainable: int, shapes: Shapes | str = "compact", **options: Any) -> Any:
    """`theory.budget.match_budget`, with its options, on a backbone by name; the default is the compact one.

    >>> config = ma.match_budget(ma.MoeLoraConfig(num_experts=8, target_modules=["q_proj", "v_proj"]), trainable=40_000)
    >>> config.num_experts, config.r
    (8, 2)
    >>> ma.match_budget(ma.MoeLoraConfig(num_experts=8, target_modules=["q_proj"]), trainable=10)
    Traceback (most recent call last):
        ...
    ValueError: trainable = 10 trainable parameters (all) over 4 layers cannot be met within 5 % by ...
    """
    return match_on_layers(adapter, trainable, meta_backbone(shapes), **options)


def meta_backbone(backbone: Shapes | str) -> Shapes:
    """A model or [(in, out), …] as it is; a backbone's name (see `load_backbone`) as a model on the meta device.

    Of a name only the configuration is read, no weights.

    Raises:
        ValueError: If there is none.

    Example:
        >>> shell = meta_backbone("compact")
        >>> next(shell.parameters()).device.type, meta_backbone(shapes) is shapes
        ('meta', True)
    """
    if not isinstance(backbone, str):
        return backbone
    try:
        return load_shell(backbone)
    except ValueError as error:
        raise ValueError(
            f"backbone = {backbone!r} has no configuration that can be read; pass 'compact', a folder, a "
            "Hugging Face id, a model, or the shapes [(in, out), …]"
        ) from error


def lora_budget(
    rank: int = REFERENCE_RANK, targets: Sequence[str] | None = None, backbone: Shapes | str = "compact"
) -> int:
    """Trainable parameters of LoRA of a given rank on the targets: the budget of the other systems.

    >>> lora_budget(8, ["q_proj", "v_proj"])
    16384
    """
    import peft

    config = peft.LoraConfig(r=rank, target_modules=chosen(targets), task_type="CAUSAL_LM")
    return adapter_cost(config, layer_shapes(meta_backbone(backbone), config)).parameters


def systems(
    trainable: int | None = None,
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    tolerance: float = TOLERANCE,
    routing_width: int | None = None,
) -> dict[str, Any]:
    """PEFT configurations of the nine systems by label, each with `trainable` parameters (router included) or nearly.

    Args:
        trainable: None is LoRA's of rank REFERENCE_RANK.
        targets: Names of the layers, None for the feed-forward projections with q and v.
        backbone: A model, its name, or [(in, out), …].
        tolerance: See `match_budget`, which finds the sizes.
        routing_width: See `protocol`.

    Raises:
        ValueError: If a system cannot meet the budget, naming it.

    Example:
        >>> found = systems(trainable=20_480, backbone=shapes)
        >>> {label: config.r for label, config in found.items() if label in ("LoRA", "LoRA-MoE", "S'MoRE")}
        {'LoRA': 20, 'LoRA-MoE': 2, "S'MoRE": 2}
    """
    model = meta_backbone(backbone)
    trainable = lora_budget(targets=targets, backbone=model) if trainable is None else trainable
    return {label: fitted(label, trainable, targets, model, tolerance, routing_width) for label in LABELS}


def fitted(
    label: str,
    trainable: int,
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    tolerance: float = TOLERANCE,
    routing_width: int | None = None,
) -> Any:
    """One system at a budget; arguments as for `systems`."""
    model = meta_backbone(backbone)
    known = protocol(targets, narrow(model, targets) if routing_width is None else routing_width)
    if label not in known:
        raise ValueError(f"label = {label!r} is unknown; choose one of {', '.join(known)}")
    try:
        return match_budget(known[label], trainable, model, tolerance=tolerance)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def smaller_trex(
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    saved: float = 0.35,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """T-REX as its headline has it, more accurate *and* smaller: "T-REX, smaller" -> configuration.

    Args:
        targets, backbone, tolerance: as for `systems`.
        saved: share of the reference budget that it does without; the paper says 30 to 40 %.

    Raises:
        ValueError: if no number of vectors gives that size.

    Example:
        >>> found = smaller_trex(["q_proj", "v_proj"])
        >>> {label: (config.num_down, config.num_up) for label, config in found.items()}
        {'T-REX, smaller': (3, 6)}
    """
    model = meta_backbone(backbone)
    trainable = round((1 - saved) * lora_budget(targets=targets, backbone=model))
    return {"T-REX, smaller": fitted("T-REX", trainable, targets, model, tolerance)}


def protocol(targets: Sequence[str] | None = None, routing_width: int = 32) -> dict[str, Any]:
    """The nine systems with their papers' experts and gates, at any rank.

    LoRA-MoE: 8 experts, softmax over all of them; SiRA: the top 6 of 8, not renormalized; T-REX and mix-and-match: 4
    down and 8 up vectors, with and without intuition (all four T-REX). HydraLoRA: 4 heads, dense; MixLoRA: 2 of 8
    experts, switch gate; MoMOR and S'MoRE: pools (4, 4), 2 of each, switch gates, S'MoRE with tanh (S'MoRE).

    Args:
        routing_width: Of S'MoRE's projected tokens and keys.
    """
    import peft

    from . import peft_bridge

    configs: Any = peft_bridge  # its classes are made when it is imported, out of a type checker's sight
    names = chosen(targets)
    mixture = {"r": 4, "alpha": 4 * SCALE, "target_modules": names}
    return {
        "LoRA": peft.LoraConfig(r=8, lora_alpha=int(8 * SCALE), target_modules=names, task_type="CAUSAL_LM"),
        "LoRA-MoE": configs.MoeLoraConfig(num_experts=8, **mixture),
        "SiRA": configs.SiraConfig(num_experts=8, **mixture),
        "HydraLoRA": configs.HydraLoraConfig(num_experts=4, **mixture),
        "MixLoRA": configs.MoeLoraConfig(num_experts=8, top_k=2, gate="switch", **mixture),
        "MoMOR": configs.MomorConfig(num_experts=[POOL] * 2, top_k=[FANOUT] * 2, target_modules=names),
        "S'MoRE": smore(2, names, routing_width),
        "mix-and-match": configs.TRexConfig(num_down=4, num_up=8, intuition=False, target_modules=names),
        "T-REX": configs.TRexConfig(num_down=4, num_up=8, target_modules=names),
    }


def smore(layers: int, targets: Sequence[str] | None = None, routing_width: int = 32) -> Any:
    """S'MoRE of its paper's protocol with any number of layers: pools of 4, fanout 2, tanh, switch gates."""
    from . import peft_bridge

    configs: Any = peft_bridge
    return configs.SmoreConfig(
        num_experts=[POOL] * layers,
        fanout=[FANOUT] * layers,
        activation="tanh",
        key_dim=routing_width,
        down_dim=routing_width,
        target_modules=chosen(targets),
    )


def chosen(targets: Sequence[str] | None) -> list[str]:
    return list(ALL_PROJECTIONS if targets is None else targets)


def narrow(backbone: Shapes, targets: Sequence[str] | None = None) -> int:
    """Width of S'MoRE's projected tokens and keys: a 128th of the narrowest input, which is the paper's 32 at 4096 and
    16 at 2048, and at least 4.

    With 32 the compact backbone's projections alone would cost what LoRA of rank 14 does; with 4 the router's share
    (11 % at the reference budget) is near that of the other mixtures (18 %).
    """
    import peft

    config = peft.LoraConfig(target_modules=chosen(targets))
    return min(32, max(4, min(width for width, _ in layer_shapes(backbone, config)) // 128))


def layer_series(
    trainable: int | None = None,
    layers: Iterable[int] = (1, 2, 3),
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    tolerance: float = TOLERANCE,
) -> dict[int, Any]:
    """S'MoRE with more layers at an equal budget (S'MoRE, Table 5): number of layers -> configuration.

    Pools of 4 with fanout 2 in every layer; the ranks shrink as layers are added.

    Args:
        trainable: None is LoRA's of rank REFERENCE_RANK.

    Example:
        >>> {layers: config.r for layers, config in layer_series(20_480, backbone=shapes).items()}
        {1: 4, 2: 2, 3: [1, 2, 2]}
    """
    model = meta_backbone(backbone)
    trainable = lora_budget(targets=targets, backbone=model) if trainable is None else trainable
    width = narrow(model, targets)
    return {
        number: match_budget(smore(number, targets, width), trainable, model, tolerance=tolerance) for number in layers
    }


def gate_series(
    trainable: int | None = None,
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """MixLoRA and S'MoRE with the gates that `systems` does not give them, at an equal budget: "S'MoRE (dense)" -> ….

    A dense gate uses every expert of a pool.

    Args:
        trainable: None is LoRA's of rank REFERENCE_RANK.

    Example:
        >>> {label: config.gate for label, config in gate_series(20_480, backbone=shapes).items()}
        {'MixLoRA (noisy top-k)': 'noisy_topk', "S'MoRE (noisy top-k)": 'noisy_topk', 'MixLoRA (dense)': 'dense', ...
    """
    model = meta_backbone(backbone)
    trainable = lora_budget(targets=targets, backbone=model) if trainable is None else trainable
    known, found = protocol(targets, narrow(model, targets)), {}
    for name, gate in OTHER_GATES.items():
        dense = gate == "dense"
        changes: dict[str, dict[str, Any]] = {
            "MixLoRA": {"top_k": None if dense else FANOUT},
            "S'MoRE": {"fanout": [POOL if dense else FANOUT] * 2},
        }
        for label, change in changes.items():
            changed = replace(known[label], gate=gate, **change)
            found[f"{label} ({name})"] = match_budget(changed, trainable, model, tolerance=tolerance)
    return found


def size_sweep(
    ranks: Sequence[int] = (12, 20, 44),
    layers: Iterable[int] = (1, 3),
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    tolerance: float = TOLERANCE,
) -> dict[int, dict[str, Any]]:
    """The adapters of S'MoRE's Fig. 4 and Table 5: budget -> label -> configuration.

    LoRA, HydraLoRA, MixLoRA and S'MoRE at the budget of LoRA of each rank; at the middle one also the other gates of
    `gate_series`, and S'MoRE with other numbers of layers, as "S'MoRE, L = 3".

    Args:
        ranks: of LoRA, rising.
        layers: of S'MoRE in addition to its two.
        targets: as for `systems`.
        backbone: as for `systems`.
        tolerance: as for `systems`.

    Raises:
        ValueError: if a system cannot meet a budget, naming it.

    Example:
        >>> found = size_sweep((20, 44), (1,), backbone=shapes)
        >>> [list(own) for own in found.values()][0]
        ['LoRA', 'HydraLoRA', 'MixLoRA', "S'MoRE"]
    """
    model = meta_backbone(backbone)
    budgets = [lora_budget(rank, targets, model) for rank in ranks]
    found = {
        budget: {label: fitted(label, budget, targets, model, tolerance) for label in CURVES} for budget in budgets
    }
    middle = budgets[len(budgets) // 2]
    deeper = layer_series(middle, layers, targets, model, tolerance)
    found[middle] |= {f"S'MoRE, L = {number}": config for number, config in deeper.items()}
    found[middle] |= gate_series(middle, targets, model, tolerance)
    return found


def step_time_pairs(
    budgets: Iterable[int] | None = None,
    targets: Sequence[str] | None = None,
    backbone: Shapes | str = "compact",
    tolerance: float = TOLERANCE,
) -> dict[int, dict[str, Any]]:
    """MixLoRA and S'MoRE at equal parameters, whose times per step Table 7 of S'MoRE compares: budget -> label -> config.

    Args:
        budgets: None is those of LoRA at RANKS.

    Example:
        >>> pairs = step_time_pairs([20_480], backbone=shapes)
        >>> {budget: list(configs) for budget, configs in pairs.items()}
        {20480: ['MixLoRA', "S'MoRE"]}
    """
    model = meta_backbone(backbone)
    if budgets is None:
        budgets = [lora_budget(rank, targets, model) for rank in RANKS]
    return {
        budget: {label: fitted(label, budget, targets, model, tolerance) for label in ("MixLoRA", "S'MoRE")}
        for budget in budgets
    }
