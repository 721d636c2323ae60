"""What notebook 03 hands from cell to cell without a trained model: T-REX's lemma and theorems at small sizes."""

from __future__ import annotations

import pandas as pd

import moe_analysis as ma
from moe_analysis.studies.subspace import parameters as parameter_counts
from moe_analysis.studies.subspace import span as subspace
from moe_analysis.studies.subspace import theorems as trex_theorems
from moe_analysis.theory.router_noise import router_gradient_noise

from .registry import prepared


@prepared
def verified() -> pd.DataFrame:
    """`theory.verify` of a few of T-REX's statements and two of S'MoRE's costs: a row a claim."""
    of_trex = ["trex_lemma_4_1_span", "trex_theorem_4_2_single_target", "trex_theorem_4_3_best_share"]
    return ma.theory.verify([*of_trex, "smore_cost_gates_run_once_a_parent", "smore_cost_active_experts"])


@prepared
def ranks() -> pd.DataFrame:
    """`rank_plot_frame` for I, J up to 3."""
    return subspace.rank_plot_frame(max_rank=3)


@prepared
def budgets() -> pd.DataFrame:
    """`span_by_budget` of three budgets on a layer of 64 by 64."""
    return subspace.span_by_budget([1024, 2048, 4096], 64, 64, num_experts=4)


@prepared
def parameters() -> pd.DataFrame:
    """`figure1_parameters` of a layer of 128 by 128."""
    return parameter_counts.figure1_parameters(128, 128)


@prepared
def sizes() -> pd.DataFrame:
    """`parameters_of_sizes` of T-REX layers of 128 by 128 with I, J up to 2."""
    return parameter_counts.parameters_of_sizes([(1, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 4)], 128, 128)


@prepared
def approximation() -> pd.DataFrame:
    """`approximation_frame` of a small budget, two experts and one seed."""
    return trex_theorems.approximation_frame(parameters=144, num_experts=2, seeds=(0,))


@prepared
def searches() -> pd.DataFrame:
    """`line_search_frame` at eleven points."""
    return trex_theorems.line_search_frame(points=11, problems=40)


@prepared
def noise() -> pd.DataFrame:
    """`router_gradient_noise` of three seeds at the start and after two steps."""
    return router_gradient_noise((0, 1, 2), steps=(0, 2), samples=16)
