"""Items that none of the papers has."""

from __future__ import annotations

from .item import NONE, OWN, PRETRAINED, ROUTING, SYSTEMS, TUNING, Item

ITEMS = (
    Item(
        "comparison_tasks",
        "Beyond the papers",
        "nine systems task by task",
        "systems.measure_tasks",
        SYSTEMS,
        part_of="trex_fig3",
        paper_setting=NONE,
        follows="Follows: which systems are ahead on which of these tasks. Does not follow: a claim of any paper.",
    ),
    Item(
        "systems_rates",
        "Beyond the papers",
        "every system over its grid of learning rates",
        "systems.measure_table",
        SYSTEMS,
        part_of="trex_fig3",
        campaigns=("campaigns/compact.yaml",),
        paper_setting=NONE,
        follows=TUNING,
    ),
    Item(
        "smore_steps",
        "Beyond the papers",
        "S'MoRE with wider routing and with more steps",
        "systems.measure_steps",
        SYSTEMS,
        campaigns=("campaigns/compact.yaml", "campaigns/compact_steps.yaml"),
        paper_setting=NONE,
        follows=(
            "Follows: whether narrow routing or a short training explains what S'MoRE lacks on this small model. Does not "
            "follow: a claim of the paper."
        ),
    ),
    Item(
        "trex_fig3_pretrained_rates",
        "Beyond the papers",
        "T-REX and its opponents over a grid of learning rates on a pretrained model",
        "systems.measure_pretrained",
        PRETRAINED,
        part_of="trex_fig3_pretrained",
        campaigns=("campaigns/smollm2_multitask.yaml",),
        paper_setting=NONE,
        follows=TUNING,
    ),
    Item(
        "routing_information",
        "Beyond the papers",
        "what experts know, and their load",
        "routing.measure",
        ROUTING,
        paper_setting=NONE,
        follows="Follows: what gates tell about data sets on a small backbone. Does not follow: that experts are the cause.",
    ),
    Item(
        "routing_experts",
        "Beyond the papers",
        "experts and data sets",
        "routing.measure_experts",
        ROUTING,
        paper_setting=NONE,
        follows="Follows: whether intuition makes routing semantic here. Does not follow: a claim that T-REX measured.",
    ),
    Item(
        "routing_agreement",
        "Beyond the papers",
        "agreement of routers",
        "routing.measure_agreement",
        ROUTING,
        paper_setting=NONE,
        follows="Follows: how alike routers of other seeds and layers are here. Does not follow: a claim of any paper.",
    ),
    Item(
        "routing_tokens",
        "Beyond the papers",
        "ten sentences, token by token",
        "routing.sentences",
        ROUTING,
        paper_setting=NONE,
        follows="Follows: what the gates of these sentences are. It decides no claim.",
    ),
    Item(
        "own_adapter",
        "Beyond the papers",
        "an adapter of your own, task by task",
        "systems.measure_adapter",
        OWN,
        paper_setting=NONE,
        follows="Follows: whether the example is ahead of LoRA and T-REX here. Does not follow: a claim of any paper.",
    ),
)
