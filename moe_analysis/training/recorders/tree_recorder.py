"""The trees that a S'MoRE routes tokens through: their statistics during training, and every token's after it.

A tree is an integer, its code: two routings have the same code exactly when they are the same structure. A node's
children are a set of different experts, each with its own subtree; the order in which the router names siblings
changes no output. There are Γ = Π_l C(s_l, f_l)^F_{l+1} such trees (S'MoRE, Theorem 3.4), and their codes are
0 … Γ − 1. Lists have one entry per layer, the layer farthest from the output first, as in `SmoreConfig`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from ...adapters.tree_gates import TreeRouting
from ...peft_bridge import adapter_modules
from .. import distributed
from ..run import Run
from .recorder import HookedRecorder, Place, hooked, mask_of
from .routing import model_of, record_gates

SAMPLE_TOKENS = 512  # this many of a batch's real tokens, because the number of trees grows with the number of tokens
PER_MODULE = ("tokens", "distinct_trees", "tree_entropy", "differing_siblings")

Codes = tuple[np.ndarray, list[np.ndarray]]  # codes (T,) of some tokens' trees, ids of their nodes by layer (T, P, f)


def tree_counts(num_experts: Sequence[int], fanout: Sequence[int]) -> list[int]:
    """Exact numbers of subtrees below a node of layer 1, 2, …, L; the last one is Γ."""
    counts: list[int] = []
    for s, f in zip(num_experts, fanout, strict=True):
        counts.append(comb(s, f) * (counts[-1] if counts else 1) ** f)
    return counts


def tree_codes(ids: Sequence[np.ndarray], num_experts: Sequence[int]) -> np.ndarray:
    """ids[l] (N, F_{l+1}, f_l), the experts of layer l under each of its parents -> codes (N,).

    Codes are int64, or Python's integers where Γ is beyond them; no loop runs over tokens. Raises ValueError for
    siblings that are the same expert.
    """
    counts = tree_counts(num_experts, [choice.shape[2] for choice in ids])
    kind: type = np.int64 if counts[-1] < 2**63 else object
    codes: np.ndarray = np.empty(0)
    for layer, (choice, s) in enumerate(zip(ids, num_experts, strict=True)):
        order = choice.argsort(-1)
        experts = np.take_along_axis(choice, order, -1)  # (N, P, f), ascending
        if (experts[..., 1:] == experts[..., :-1]).any():
            raise ValueError(f"ids[{layer}] has siblings that are the same expert; a node's children differ")
        f = experts.shape[-1]
        ranks: np.ndarray = np.array([[comb(i, k + 1) for k in range(f)] for i in range(s)], dtype=kind)
        here = ranks[experts, np.arange(f)].sum(-1)  # (N, P): rank of the set of experts among C(s, f)
        if layer:
            below = np.take_along_axis(codes.reshape(choice.shape), order, -1)  # subtrees follow their experts
            for child in range(f):
                here = here * counts[layer - 1] + below[..., child]
        codes = here
    return codes[:, 0]


def sibling_codes(codes: np.ndarray, num_experts: Sequence[int], fanout: Sequence[int]) -> np.ndarray:
    """Codes (N,) of trees with two layers or more -> codes (N, f_{L-1}) of the subtrees of the root's children."""
    if len(num_experts) < 2:
        raise ValueError("num_experts has one layer, so there are no subtrees; pass at least two layers")
    base, found = tree_counts(num_experts, fanout)[-2], []
    for _ in range(fanout[-1]):
        found.append(codes % base)
        codes = codes // base
    return np.stack(found[::-1], axis=-1)


def routed_codes(
    routing: TreeRouting,
    num_experts: Sequence[int],
    token_mask: Tensor | None,
    most: int | None = None,
    place: Place | None = None,
) -> Codes:
    """(codes (T,), ids by layer (T, P, f)) of the real tokens, or of `most` of their batch's, evenly spaced."""
    tokens = len(routing.choices[0].ids)
    rows = np.arange(tokens) if token_mask is None else token_mask.reshape(-1).cpu().numpy().nonzero()[0]
    before, total = place or (0, len(rows))
    if most is not None and total > most:
        chosen = np.linspace(0, total - 1, most).round().astype(int) - before
        rows = rows[chosen[(chosen >= 0) & (chosen < len(rows))]]
    ids = [choice.ids.detach().cpu().numpy()[rows] for choice in routing.choices]
    return tree_codes(ids, num_experts), ids


def tree_entropy(codes: np.ndarray) -> float:
    """Entropy in bits of the trees' shares among the tokens; NaN without tokens."""
    if not len(codes):
        return float("nan")
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    return max(0.0, float(-(share * np.log2(share)).sum()))


def tree_statistics(codes: np.ndarray, num_experts: Sequence[int], fanout: Sequence[int]) -> dict[str, float]:
    """Every kind of PER_MODULE for the codes (T,) of some tokens."""
    differ = float("nan")
    if len(num_experts) > 1 and len(codes):
        siblings = sibling_codes(codes, num_experts, fanout)
        differ = float((siblings != siblings[:, :1]).any(-1).mean())
    return {
        "tokens": float(len(codes)),
        "distinct_trees": float(len(np.unique(codes))),
        "tree_entropy": tree_entropy(codes),
        "differing_siblings": differ,
    }


def node_load(ids: Sequence[np.ndarray], num_experts: Sequence[int]) -> np.ndarray:
    """ids[l] (T, P, f) -> (Σ s_l,): the share of layer l's nodes that each of its experts takes."""
    return np.concatenate(
        [
            np.bincount(layer.reshape(-1), minlength=s) / max(1, layer.size)
            for layer, s in zip(ids, num_experts, strict=True)
        ]
    )


class TreeRecorder(HookedRecorder):
    """Writes the record of a run's trees; dimensions (step, module), and (step, module, expert) for the load.

    A record at step t describes the routing by the weights before update t, of at most SAMPLE_TOKENS evenly spaced
    real tokens of the last micro-batch. tokens: how many those were. distinct_trees: different structures among them,
    siblings unordered. tree_entropy: of their shares, bits. differing_siblings: tokens whose root has children with
    different subtrees; NaN with one layer. node_load: share of a layer's nodes that an expert takes, with experts
    labeled "layer.expert", the layer farthest from the output first.
    """

    def __init__(self, model: nn.Module, path: Path, every: int) -> None:
        super().__init__(model, path, every)
        check_trees(self.adapters, f"record_trees_every = {every}", "set record_trees_every=0")
        self.seen: dict[str, Codes] = {}

    def declare(self, steps: int) -> None:
        names, pools = list(self.adapters), next(iter(self.adapters.values())).config.num_experts
        for kind in PER_MODULE:
            self.store.declare(kind, ("module",), (len(names),), {"module": names})
        experts = [f"{layer}.{expert}" for layer, s in enumerate(pools) for expert in range(s)]
        self.store.declare(
            "node_load", ("module", "expert"), (len(names), len(experts)), {"module": names, "expert": experts}
        )

    def see(self, name: str, x: Any, routing: Any, mask: Tensor | None) -> None:
        experts = self.adapters[name].config.num_experts
        self.seen[name] = routed_codes(routing, experts, mask, SAMPLE_TOKENS, self.place)

    def _measure(self, config: Any, seen: list[Codes]) -> tuple[dict[str, float], np.ndarray]:
        codes = np.concatenate([part for part, _ in seen])
        ids = [np.concatenate(layer) for layer in zip(*(part for _, part in seen), strict=True)]
        return tree_statistics(codes, config.num_experts, config.fanout), node_load(ids, config.num_experts)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.active:
            return
        parts = distributed.at_first(self.seen)  # of every process, for the first
        if parts:
            found = [
                self._measure(adapter.config, [part[name] for part in parts]) for name, adapter in self.adapters.items()
            ]
            record = {kind: np.array([statistics[kind] for statistics, _ in found]) for kind in PER_MODULE}
            self.store.append(state.global_step, record | {"node_load": np.stack([load for _, load in found])})
        self.seen = {}


def record_trees(
    model: nn.Module, tokenizer: Any, frame: pd.DataFrame, max_length: int = 256, prompt_form: str = "options"
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """The tree of every real token of the frame's texts: ({module: codes (tokens,)}, tokens as in `record_gates`)."""
    adapters: dict[str, Any] = dict(adapter_modules(model))
    check_trees(adapters, type(model).__name__, "pass another model")
    kept: dict[str, list[np.ndarray]] = {name: [] for name in adapters}

    def keep(name: str) -> Any:
        def hook(adapter: Any, inputs: Any, options: Any, output: tuple[Tensor, TreeRouting]) -> None:
            kept[name].append(routed_codes(output[1], adapter.config.num_experts, mask_of(inputs, options))[0])

        return hook

    with hooked(adapters, keep):
        tokens = record_gates(model, tokenizer, frame, max_length=max_length, prompt_form=prompt_form)[1]
    return {name: np.concatenate(parts) for name, parts in kept.items()}, tokens


def trees_of_runs(
    runs: Iterable[Run], frame: pd.DataFrame, trained: bool = True
) -> list[tuple[Run, dict[str, np.ndarray], pd.DataFrame]]:
    """`record_trees` of every run: [(run, {module: codes}, tokens)].

    trained=False: of the models before their first step, which their configurations make again.

    >>> run, codes, tokens = trees_of_runs(tree_runs[:1], test)[0]
    >>> [code.shape == (len(tokens),) for code in codes.values()]
    [True, True]
    """
    return [
        (run, *record_trees(model_of(run, trained), run.tokenizer, frame, run.config.max_length, run.config.form))
        for run in runs
    ]


def check_trees(adapters: dict[str, Any], what: str, remedy: str) -> None:
    """Raise ValueError unless every adapter routes through trees, all of the same sizes."""
    kinds = sorted({type(adapter).__name__ for adapter in adapters.values() if not hasattr(adapter.config, "fanout")})
    if not adapters or kinds:
        raise ValueError(
            f"{what} needs tokens routed through trees, which {', '.join(kinds) or 'the model'} does not "
            f"have; {remedy}, or train Smore"
        )
