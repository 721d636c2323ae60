"""The items of gR, and what we know about its settings. Source: Sun et al., arXiv 2502.15828, and the authors' code."""

from __future__ import annotations

from .item import GEOMETRY, NOTHING, PRETRAINED, STATEMENT, UNKNOWN, UNSEEN, Item

PROTOCOL = "Llama-3.2-3B, 20 experts of rank 4 with 10 active on q, k, v and o, batch 80, 2000 updates"
BENCH = (
    "an independent reproduction: synthetic regression, 8 experts of rank 4, 300 steps, 3 seeds; RSGD and gRSGD at one "
    "learning rate"
)
SMALL = "Does not follow: that the same is true on Llama-3.2-3B at the paper's learning rates."

ITEMS = (
    Item(
        "gr_fig1",
        "gR Fig. 1",
        "a small gate curves the expert's manifold",
        "gate_geometry.measure",
        GEOMETRY,
        "gr_*",
        paper_setting="a drawing of two experts with gates g₁ < g₂; no model, data or steps",
        follows="Follows: the powers of the gate in one step and in the curvature, exactly. Does not follow: their effect on "
        "training. What the drawing shows is partly our reading.",
    ),
    Item(
        "gr_fig2",
        "gR Fig. 2",
        "gRSGD learns faster than RSGD",
        "optimizers.measure_rescaling",
        GEOMETRY,
        campaigns=("campaigns/rescaling.yaml",),
        paper_setting=f"{PROTOCOL}: the first 500; data set {UNKNOWN}; losses and accuracy are drawn without numbers. An "
        "independent reproduction, text-only ScienceQA, 814 updates, one seed: accuracy 71.18 % and 77.79 %",
        follows="Follows: whether gRSGD is ahead at one learning rate on a small backbone. Does not follow: that it does more "
        "than a larger learning rate (see Beyond gR), or that the same is true on Llama-3.2-3B.",
    ),
    Item(
        "gr_fig3",
        "gR Fig. 3",
        "rescaled and preconditioned SGD lowers the loss most",
        "optimizers.measure",
        GEOMETRY,
        campaigns=("campaigns/optimizers.yaml",),
        paper_setting=f"ScienceQA, training loss of the four SGD variants; {PROTOCOL}; learning rates 3e-5 (SGD) and 1e-5 "
        "(AdamW), of the gates 3e-8",
        follows="Follows: the order of the optimizers if each has its own best rate of one grid. Does not follow: their order "
        "at the paper's rates, model and data.",
    ),
    Item(
        "gr_fig3_pretrained",
        "gR Fig. 3, on a pretrained model",
        "gate rescaling and preconditioning train better",
        "optimizers.measure_pretrained",
        PRETRAINED,
        campaigns=("campaigns/smollm2_optimizers.yaml",),
        paper_setting="as Fig. 3",
        follows="Follows: how RSGD, gRSGD, AdamW and gRAdamW compare on a model of 135 million parameters and CommonsenseQA, "
        "after 300 steps, each at the rate that gave it the least held-out loss after 75 steps. Does not follow: their order "
        "at the paper's rates, model and data, or that of SGD and of a single change.",
    ),
    Item(
        "gr_algorithm",
        "gR Algorithm",
        "preconditioned and gate-rescaled steps",
        reason="`ma.optim.RiemannianSGD` and `RiemannianAdamW`; compared with the authors' code in tests/golden",
        paper_setting=STATEMENT,
        follows="Follows: our steps equal those of the authors' code. It decides no claim.",
    ),
    *(
        Item(
            f"gr_table{n}",
            f"gR Table {n}",
            "we do not know what it shows",
            reason=UNSEEN,
            paper_setting=f"{UNKNOWN}; its protocol: {PROTOCOL}",
            follows=NOTHING,
        )
        for n in range(1, 11)
    ),
    Item(
        "gr_exponent",
        "Beyond gR",
        "which exponent of the gate is best at which entropy",
        "optimizers.measure_exponent",
        GEOMETRY,
        paper_setting=BENCH,
        follows="Follows: what this bench gives with more seeds. Does not follow: anything about language models.",
    ),
    Item(
        "gr_confound",
        "Beyond gR",
        "is gate rescaling more than a larger learning rate",
        "optimizers.measure_confound",
        GEOMETRY,
        paper_setting=f"{BENCH}; it leaves this question open",
        follows=f"Follows: the answer on this bench and on a small backbone. {SMALL}",
    ),
    Item(
        "gr_control",
        "Beyond gR",
        "with one active expert both rules coincide",
        "optimizers.measure_control",
        GEOMETRY,
        paper_setting=f"{BENCH}: 0.739 and 0.739 with one active expert",
        follows="Follows: our two rules are equal where they must be. It decides no claim of the paper.",
    ),
    Item(
        "gr_anatomy",
        "Beyond gR",
        "conditioning, similarity and load of the experts",
        "experts.measure",
        GEOMETRY,
        paper_setting="the independent reproduction leaves this question open",
        follows="Follows: how experts differ under both rules in this training. Does not follow: that it is the cause of a lower "
        "loss.",
    ),
)
