"""The experts that the tokens of any text take, by router."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ...evidence import counted
from ...training.recorders.attached_run import bare_model
from ...training.recorders.routing import checked_texts, record_gates, routers_of
from ..asked import Runs, asked, instance, runs_of
from ..chosen_module import meant
from ..records import first_prompts, layer_of, method_of, named
from ..result import Result
from .measure import Gates
from .pieces import pieces_of, tokenizer_of

METHOD, SENTENCES = "LoRA-MoE", 10
WITH_FORMS = ("T-REX", "S'MoRE")  # the gates of one token have a structure: a matrix of pairs, a tree
# class of an adapter of ours -> name of its system; others have the name of their class
CALLED = {
    "MoeLora": "LoRA-MoE",
    "Sira": "SiRA",
    "HydraLora": "HydraLoRA",
    "Momor": "MoMOR",
    "Smore": "S'MoRE",
    "TRex": "T-REX",
}
NONE = -1  # the expert of a token that no expert takes, such as a token beyond Switch's capacity


@dataclass(frozen=True)
class RoutedBy:
    """What one router, or one pool of it, decided.

    Args:
        layer: its layer, such as "layers.3".
        place: its place in the layer, such as "mlp.up_proj", or "mlp.up_proj pool 1".
        module: its adapter or router, a key of `RoutedTokens.trees`.
        gates: (tokens, experts).
        matrix: (I, J) if expert k is the pair (k // J, k % J) of down and up vectors, as in T-REX.
    """

    layer: str
    place: str
    module: str
    gates: np.ndarray
    matrix: tuple[int, int] | None = None

    @cached_property
    def strongest(self) -> np.ndarray:
        """(tokens,) the expert with the largest absolute gate; NONE if all gates are zero."""
        sizes = np.abs(self.gates)
        return np.where(sizes.max(1) > 0, sizes.argmax(1), NONE)

    def name(self, expert: int) -> str:
        """ "3", or "(0, 3)" for a pair of vectors."""
        if expert == NONE:
            return "none"
        return f"({expert // self.matrix[1]}, {expert % self.matrix[1]})" if self.matrix else str(expert)


@dataclass(frozen=True)
class NodesOf:
    """The nodes of one layer of every token's tree: ids and scores (tokens, parents, children)."""

    ids: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class RoutedTokens(Result):
    """Texts with the gates of every token in every router.

    Args:
        texts: the given texts.
        tokens: one row per token: row (of its text), position, token_id, space (before it in the text), piece.
        routers: {name: what the router decided}; a module with several pools has one entry per pool.
        trees: {module: nodes by layer, the layer farthest from the output first} for S'MoRE; empty for others.
        system: the kind of mixture.
        again: makes the same for other texts.
        layer: the layer to draw; None is a layer in the middle.
        beside: one of the texts in models of other systems, whose gates of one token are drawn below.
    """

    item = "routing_tokens"
    title = "Beyond the papers: the experts of a sentence"
    question = "Which expert does each token of a sentence take, and where does it go in the next layer?"
    how_to_read = (
        "A token has the color of its strongest expert in one router. Ribbons follow tokens from layer to layer, by "
        "their strongest experts. Experts of different layers are unrelated, so a color means nothing across layers. If "
        "there is a last row, it shows all gates of one token: for T-REX those of the pairs of a down vector (row) and "
        "an up vector (column), for S'MoRE the token's tree, with scores on its edges."
    )
    how_to_explore = (
        "A token has the color of its strongest expert in the router that the menu chooses; point at it for all its "
        "gates. Ribbons follow tokens from layer to layer, by their strongest experts. Experts of different layers are "
        "unrelated, so a color means nothing across layers."
    )
    drawing = "draw_tokens"
    judging = ""
    exploring = "explore_tokens"

    texts: tuple[str, ...]
    tokens: pd.DataFrame
    routers: Mapping[str, RoutedBy] = field(repr=False)
    trees: Mapping[str, list[NodesOf]] = field(repr=False)
    system: str
    again: Callable[[Sequence[str]], RoutedTokens] = field(repr=False)
    layer: int | str | None = None
    beside: tuple[RoutedTokens, ...] = ()

    @property
    def label(self) -> str:
        """Whose routers these are: "LoRA-MoE, seed 0" for a run, "LoRA-MoE" for a model."""
        return named(self.runs[0]) if self.runs else self.system

    @property
    def example(self) -> int:
        """The token whose gates are all drawn: the longest word of the first text."""
        words = self.tokens.loc[self.tokens["row"].eq(self.tokens["row"].min()), "piece"]
        lengths = words.str.len().where(words.str.isalpha(), 0)
        return int(lengths.idxmax())

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """`tokens`, and `strongest`: one row per token and router with the strongest expert and its gate."""
        return {"tokens": self.tokens, "strongest": self.strongest}

    @property
    def numbers(self) -> Mapping[str, Any]:
        beside = [
            {
                "system": one.label,
                "run": one.runs[0].id if one.runs else None,
                "text": one.texts[0],
                "token": one.tokens.loc[one.example, "piece"],
                "router": one.middle,
                "gates": one.routers[one.middle].gates[one.example],
                "tree": [
                    {"pool": pool, "experts": nodes.ids[one.example], "scores": nodes.scores[one.example]}
                    for pool, nodes in enumerate(one.trees.get(one.routers[one.middle].module, ()))
                ],
            }
            for one in self.beside
        ]
        return {"texts": list(self.texts), "system": self.label, "strongest": self.strongest, "beside": beside}

    @cached_property
    def strongest(self) -> pd.DataFrame:
        parts = []
        for name, router in self.routers.items():
            largest = np.take_along_axis(router.gates, router.strongest[:, None].clip(0), 1)[:, 0]
            parts.append(
                self.tokens[["row", "position", "piece"]].assign(
                    router=name, expert=[router.name(one) for one in router.strongest], gate=largest
                )
            )
        return pd.concat(parts, ignore_index=True)

    def _repr_html_(self) -> str:
        """The texts in the colors of one router, which show their gates on hover, and the picture of the flow."""
        shown = self._module("draw_text").texts_html(self)
        return f"{shown}{super()._repr_html_()}"

    @property
    def places(self) -> list[str]:
        """The places of routers in a layer, in order."""
        return list(dict.fromkeys(router.place for router in self.routers.values()))

    def at(self, place: str) -> dict[str, RoutedBy]:
        """{layer: the router at this place in it}, in the model's order.

        Args:
            place: one of `places`, or a part of one between dots that fits no other, such as "q_proj".

        Raises:
            ValueError: for a place without a router, and for a part of several places; it lists them.
        """
        found = [place] if place in self.places else meant(self.places, str(place), "place")
        if len(found) > 1:
            raise ValueError(f"place = {place!r} is a part of {', '.join(found)}; pass one of them")
        return {router.layer: router for router in self.routers.values() if router.place == found[0]}

    @property
    def middle(self) -> str:
        """The name of the router in the picture: of the chosen routers, or of all, the one at the first place and in
        the middle of the layers."""
        names = list(self.routers) if self.layer is None else meant(list(self.routers), self.layer, "layer")
        own = [name for name in names if self.routers[name].place == self.routers[names[0]].place]
        return own[len(own) // 2]

    def flow(self, place: str, row: int | None = None) -> pd.DataFrame:
        """Tokens between the strongest experts of consecutive layers.

        Args:
            place: one of `places`, or a part of one, as of `at`.
            row: the number of one text; None counts all texts.

        Returns:
            One row per pair of experts with tokens: layer, expert, to_layer, to_expert, tokens.

        Raises:
            ValueError: as `at`, and for a text that there is not.
        """
        if row is not None and row not in set(self.tokens["row"]):
            raise ValueError(f"row = {row!r} is not the number of a text; pass 0 to {len(self.texts) - 1}, or None")
        chosen = np.ones(len(self.tokens), bool) if row is None else (self.tokens["row"] == row).to_numpy()
        ladder = list(self.at(place).values())
        parts = []
        for lower, upper in zip(ladder, ladder[1:]):
            pairs = pd.DataFrame({"expert": lower.strongest[chosen], "to_expert": upper.strongest[chosen]})
            counts = pairs.value_counts(sort=False).rename("tokens").reset_index()
            parts.append(counts.assign(layer=lower.layer, to_layer=upper.layer))
        columns = ["layer", "expert", "to_layer", "to_expert", "tokens"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


@asked()
def tokens(
    model: Any,
    texts: str | Sequence[str],
    tokenizer: Any = None,
    intuition: np.ndarray | None = None,
    layer: int | str | None = None,
) -> RoutedTokens:
    """The experts that every token of your own texts takes.

    Args:
        model: a run, a model with our adapters, or a mixture of experts as `ma.attach` records them.
        texts: one or several texts; they are not put into a prompt form.
        tokenizer: the model's; None takes that of the run, or loads the one of the model's name.
        intuition: (texts, clusters) for a T-REX that does not embed prompts itself; a run computes its own.
        layer: the layer to draw, by its number, a name or a part of a name; None is one in the middle. The widget has a
            list of all layers.

    Returns:
        A result with `plot`, `interactive`, `widget` and `save`.

    Raises:
        ValueError: for an empty text, a text longer than the model's context, a model without a router or with an
            unknown tokenizer, and for a layer without a router.

    Example:
        >>> found = ma.studies.routing.tokens(model, "red or blue?", tokenizer)
        >>> "".join(found.tokens["space"] + found.tokens["piece"]), len(found.routers)
        ('<bos>red or blue?', 4)
    """
    listed = checked_texts(texts)
    if intuition is not None:
        instance("intuition", intuition, np.ndarray, "pass an array of (texts, clusters)")
    is_run = not isinstance(model, nn.Module)
    if is_run and not hasattr(model, "tokenizer"):
        raise ValueError(f"model = {model!r} is neither a model nor a run; pass a model with tokenizer=, or a run")
    opened = model.model() if is_run else bare_model(model)
    routers_of(opened)  # refuses a model without a router before its tokenizer is loaded
    reader = tokenizer or (model.tokenizer if is_run else tokenizer_of(opened))

    def read(asked: Sequence[str], scores: np.ndarray | None = None) -> RoutedTokens:
        own = checked_texts(asked)
        if is_run and scores is None:
            scores = model.intuition(pd.DataFrame({"prompt": own}))
        elif scores is None and intuition is not None:
            raise ValueError(
                "the model routes by the intuition that you passed; call tokens again with the intuition of this text"
            )
        return read_texts(opened, reader, own, scores, read, (model,) if is_run else ())

    found = replace(read(listed, intuition), layer=layer)
    _ = found.middle  # refuses an unknown layer
    return found


@asked()
def sentences(runs: Runs | Gates, method: str = METHOD, count: int = SENTENCES) -> RoutedTokens:
    """The same fixed sentences of a run's suite: the first test prompts of its first data sets, in one model.

    Args:
        runs: the runs, or the gates that `record` made from them.
        method: the method whose first run is shown; if there is none, the first run with a router. T-REX is possible
            too, but its prior, which is the same for all tokens of a prompt, hides how tokens differ.
        count: number of sentences, at most one per data set. T-REX and S'MoRE also read the first sentence, if there
            are runs of them: `beside`.

    Raises:
        ValueError: if none of the runs has a router.
    """
    listed = runs.runs if isinstance(runs, Gates) else runs_of("runs", runs)
    routed = [run for run in listed if run.config.system != "lora"]
    if not routed:
        raise ValueError("none of the runs has a router; pass runs of a mixture")
    run = next((one for one in routed if method_of(one) == method), routed[0])
    texts = first_prompts(run, 1)["prompt"].head(count).tolist()
    others = [one for name in WITH_FORMS for one in routed if method_of(one) == name and name != method_of(run)]
    firsts = {method_of(one): one for one in reversed(others)}
    return replace(
        tokens(run, texts), beside=tuple(tokens(firsts[name], texts[0]) for name in WITH_FORMS if name in firsts)
    )


def read_texts(
    model: Any,
    tokenizer: Any,
    texts: list[str],
    intuition: np.ndarray | None,
    again: Callable[[Sequence[str]], RoutedTokens],
    runs: tuple[Any, ...],
) -> RoutedTokens:
    if intuition is not None and len(intuition) != len(texts):
        raise ValueError(f"intuition has {len(intuition)} rows for {len(texts)} texts; pass one row per text")
    adapters = routers_of(model)[1]
    choices: dict[str, list[Any]] = {name: [] for name in adapters}
    handles = [adapter.register_forward_hook(keep_trees(choices[name])) for name, adapter in adapters.items()]
    try:
        gates, frame = record_gates(model, tokenizer, texts, intuition)
    finally:
        for handle in handles:
            handle.remove()
    order = frame.sort_values(["row", "position"], kind="stable").index.to_numpy()
    frame = frame.loc[order].reset_index(drop=True)
    routers: dict[str, RoutedBy] = {}
    for name, adapter in adapters.items():
        routers |= routers_in(name, adapter, gates[name][order])
    first = next(iter(adapters.values()))
    system = getattr(first, "system", CALLED.get(type(first).__name__, type(first).__name__))
    whose = named(runs[0]) if runs else system
    return RoutedTokens(
        tuple(texts),
        frame.join(pieces_of(texts, frame, tokenizer)),
        routers,
        {name: in_order(found, order) for name, found in choices.items() if found},
        system,
        again,
        runs=runs,
        sample=f"{counted(len(texts), 'text')}, {len(frame)} tokens, {len(adapters)} routers of one model: {whose}",
    )


def keep_trees(kept: list[Any]) -> Callable[..., None]:
    """A hook that keeps the nodes of every real token of a batch if the router chooses trees."""

    def hook(adapter: Any, inputs: tuple[Any, ...], output: Any) -> None:
        found = getattr(output[1], "choices", None)
        if found is not None:
            context = inputs[1] if len(inputs) > 1 else None
            mask = getattr(context, "token_mask", None)
            rows = slice(None) if mask is None else mask.flatten().bool()
            kept.append([(one.ids[rows].cpu().numpy(), one.scores[rows].float().cpu().numpy()) for one in found])

    return hook


def in_order(batches: list[list[tuple[np.ndarray, np.ndarray]]], order: np.ndarray) -> list[NodesOf]:
    """The nodes of all batches, layer by layer, with the tokens in `order`."""
    return [
        NodesOf(*(np.concatenate([part[side] for part in layer])[order] for side in (0, 1)))
        for layer in zip(*batches, strict=True)
    ]


def routers_in(name: str, adapter: Any, gates: np.ndarray) -> dict[str, RoutedBy]:
    """gates (tokens, experts) of one module as its routers: one, or one per pool."""
    layer = layer_of(name)
    place = name.removeprefix(layer).lstrip(".") or name
    sizes = getattr(adapter.config, "num_experts", None)
    if isinstance(sizes, (list, tuple)) and len(sizes) > 1:
        pools = np.split(gates, np.cumsum(sizes)[:-1], axis=1)
        return {
            f"{name} pool {number}": RoutedBy(layer, f"{place} pool {number}", name, pool)
            for number, pool in enumerate(pools)
        }
    down, up = getattr(adapter.config, "num_down", None), getattr(adapter.config, "num_up", None)
    matrix = (down, up) if down and up and down * up == gates.shape[1] else None
    return {name: RoutedBy(layer, place, name, gates, matrix)}
