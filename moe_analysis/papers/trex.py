"""The items of T-REX, and what we know about its settings. Source: Zhang et al., arXiv 2404.08985, and the authors' code."""

from __future__ import annotations

from .item import EXACT, MAP, NOTHING, PATHS, PRETRAINED, SPAN, STATEMENT, SYSTEMS, UNKNOWN, UNSEEN, Item

TRAINING = (
    "its training code: 3 epochs in batches of 4 × 8, one learning rate of 5e-5 for router and experts, all linear "
    "layers, rank 32, Llama-2-13B among the defaults"
)
TITLE_ONLY = "only its title is public to us"

ITEMS = (
    Item(
        "trex_fig1",
        "T-REX Fig. 1",
        "I down and J up vectors make I·J experts of rank 1",
        "subspace.measure_systems",
        SPAN,
        paper_setting="a drawing of LoRA, LoRA-MoE and T-REX with 2 down and 3 up vectors. The abstract: up to +1.78 % "
        f"mean accuracy with 30–40 % fewer parameters on 14 public data sets; models and steps {UNKNOWN}",
        follows="Follows: the counted savings in parameters for the named shapes of layers. Does not follow: anything about "
        "accuracy, which is judged with Fig. 3.",
    ),
    Item(
        "trex_fig2",
        "T-REX Fig. 2",
        "intuition smooths the paths of the router weights",
        "router_paths.measure",
        PATHS,
        paper_setting="router weights of LoRA-MoE, mix-and-match and T-REX in 3-D; model, data and steps of the figure "
        f"{UNKNOWN}; {TRAINING}",
        follows="Follows: whether intuition smooths router paths on a small backbone in a short training. Does not follow: that "
        "paths look the same in a model with billions of parameters, or over three epochs.",
    ),
    Item(
        "trex_fig3",
        "T-REX Fig. 3",
        "T-REX is ahead out of distribution",
        "systems.measure",
        SYSTEMS,
        campaigns=("campaigns/compact.yaml",),
        paper_setting=f"Gemma 2B and Yi 6B, tested on BBH; LoRA, MoLoRA, SiRA, T-REX; steps {UNKNOWN}; {TRAINING}",
        follows="Follows: how the systems compare at equal budget on a backbone of one million parameters and its own "
        "tasks. Does not follow: anything about BBH, or about models that know a language before the adapter is trained.",
    ),
    Item(
        "trex_fig3_pretrained",
        "T-REX Fig. 3, on a pretrained model",
        "T-REX is ahead in and out of distribution",
        "systems.measure_pretrained",
        PRETRAINED,
        campaigns=("campaigns/smollm2_multitask.yaml",),
        paper_setting="as Fig. 3",
        follows="Follows: how the systems compare at one budget on a model of 135 million parameters, on 20 data sets and on "
        "BBH's tasks with choices, after 300 steps at the rate that gave each the least held-out loss after 75 steps. The "
        "rule was first the best held-out accuracy, which gave T-REX a rate at which its loss rises within 300 steps; it was "
        "changed for all systems after five runs of seed 0 and their test rows were seen, in which T-REX was last. Does not follow: how the "
        "systems compare on the paper's models, or at T-REX's smaller size.",
    ),
    Item(
        "trex_fig4",
        "T-REX Fig. 4",
        "semantic clusters do not follow the task groups",
        "semantic_map.measure",
        MAP,
        paper_setting="prompts of 20 data sets, embedded by nomic-embed-text-v1, 32 clusters of k-means",
        follows="Follows: how far clusters follow groups for the named data sets and embedder. Does not follow: the same for the "
        "paper's prompts and embedder, unless suite and embedder are set to them.",
    ),
    Item(
        "trex_fig4_contents",
        "T-REX Fig. 4",
        "what each cluster contains",
        "semantic_map.measure_contents",
        MAP,
        part_of="trex_fig4",
        paper_setting="as Fig. 4; the contents of the clusters are ours",
        follows="Follows: which texts are in the same cluster. It decides no claim.",
    ),
    Item(
        "trex_lemma41",
        "T-REX Lemma 4.1",
        "the updates span rank(A)·rank(B) dimensions, I·J at full rank",
        "subspace.measure_span",
        SPAN,
        "trex_lemma_4_1_*",
        paper_setting=STATEMENT,
        follows=f"{EXACT} How the span grows with a budget is our reading.",
    ),
    Item(
        "trex_lemma41_trained",
        "T-REX Lemma 4.1, on trained models",
        "how many of these dimensions trained models use",
        "subspace.measure_used",
        SPAN,
        paper_setting="the paper states the lemma for any factors; that trained models use the span is our reading",
        follows="Follows: what these small trained models use. Does not follow: what a longer training or a larger model would.",
    ),
    Item(
        "trex_theorem42",
        "T-REX Theorem 4.2, our reading",
        "the error of rank-1 experts on a family of targets",
        "subspace.measure_approximation",
        SPAN,
        "trex_theorem_4_2_*",
        paper_setting=TITLE_ONLY,
        follows="Follows: our reading of the title, on synthetic targets. Does not follow: whether the paper proves this.",
    ),
    Item(
        "trex_theorem43",
        "T-REX Theorem 4.3, our reading",
        "mixing router and prior is never worse than either",
        "subspace.measure_intuition",
        SPAN,
        "trex_theorem_4_3_*",
        paper_setting=TITLE_ONLY,
        follows="Follows: our reading of the title, for quadratic losses and a synthetic task. Does not follow: whether the paper "
        "proves this.",
    ),
    Item(
        "trex_algorithm",
        "T-REX Algorithm",
        "embed, cluster, score, train with router and intuition",
        notebook=PATHS,
        reason="`ma.train` with `ma.TRexConfig` is the algorithm; compared with the authors' code in tests/golden",
        paper_setting=f"nomic-embed-text-v1, 32 clusters; {TRAINING}",
        follows="Follows: our forward passes and gradients equal those of the authors' code. It decides no claim.",
    ),
    *(
        Item(
            f"trex_table{n}",
            f"T-REX Table {n}",
            "we do not know what it shows",
            reason=UNSEEN,
            paper_setting=f"{UNKNOWN}; of the paper's results, we know only those of the abstract, see Figs. 1 and 3",
            follows=NOTHING,
        )
        for n in range(1, 12)
    ),
)
