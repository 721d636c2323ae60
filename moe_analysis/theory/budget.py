"""Equal budgets: the sizes of an adapter whose parameters come nearest to a given number.

Parameters are counted by the formulas of `theory.cost` (which equal numel exactly), so nothing is built or allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count as from_number
from itertools import product
from math import ceil, floor, sqrt
from typing import Any

from .method_table import Shapes, adapter_cost, layer_shapes

TOLERANCE = 0.05
COUNTED, PARTS = ("trainable", "active"), ("all", "experts")
ASPECT = 2.0  # how far T-REX's ratio of up to down vectors may leave the configuration's before it is given up


@dataclass(frozen=True)
class Chain:
    """Configurations in the order of their parameters: build(t) for t from first to last (None: without end)."""

    build: Callable[[int], Any]
    first: int = 1
    last: int | None = None


def match_budget(
    adapter: Any,
    trainable: int,
    shapes: Shapes,
    counted: str = "trainable",
    part: str = "all",
    tolerance: float = TOLERANCE,
) -> Any:
    """The configuration `adapter` with sizes whose parameters come nearest to `trainable`.

    Ranks are sought first, in the proportion of a list of ranks; alpha follows them, so that alpha / r stays. Only
    where no rank comes within the tolerance the rest gives way: S'MoRE's top rank up to four times the others (its
    paper's protocol), then the number of experts, step by step from the configuration's to 2 or twice as many, with
    the experts a token uses in proportion. T-REX keeps num_up / num_down, then a ratio within a factor of 2, then takes
    any pair; a num_clusters that is set keeps the number of experts. A larger budget never gives fewer parameters.

    Args:
        adapter: Any of our configurations, pure or PEFT's, or peft.LoraConfig.
        shapes: [(in, out), …], one entry per layer that is adapted, or the model, whose layers `target_modules` names.
        counted: "trainable", or "active" for the parameters that a token uses.
        part: "all", or "experts" to leave the router out of the count.
        tolerance: Share of `trainable` by which the result may miss it, above or below.

    Raises:
        ValueError: For an unknown option, for parameters the formulas do not count, and where nothing comes within the
            tolerance; the message then names the nearest.
    """
    check_options(trainable, counted, part, tolerance)
    if hasattr(adapter, "check"):
        adapter.check()
    layers = layer_shapes(shapes, adapter)
    adapter_cost(adapter, layers)  # refuses what has no formula, before the search changes any field

    def size(config: Any) -> int:
        found = adapter_cost(config, layers)
        experts = found.active_parameters if counted == "active" else found.expert_parameters
        return experts + (found.router_parameters if part == "all" else 0)

    best: Any = None
    for family in families(adapter, lambda config: size(config) <= trainable * (1 + tolerance)):
        near = [config for chain in family for config in around(chain, size, trainable)]
        ranked = sorted(near, key=lambda config: (abs(size(config) - trainable), size(config)))
        if ranked and (best is None or abs(size(ranked[0]) - trainable) < abs(size(best) - trainable)):
            best = ranked[0]
        if best is not None and abs(size(best) - trainable) <= tolerance * trainable:
            return best
    found = f"{size(best):,} ({sizes(best)})"
    needed = ceil(100 * abs(size(best) / trainable - 1))
    raise ValueError(
        f"trainable = {trainable:,} {counted} parameters ({part}) over {len(layers)} layers cannot be met "
        f"within {100 * tolerance:g} % by {type(adapter).__name__}: the nearest has {found}; pass another "
        f"budget, such as {size(best)}, or tolerance={needed / 100:g}"
    )


def check_options(trainable: int, counted: str, part: str, tolerance: float) -> None:
    if trainable < 1:
        raise ValueError(f"trainable = {trainable} must be at least 1 parameter")
    if counted not in COUNTED:
        raise ValueError(f"counted = {counted!r} is unknown; choose one of {', '.join(COUNTED)}")
    if part not in PARTS:
        raise ValueError(f"part = {part!r} is unknown; choose one of {', '.join(PARTS)}")
    if tolerance < 0:
        raise ValueError(f"tolerance = {tolerance} must be at least 0, a share of the budget such as {TOLERANCE}")


def around(chain: Chain, size: Callable[[Any], int], goal: int) -> list[Any]:
    """The two neighbors of `goal` in a chain (or its one end), by doubling and bisection."""
    low = chain.first
    if low == chain.last or size(chain.build(low)) >= goal:
        return [chain.build(low)]
    step, high = 1, low
    while high != chain.last and size(chain.build(high)) < goal:
        if high > low and size(chain.build(high)) == size(chain.build(low)):
            return [chain.build(low)]  # a user's own adapter whose parameters do not grow with the rank
        low, high = high, high + step if chain.last is None else min(high + step, chain.last)
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(chain.build(middle)) < goal else (low, middle)
    return [chain.build(low), chain.build(high)]


def families(config: Any, fits: Callable[[Any], bool]) -> Iterator[Sequence[Chain]]:
    """Sets of chains in the order in which they are tried. fits: whether a configuration is small enough."""
    if hasattr(config, "num_down"):
        yield from trex_families(config, fits)
        return
    yield [rank_chain(config)]
    if not hasattr(config, "num_experts"):
        return
    if len(getattr(config, "fanout", [])) > 1 and not config.shared_pool:
        yield list(tall_chains(config, fits))
    for shift in shifts(config.num_experts):
        try:
            resized = with_experts(config, shift)
            resized.check()
        except ValueError:  # such as noisy top-k left with no expert to drop
            continue
        yield [rank_chain(resized)]


def shifts(num_experts: int | list[int]) -> list[int]:
    """Changes of the number of experts, the smallest first, down to 2 in the smallest pool and up to twice as many."""
    smallest = min(num_experts) if isinstance(num_experts, list) else num_experts
    return [sign * step for step, sign in product(range(1, smallest + 1), (-1, 1)) if smallest + sign * step >= 2]


def with_experts(config: Any, shift: int) -> Any:
    """`shift` more experts in every pool, of which a token uses the same share as before (half is rounded up)."""
    name = "fanout" if hasattr(config, "fanout") else "top_k"
    held = config.num_experts
    if not hasattr(config, name):  # a user's own adapter that always uses all
        return replace(config, num_experts=held + shift)
    used = getattr(config, name)
    share = lambda k, s: None if k is None else max(1, (2 * k * (s + shift) + s) // (2 * s))  # noqa: E731
    if isinstance(held, list):
        shares = [share(k, s) for k, s in zip(used, held)]
        return replace(config, **{"num_experts": [s + shift for s in held], name: shares})
    return replace(config, **{"num_experts": held + shift, name: share(used, held)})


def rank_chain(config: Any) -> Chain:
    """One rank more at a step. Pools of a list take turns in proportion, the last one first where they are even; the
    ranks of a shared pool grow together."""
    held = getattr(config, "num_experts", None)
    if not isinstance(held, list):
        return Chain(lambda r: with_ranks(config, r))
    weights = list(config.r) if isinstance(config.r, list) else [1] * len(held)
    if getattr(config, "shared_pool", False):
        return Chain(lambda r: with_ranks(config, [r] * len(held)))

    def build(step: int) -> Any:
        ranks = [1] * len(held)
        for _ in range(step - 1):
            ranks[min(range(len(held)), key=lambda pool: (ranks[pool] / weights[pool], -pool))] += 1
        return with_ranks(config, ranks)

    return Chain(build)


def tall_chains(config: Any, fits: Callable[[Any], bool]) -> Iterator[Chain]:
    """S'MoRE with equal ranks below and a top rank from that to four times as much, a chain for each rank below."""

    def ranks(low: int, top: int) -> Any:
        return with_ranks(config, [low] * (config.layers - 1) + [top])

    for low in from_number(1):
        yield (chain := Chain(partial(ranks, low), low, 4 * low))
        if not fits(chain.build(chain.first)):
            return


def with_ranks(config: Any, r: int | list[int]) -> Any:
    """The configuration at other ranks, with alpha / r (of rank-stabilised LoRA alpha / √r) as it was."""
    if hasattr(config, "lora_alpha"):
        times = r / config.r  # type: ignore[operator]
        alpha = config.lora_alpha * (sqrt(times) if config.use_rslora else times)
        return replace(config, r=r, lora_alpha=int(alpha) if alpha == int(alpha) else alpha)
    if config.alpha is None:
        return replace(config, r=evened(r))
    if not isinstance(r, list):
        return replace(config, r=r, alpha=config.alpha / config.r * r)
    return replace(config, r=evened(r), alpha=evened([scale * one for scale, one in zip(config.scales, r)]))


def evened(values: Any) -> Any:
    """A list of equal numbers as that number."""
    return values[0] if isinstance(values, list) and len(set(values)) == 1 else values


def trex_families(config: Any, fits: Callable[[Any], bool]) -> Iterator[Sequence[Chain]]:
    """T-REX's pairs (I, J): of the configuration's ratio, of one near it, and all; I = J for diagonal pairing."""

    def pair(down: int, up: int) -> Any:
        return replace(config, num_down=down, num_up=up)

    if config.pairing == "diagonal":
        fixed = config.num_experts if keeps_clusters(config) else None
        yield [Chain(lambda number: pair(number, number), fixed or 1, fixed)]
        return
    if keeps_clusters(config):
        held = config.num_experts
        divisors = [down for down in range(1, held + 1) if held % down == 0]
        yield [Chain(partial(pair, down), held // down, held // down) for down in divisors]
        return
    ratio = config.num_up / config.num_down
    yield [Chain(lambda down: pair(down, max(1, round(ratio * down))))]
    yield list(trex_chains(pair, fits, ratio))
    yield list(trex_chains(pair, fits))


def trex_chains(
    pair: Callable[[int, int], Any], fits: Callable[[Any], bool], ratio: float | None = None
) -> Iterator[Chain]:
    """A chain over J for each I, with J / I within a factor of ASPECT of a ratio where there is one."""
    for down in from_number(1):
        low, high = (1, None) if ratio is None else (ceil(ratio * down / ASPECT), floor(ratio * down * ASPECT))
        if high is not None and high < max(1, low):
            continue
        yield (chain := Chain(partial(pair, down), max(1, low), high))
        if not fits(chain.build(chain.first)):
            return


def keeps_clusters(config: Any) -> bool:
    """Whether the number of experts is the number of clusters, which the configuration sets."""
    return bool(config.intuition and not config.intuition_mapper and config.num_clusters)


def sizes(config: Any) -> str:
    """The sizes that a search changes, as in a call."""
    names = ("num_down", "num_up") if hasattr(config, "num_down") else ("num_experts", "r")
    return ", ".join(f"{name}={getattr(config, name)}" for name in names if hasattr(config, name))
