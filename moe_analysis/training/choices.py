"""The settings of a run, field by field: which differ from their defaults, and what each field means."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from typing import Any

from .config import TrainConfig
from .run_folder import flat

TYPE = "adapter.peft_type"
MEANINGS = {
    "backbone": "the frozen model that is adapted",
    "suite": "where the data sets come from",
    "datasets": "the data sets of the suite that are used; none: all",
    "optimizer": "the rule that turns gradients into updates",
    "optimizer_options": "the optimizer's own settings",
    "lr": "peak learning rate of the experts: how far one update goes",
    "router_lr": "peak learning rate of the router; none: same as the experts",
    "weight_decay": "how strongly weights are pulled to zero at each update",
    "max_grad_norm": "longer gradients are scaled down to this length; none: never",
    "router_max_grad_norm": "the same, only for the router's gradients",
    "schedule": "how the learning rate falls after the warm-up",
    "final_lr": "learning rate at the last step, as a share of the peak",
    "warmup_steps": "steps over which the learning rate rises to its peak",
    "steps": "total number of updates",
    "batch_size": "samples in one forward pass",
    "gradient_accumulation": "forward passes per update",
    "gradient_checkpointing": "activations are computed twice, to save memory",
    "rows_per_dataset": "most training rows of each data set; none: all",
    "max_length": "most tokens of a sample; a longer prompt loses its beginning",
    "prompt_form": "how a row is written as a prompt; none: as the backbone was trained",
    "precision": "number format of the forward pass",
    "embedder": "the model that embeds prompts for the intuition",
    "eval_every": "steps between two evaluations; 0: only at the end",
    "eval_rows": "most test rows of each data set; none: all",
    "holdout_rows": "training rows of each data set that are not trained on, and evaluated instead of the test rows",
    "transfer_suites": "further suites that the trained model is evaluated on",
    "save_every": "steps between two checkpoints",
    "record_every": "steps between two records of routers and gates; 0: none",
    "record_experts_every": "steps between two records of the experts; 0: none",
    "record_trees_every": "steps between two records of S'MoRE's trees; 0: none",
    "seed": "start of the random numbers",
    "name": "name of the method in tables and figures",
    "report_to": "where the numbers of training are sent step by step",
}
ADAPTER = "adapter."
ADAPTER_MEANINGS = {
    "peft_type": "the kind of adapter",
    "target_modules": "the layers that get an adapter",
    "r": "rank of each expert: how many directions it can change",
    "alpha": "the update is scaled by alpha / r",
    "lora_alpha": "the update is scaled by lora_alpha / r",
    "num_experts": "experts of each layer",
    "top_k": "experts that a token uses; none: all",
    "num_down": "down-projections that experts are made of",
    "num_up": "up-projections that experts are made of",
    "fanout": "children that each node of a token's tree keeps, layer by layer",
    "gate": "how scores become the weights of experts",
    "dropout": "share of the adapter's input that is dropped in training",
    "lora_dropout": "share of the adapter's input that is dropped in training",
    "balance_coef": "weight of the loss that spreads tokens over the experts",
    "intuition": "whether routing uses the meaning of the prompt",
    "router": "whether a learned router is used; for S'MoRE, in which order it goes through the tree",
    "temperature": "the router's scores are divided by it before the gate; for T-REX a constant of the authors' code",
    "gate_backward_power": "p of the factor g^p in the experts' backward pass: 1 plain, 0.5 rescaled",
    "normalize_gates": "whether the weights of the kept experts sum to 1; none: the gate's own rule",
    "pairing": "whether every down-projection is combined with every up-projection, or with only one",
    "intuition_mapper": "whether a trained layer maps clusters to experts",
    "num_clusters": "clusters of prompts that the intuition uses",
    "router_coef": "weight of the learned router's scores",
    "intuition_coef": "weight of the intuition's scores",
    "key_dim": "width of the router's queries and keys",
    "down_dim": "width to which the router's input is projected; none: not projected",
    "gate_arch": "how the router scores a child: by a small network, or by one product",
    "activation": "the function between the layers of a tree",
    "router_activation": "the function inside the router's network",
    "activation_position": "what the function between layers is applied to",
    "shared_pool": "whether all layers of a tree share their experts",
    "expert_bias": "whether experts add a bias",
    "init": "initial values of the last projections",
    "gate_dtype": "number format of the gate's softmax",
}


@dataclass(frozen=True)
class Choice:
    """A field by its dotted name, the run's value, and the default; `MISSING` where it is unknown here."""

    field: str
    value: Any
    default: Any = MISSING


def choices(config: TrainConfig) -> list[Choice]:
    """Fields that differ from the defaults of TrainConfig and of the adapter's own class; the adapter's type always.

    Example:
        >>> config = ma.TrainConfig(adapter=ma.TRexConfig(num_up=4), lr=0.1)
        >>> [(one.field, one.value, one.default) for one in choices(config)]
        [('lr', 0.1, 0.005), ('adapter.num_up', 4, 8), ('adapter.peft_type', 'TREX', 'LORA')]
    """
    usual = flat(TrainConfig().to_dict())
    known = {name: value for name, value in usual.items() if not name.startswith("adapter.")}
    known |= adapter_defaults(config.adapter) | {TYPE: usual[TYPE], "adapter.task_type": usual["adapter.task_type"]}
    found = []
    for name, value in flat(config.to_dict()).items():
        default = known.get(name, MISSING)
        unset = value is None and default is MISSING
        if name == TYPE or not (unset or same(value, default)):
            found.append(Choice(name, value, default))
    return found


def same(value: Any, default: Any) -> bool:
    """Whether a value is the default; JSON has lists where a configuration has sets, in an order of their own."""
    if isinstance(default, set | frozenset | tuple) and isinstance(value, list):
        return sorted(map(str, value)) == sorted(map(str, default))
    return value == default


def adapter_defaults(adapter: Any) -> dict[str, Any]:
    """{"adapter.r": 8, …}: the fields of a PEFT configuration at their defaults."""
    values: dict[str, Any] = {}
    for entry in fields(adapter):
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        values |= flat({entry.name: default}, "adapter.")
    return values


def meaning(name: str, adapters: tuple[Any, ...] = ()) -> str:
    """What a field means, in a few words; empty if it is unknown.

    Args:
        name: dotted, as "lr" or "adapter.num_up"; a setting inside another, as "optimizer_options.damping", has the
            meaning of the outer one.
        adapters: configurations whose own help is asked for fields of adapters.

    Example:
        >>> meaning("adapter.r")
        'rank of each expert: how many directions it can change'
    """
    if not name.startswith(ADAPTER):
        return MEANINGS.get(name.partition(".")[0], "")
    own = name.removeprefix(ADAPTER).partition(".")[0]
    if known := ADAPTER_MEANINGS.get(own):
        return known
    said = (helped(adapter, own) for adapter in adapters)
    return next((text for text in said if text), "")


def helped(adapter: Any, name: str) -> str:
    """The first sentence of a configuration's text about its field."""
    entry = next((entry for entry in fields(adapter) if entry.name == name), None)
    return first_sentence(entry.metadata.get("help", "")) if entry is not None else ""


def first_sentence(text: str) -> str:
    """
    >>> first_sentence("The rank. It may differ.\\n  See below.")
    'the rank'
    """
    joined = " ".join(re.sub("<[^>]*>", "", text).split())
    sentence = re.split(r"(?<=[a-z)])\. ", joined)[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() else sentence
