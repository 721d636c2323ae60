"""From runs of S'MoRE to the trees that their tokens take, and to the tree of one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...training.recorders.routing import layer_batches
from ...training.recorders.tree_recorder import trees_of_runs
from ..asked import Runs, asked
from ..records import check_runs, first_prompts, method_of, shared
from ..result import Result
from .residual_tree import COLUMNS, residual_tree, residual_trees
from .structures import (
    MEASURES,
    by_dataset,
    dataset_information,
    over_training,
    sizes_of,
    training_bands,
    uniform_siblings,
    usage_by_layer,
    usage_ranks,
)

SHOWN = 3  # tokens of a prompt whose trees are drawn


@dataclass(frozen=True, eq=False)
class UsedTrees(Result):
    """The trees through which tokens are routed, over training and by data set.

    Args:
        method: the label of the runs with a balance loss.
        training: one row per method, seed, step and module, as `over_training` returns it, including the control.
        datasets: as `by_dataset` returns it, for the trained models.
        usage: as `usage_by_layer` returns it.
        trained: what a token's tree reveals about its data set, as `dataset_information` returns it.
        untrained: the same for the models before their first step.
        random_siblings: share of random trees whose sibling subtrees differ.
    """

    item = "smore_structures"
    title = "The trees that a trained S'MoRE uses"
    question = "Which of the trees that S'MoRE can express does a trained model use?"
    how_to_read = (
        "Each line is one layer: the mean over seeds, with a shade from the lowest to the highest seed. Dashes are runs "
        "without the balance loss, dotted lines are random trees. Bars in (d) show how much a token's tree says about "
        "its data set; shuffled texts show the gray part too. (e) counts trees at equal numbers of tokens."
    )
    how_to_explore = (
        "“over training”: one line per layer, the mean over seeds of the measure that the menu chooses; point at it "
        "for the lowest and the highest seed. “entropy by data set”: the normalized entropy of the trees that a layer "
        "uses for a data set, mean over seeds; brighter is higher."
    )
    exploring = ""

    method: str
    training: pd.DataFrame
    datasets: pd.DataFrame
    usage: pd.DataFrame
    trained: pd.DataFrame
    untrained: pd.DataFrame
    random_siblings: float

    @property
    def balanced(self) -> pd.DataFrame:
        """Rows of `training` for the method itself."""
        return self.training[self.training["method"] == self.method]

    @property
    def control(self) -> pd.DataFrame:
        """Rows of `training` for the runs without a balance loss; empty if there are none."""
        return self.training[self.training["method"] != self.method]

    @property
    def bands(self) -> pd.DataFrame:
        """Mean, lowest and highest seed, by layer."""
        return training_bands(self.balanced)

    @property
    def module_bands(self) -> pd.DataFrame:
        return training_bands(self.balanced, "module")

    @property
    def control_bands(self) -> pd.DataFrame:
        return training_bands(self.control)

    @property
    def ends(self) -> pd.DataFrame:
        """Means at the first and the last record, one row per method and step."""
        steps = self.training["step"]
        found = self.training[steps.isin([steps.min(), steps.max()])]
        return found.groupby(["method", "step"], sort=False)[["tokens", *MEASURES]].mean()

    @property
    def everything(self) -> pd.DataFrame:
        """Trees of all data sets together, one row per layer."""
        columns = ["tokens", "distinct", "against_uniform", "entropy", "normalized_entropy"]
        return self.datasets[self.datasets["dataset"] == "all"].groupby("layer")[columns].mean()

    @property
    def numbers(self) -> Mapping[str, Any]:
        by_task = self.datasets.groupby(["seed", "dataset"], sort=False).mean(numeric_only=True).reset_index()
        return {
            "training": self.bands,
            "control": self.control_bands,
            "datasets": by_task,
            "usage": self.usage,
            "trained": self.trained,
            "untrained": self.untrained,
        }


@dataclass(frozen=True, eq=False)
class TokenTree(Result):
    """The residual trees of some tokens of a prompt, and those of many tokens for the claims.

    Args:
        word: the chosen token.
        place: its data set and the layer, in words.
        tree: of that token in the first run, as `residual_tree` returns it.
        shown: this tree and those of other tokens of the prompt, by position: columns token, word, and those of a tree.
        trees: of evenly spaced tokens in every module of every run, as `residual_trees` returns it.
    """

    item = "smore_tree"
    title = "The residual tree of one token"
    question = "Which experts are in a token's tree, why were they chosen, and what do they add?"
    how_to_read = (
        "The trees of some tokens of one prompt. Number and color show the expert. The area of a node shows how much the "
        "layer's update changes (norm) without the node and all nodes below it. The width of an edge shows its score. "
        "Contributions of siblings need not add up. The claims are over many tokens of all modules and seeds."
    )
    how_to_explore = (
        "The tree of one token of a prompt; the menu has some others. Number and color show the expert. The area of a "
        "node shows how much the layer's update changes (norm) without the node and all nodes below it. The width of "
        "an edge shows its score. Contributions of siblings need not add up. The claims are over many tokens of all "
        "modules and seeds."
    )
    drawing = "draw_tree"
    exploring = ""

    word: str
    place: str
    tree: pd.DataFrame
    shown: pd.DataFrame
    trees: pd.DataFrame

    @property
    def token(self) -> str:
        """The word, its data set and the layer."""
        return f"{self.word!r} of {self.place}"

    @property
    def numbers(self) -> Mapping[str, Any]:
        keys = ["seed", "module", "layer"]
        means = self.trees.groupby(keys)[["score", "similarity", "share"]].mean().reset_index()
        return {"title": self.token, "tree": self.tree, "shown": self.shown, "means": means}


@asked()
def measure(runs: Runs, prompts: int = 10, permutations: int = 200) -> UsedTrees:
    """Measure which trees the tokens of trained models take.

    Args:
        runs: of one S'MoRE at several seeds, with recorded trees; and, to measure the effect of the balance loss, runs
            of the same S'MoRE without it (`balance_coef=0`).
        prompts: number of test prompts per data set whose tokens are routed.
        permutations: number of shuffles of the data sets' names over the texts.

    Raises:
        ValueError: for runs without trees or without records of them, of several suites, or of more than one method
            and its control.

    Example:
        >>> found = measure(tree_runs, prompts=1, permutations=9)
        >>> sorted(found.tables), found.numbers["training"]["seeds"].unique().tolist()
        (['datasets', 'trained', 'training', 'untrained', 'usage'], [2])
    """
    check_runs(runs)
    balanced, control = with_control(runs)
    shared(runs, "suite")
    test = first_prompts(runs[0], prompts)
    after, before = trees_of_runs(balanced, test), trees_of_runs(balanced, test, trained=False)
    return UsedTrees(
        method=method_of(balanced[0]),
        training=over_training([*balanced, *control]),
        datasets=by_dataset(after),
        usage=usage_by_layer(usage_ranks(after)),
        trained=dataset_information(after, permutations),
        untrained=dataset_information(before, permutations),
        random_siblings=uniform_siblings(*sizes_of(balanced[0])[:2]),
        runs=(*balanced, *control),
    )


@asked(token=0)
def measure_tree(runs: Runs, token: int = 6, tokens: int = 8) -> TokenTree:
    """Measure the residual trees of the tokens of the first test prompt.

    Args:
        runs: of one S'MoRE at several seeds; runs without a balance loss are left out if there are others.
        token: position in the prompt, from 0, of the token whose tree in the last adapted layer is drawn. The trees of
            the two tokens that are a third of the prompt away are drawn next to it.
        tokens: number of evenly spaced tokens whose trees are measured in every module.

    Raises:
        ValueError: for runs without trees, of several suites or methods, and for a token that the prompt does not have.

    Example:
        >>> found = measure_tree(tree_runs, token=2, tokens=2)
        >>> len(found.tree), found.trees["token"].nunique()
        (7, 2)
    """
    check_runs(runs)
    runs = with_control(runs)[0]
    shared(runs, "suite")
    rows = first_prompts(runs[0], 1).head(1)
    seen = [
        layer_batches(run.model(), run.tokenizer, rows, max_length=run.config.max_length, prompt_form=run.config.form)
        for run in runs
    ]
    module = list(seen[0])[-1]
    adapter: Any = seen[0][module].adapter
    inputs = seen[0][module].inputs
    if not 0 <= token < len(inputs):
        raise ValueError(
            f"token = {token} is not in the prompt, which has {len(inputs)} tokens; choose 0 to {len(inputs) - 1}"
        )
    ids = trees_of_runs(runs[:1], rows)[0][2].sort_values("position")["token_id"]
    drawn = sorted({(token + third * len(inputs) // SHOWN) % len(inputs) for third in range(SHOWN)})
    words = {place: runs[0].tokenizer.decode([ids.iloc[place]]).strip() for place in drawn}
    trees = {place: residual_tree(adapter, inputs[place]) for place in drawn}
    return TokenTree(
        word=words[token],
        place=f"a prompt of {rows['dataset'].item()}, in {module}",
        tree=trees[token],
        shown=pd.concat([tree.assign(token=place, word=words[place]) for place, tree in trees.items()])[
            ["token", "word", *COLUMNS]
        ].reset_index(drop=True),
        trees=residual_trees(runs, seen, tokens),
        runs=tuple(runs),
    )


def with_control(runs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """(runs of the method, runs of its control without a balance loss), each of one method or empty.

    If no run has a balance loss, all are runs of the method.
    """
    for run in runs:
        sizes_of(run)
    without = [run for run in runs if not run.config.adapter.balance_weight]
    balanced = [run for run in runs if run.config.adapter.balance_weight] or without
    control = without if balanced is not without else []
    for group in (balanced, control):
        if len(methods := list(dict.fromkeys(map(method_of, group)))) > 1:
            raise ValueError(f"runs are of {', '.join(methods)}; pass one method, and one control without balance loss")
    return balanced, control
