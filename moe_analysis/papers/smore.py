"""The items of S'MoRE, and what we know about its settings. Source: Zeng et al., arXiv 2504.06426, its poster and code."""

from __future__ import annotations

from .item import BUDGETS, COST, EXACT, NONE, NOTHING, PRETRAINED, STATEMENT, TREES, TUNING, UNKNOWN, Item

PROTOCOL = "adapters on all three projections of every feed-forward block, 2 epochs, learning rate 1e-4"
LAYER = "layers of width 4096, s = 4, f = 2, ranks 8 and 16"
LARGE = (
    "it was not run: it needs the weights of {model} and a GPU with enough memory. `ma.load_backbone` loads them by "
    "name, `ma.train` trains the adapters, and lm_eval's `HFLM` scores a trained one on {tasks}"
)


def statement(id: str, source: str, says: str, checks: str, part_of: str = "") -> Item:
    """An item that programs check exactly; `part_of` is the figure that draws it."""
    return Item(id, source, says, checks=checks, part_of=part_of, paper_setting=STATEMENT, follows=EXACT)


ITEMS = (
    Item(
        "smore_fig1",
        "S'MoRE Fig. 1",
        "propagation and routing",
        "cost.measure_tree",
        COST,
        paper_setting="a drawing; no model, data or steps",
        follows="Follows: the counts of the drawn tree, exactly.",
    ),
    Item(
        "smore_fig2",
        "S'MoRE Fig. 2",
        "structural flexibility against layers",
        "flexibility.measure",
        TREES,
        paper_setting="a count: s = 4, f = 2, one layer to four",
        follows="Follows: the counts of the formulas, and that modules reach them with up to three layers. Does not follow: that "
        "a trained model uses all of them; see the trees that it uses.",
    ),
    Item(
        "smore_fig3",
        "S'MoRE Fig. 3",
        "three trees of the same experts",
        "flexibility.measure_trees",
        TREES,
        "smore_fig3_*",
        paper_setting="a drawing of three trees",
        follows=EXACT,
    ),
    Item(
        "smore_fig4",
        "S'MoRE Fig. 4",
        "accuracy against trainable parameters",
        "budgets.measure",
        BUDGETS,
        paper_setting=f"GSM8K on Llama-3-8B, about ten sizes of each method; {PROTOCOL}",
        follows="Follows: the order of the curves on a backbone of one million parameters and its own tasks. Does not follow: "
        "their order on GSM8K, or on a model that can calculate before the adapter is trained.",
    ),
    Item(
        "smore_fig4_pretrained",
        "S'MoRE Fig. 4, on a pretrained model",
        "accuracy against trainable parameters",
        "budgets.measure_pretrained",
        PRETRAINED,
        campaigns=("campaigns/smollm2_budgets.yaml",),
        paper_setting="as Fig. 4",
        follows="Follows: how LoRA, MixLoRA and S'MoRE compare at three sizes on a model of 135 million parameters and "
        "CommonsenseQA, after 300 steps, each at the rate that gave it the least held-out loss after 75 steps. Does not follow: "
        "their order on GSM8K, on a larger model, or at the largest sizes of the paper. The final runs of S'MoRE at the middle "
        "size had been seen when the claims were written.",
    ),
    Item(
        "smore_fig4_pretrained_rates",
        "Beyond S'MoRE",
        "the grid of learning rates at every size",
        "budgets.measure_pretrained",
        PRETRAINED,
        part_of="smore_fig4_pretrained",
        campaigns=("campaigns/smollm2_budgets.yaml",),
        paper_setting=NONE,
        follows=TUNING,
    ),
    Item(
        "smore_fig5",
        "S'MoRE Fig. 5",
        "the router costs at most 26 % of the experts",
        "cost.measure_routers",
        COST,
        paper_setting="a count for Llama-3.2-1B (width 2048, feed-forward 8192), noisy top-k; which structures it draws is "
        f"{UNKNOWN}",
        follows="Follows: the shares of the named structures. Does not follow: that these are the structures of the figure.",
    ),
    statement("smore_prop31", "S'MoRE Prop. 3.1", "one layer expresses any mixture", "smore_prop31_*"),
    statement("smore_prop32", "S'MoRE Prop. 3.2", "layers express any multi-order mixture", "smore_prop32_*"),
    statement("smore_thm33", "S'MoRE Thm 3.3", "a bound for MoMOR", "smore_thm33_*", "smore_fig2"),
    statement("smore_thm34", "S'MoRE Thm 3.4", "S'MoRE tells all trees apart", "smore_thm34_*", "smore_fig2"),
    statement("smore_thm34_layers", "S'MoRE Thm 3.4", "layers of unequal sizes", "smore_heterogeneous_layers"),
    statement("smore_cor35", "S'MoRE Cor. 3.5", "activation on the child only", "smore_cor35_*", "smore_fig2"),
    statement("smore_cor36", "S'MoRE Cor. 3.6", "one pool for all layers", "smore_cor36_*"),
    statement("smore_propc1", "S'MoRE Prop. C.1", "the construction of Prop. 3.1", "smore_prop31_*"),
    statement("smore_propc2", "S'MoRE Prop. C.2", "the construction of Prop. 3.2", "smore_prop32_coefficients"),
    statement("smore_lemmac8", "S'MoRE Lemma C.8", "an injective code of multisets", "smore_lemma_c8_*"),
    statement("smore_parameters", "S'MoRE cost of parameters", "2·d·d_L + Δ", "smore_cost_parameters"),
    statement("smore_operations", "S'MoRE cost of operations", "Δ' compared with 2·d·d_L", "smore_cost_[fgo]*"),
    statement("smore_active", "S'MoRE active experts", "min(s, F) distinct experts", "smore_cost_active_*"),
    statement("smore_collapse", "S'MoRE initialization", "starts as one layer", "smore_collapse_to_one_layer"),
    Item(
        "smore_table1",
        "S'MoRE Table 1",
        "overhead of parameters",
        part_of="smore_tables",
        paper_setting=f"a count: {LAYER}",
        follows="Follows: the printed numbers.",
    ),
    Item(
        "smore_table2",
        "S'MoRE Table 2",
        "S'MoRE is ahead of LoRA, HydraLoRA, MixLoRA",
        "systems.measure_table_2",
        PRETRAINED,
        campaigns=("campaigns/smollm2_table2.yaml",),
        paper_setting=f"Llama-3.2-1B and Llama-3-8B on five data sets, each on its own; {PROTOCOL}; every cell is the best "
        "of that method's own sweep of sizes",
        follows="Follows: how the methods compare at one budget on a model of 135 million parameters that learns the five data "
        "sets together, after 300 steps. Does not follow: how they compare at the best size of each, on one data set each, or "
        "on the paper's models.",
    ),
    Item(
        "smore_table2_rates",
        "Beyond S'MoRE",
        "the grid of learning rates on a pretrained model",
        "systems.measure_table_2",
        PRETRAINED,
        part_of="smore_table2",
        campaigns=("campaigns/smollm2_table2.yaml",),
        paper_setting=NONE,
        follows=TUNING,
    ),
    Item(
        "smore_table2_alone",
        "S'MoRE Table 2, one data set alone",
        "S'MoRE is ahead of LoRA, HydraLoRA, MixLoRA",
        "systems.measure_table_2",
        PRETRAINED,
        campaigns=("campaigns/smollm2_commonsense.yaml",),
        paper_setting="as Table 2",
        follows="Follows: how the methods compare at one budget on a model of 135 million parameters that learns CommonsenseQA, "
        "after 300 steps. Does not follow: how they compare at the best size of each, or on the paper's models.",
    ),
    Item(
        "smore_table2_alone_rates",
        "Beyond S'MoRE",
        "the grid of learning rates on one data set alone",
        "systems.measure_table_2",
        PRETRAINED,
        part_of="smore_table2_alone",
        campaigns=("campaigns/smollm2_commonsense.yaml",),
        paper_setting=NONE,
        follows=TUNING,
    ),
    Item(
        "smore_table3",
        "S'MoRE Table 3",
        "S'MoRE is ahead on GSM8K and HumanEval, Llama-3-8B",
        reason=LARGE.format(model="Llama-3-8B", tasks="both"),
        paper_setting=f"Llama-3-8B on GSM8K and HumanEval; {PROTOCOL}; the best of each method's own sweep of sizes",
        follows=NOTHING,
    ),
    Item(
        "smore_table4",
        "S'MoRE Table 4",
        "S'MoRE is ahead of LoRA and MixLoRA on Gemma-2-9B",
        reason=LARGE.format(model="Gemma-2-9B", tasks="all four"),
        paper_setting=f"Gemma-2-9B, average of ARC-e, CSQA, Winogrande and HumanEval; {PROTOCOL}",
        follows=NOTHING,
    ),
    Item(
        "smore_table5",
        "S'MoRE Table 5",
        "more layers at one budget",
        "budgets.measure_layers",
        BUDGETS,
        paper_setting=f"its numbers, model and data are {UNKNOWN}; our reading is that more layers help at one budget",
        follows="Follows: what more layers do on a backbone of one million parameters. Does not follow: what they do in the "
        "paper's setting.",
    ),
    Item(
        "smore_table5_pretrained",
        "S'MoRE Table 5, on a pretrained model",
        "more layers at one budget",
        "budgets.measure_pretrained_layers",
        PRETRAINED,
        campaigns=("campaigns/smollm2_budgets.yaml",),
        paper_setting="as Table 5",
        follows="Follows: what one, two and three layers do at one size on a model of 135 million parameters and "
        "CommonsenseQA. Does not follow: what they do in the paper's setting. The final runs of two layers had been seen when "
        "the claims were written.",
    ),
    Item(
        "smore_table6",
        "S'MoRE Table 6",
        "overhead of operations",
        part_of="smore_tables",
        paper_setting=f"a count: {LAYER}",
        follows="Follows: the printed numbers.",
    ),
    Item(
        "smore_table7",
        "S'MoRE Table 7",
        "a step takes 1.15 to 1.33 times MixLoRA's",
        "budgets.measure_times",
        BUDGETS,
        paper_setting=f"wall clock at equal parameters, 1.24 times on average; model, machine and batch are {UNKNOWN}",
        follows="Follows: the ratio of our two modules on one thread of a CPU, at the named widths. Does not follow: the ratio "
        "on a GPU, or that of the authors' code.",
    ),
    Item(
        "smore_tables",
        "S'MoRE Tables 1 and 6",
        "overheads of parameters and operations",
        "cost.measure_tables",
        COST,
        paper_setting=f"a count: {LAYER}",
        follows="Follows: the printed numbers, from the formulas.",
    ),
    Item(
        "smore_cost_adapters",
        "Beyond S'MoRE",
        "what every adapter costs",
        "cost.measure_adapters",
        COST,
        paper_setting=NONE,
        follows="Follows: counts of our modules, exactly.",
    ),
    Item(
        "smore_structures",
        "Beyond S'MoRE",
        "the trees that a trained model uses",
        "trees.measure",
        TREES,
        paper_setting=NONE,
        follows="Follows: which trees this small model uses. Does not follow: that it needs them.",
    ),
    Item(
        "smore_tree",
        "Beyond S'MoRE",
        "the residual tree of one token",
        "trees.measure_tree",
        TREES,
        paper_setting=NONE,
        follows="Follows: what the nodes of these tokens add. Does not follow: that other tokens are similar.",
    ),
)
