"""S'MoRE's claims about accuracy, declared before measuring: Fig. 4 at equal budget, Table 2 at the best size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...evidence import Claim, Effect, judged
from ..systems.endpoints import ENDPOINTS, MEANING
from .gaps import at_best_size, at_equal_budgets, subtracted
from .measure import BudgetCurves
from .points import curve_areas

METHOD = "S'MoRE"
# Table 2, Llama-3.2-1B, averages: S'MoRE (4-4) minus LoRA, MixLoRA (8) with the same gate, HydraLoRA (4)
TABLE_2: dict[str, Mapping[str, float]] = {
    "switch": {"LoRA": 0.0220, "MixLoRA": 0.0095, "HydraLoRA": 0.0172},
    "noisy top-k": {"LoRA": 0.0174, "MixLoRA": 0.0127, "HydraLoRA": 0.0126},
    "dense": {"LoRA": 0.0209, "MixLoRA": 0.0099, "HydraLoRA": 0.0161},
}
NATS = 0.01  # of loss, for claims that no paper makes
POINT = 0.01  # of accuracy, likewise


@dataclass(frozen=True)
class Declared:
    """Against whom the claims are, and the effects that the paper gives for this setting.

    effects: gate -> opponent -> S'MoRE's gain in Table 2, in accuracy. where: added to every source. model: added to
    every name. sizes: over which the curves are compared.
    """

    effects: Mapping[str, Mapping[str, float]]
    sizes: Sequence[str] = ("trainable", "active")
    where: str = ""
    model: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(self.effects["switch"])

    def name(self, claim: str, part: str) -> str:
        return f"{claim}{self.model}_{slug(ENDPOINTS[part])}"


AVERAGES = Declared(TABLE_2)


def claims(found: BudgetCurves, declared: Declared = AVERAGES) -> list[Claim]:
    """For each endpoint: every gate at equal budget, the best size of each sweep, and our own hypotheses."""
    told, known = [], set(found.scores["method"])
    for part in found.parts:
        told += [equal_budget(found, part, gate, declared) for gate in declared.effects if named(METHOD, gate) in known]
        told.append(best_of_sweep(found, part, declared))
        told.append(lower_loss(found, part, declared))
        told += [higher_curve(found, part, size, declared) for size in declared.sizes]
    return told


def equal_budget(found: BudgetCurves, part: str, gate: str, declared: Declared = AVERAGES) -> Claim:
    """Fig. 4 is only a plot; half of the effect that Table 2 gives for the same opponent matters."""
    method, effects = named(METHOD, gate), declared.effects[gate]
    return against_each(
        declared.name(f"smore_fig4_{slug(gate)}", part),
        f"S'MoRE Fig. 4{declared.where}",
        f"{ENDPOINTS[part]}: {method} is more accurate at equal budget than",
        lambda other: at_equal_budgets(found, part, method, named(other, gate)),
        f"accuracy, mean over equal budgets, {MEANING[part]}",
        gate=gate,
        smallest={other: gain / 2 for other, gain in effects.items()},
    )


def best_of_sweep(found: BudgetCurves, part: str, declared: Declared = AVERAGES) -> Claim:
    """Table 2: every cell is for the best of its method's own sizes."""
    return against_each(
        declared.name("smore_table2", part),
        f"S'MoRE Table 2{declared.where}",
        f"{ENDPOINTS[part]}: {METHOD} at its best size is more accurate than",
        lambda other: at_best_size(found, part, METHOD, other),
        f"accuracy, {MEANING[part]}",
        effects=declared.effects["switch"],
    )


def lower_loss(found: BudgetCurves, part: str, declared: Declared = AVERAGES) -> Claim:
    return against_each(
        declared.name("own_smore_loss", part),
        f"beyond S'MoRE Fig. 4{declared.where}",
        f"{ENDPOINTS[part]}: {METHOD} has a lower loss at equal budget than",
        lambda other: at_equal_budgets(found, part, *subtracted("loss", METHOD, other), "loss"),
        f"loss, nats per answer token, mean over equal budgets, {MEANING[part]}",
        smallest=dict.fromkeys(declared.others, NATS),
        measure="loss",
    )


def higher_curve(found: BudgetCurves, part: str, size: str, declared: Declared = AVERAGES) -> Claim:
    """The mean height of the curves over the logarithm of a size, on the range that all cover."""
    return against_each(
        declared.name(f"own_smore_{size}", part),
        f"beyond S'MoRE Fig. 4{declared.where}",
        f"{ENDPOINTS[part]}: over all numbers of {size} parameters, {METHOD} is more accurate than",
        lambda other: areas(found, part, size, other, declared.others),
        f"mean accuracy over the logarithm of {size} parameters, on the range that all systems cover",
        smallest=dict.fromkeys(declared.others, POINT),
    )


def areas(found: BudgetCurves, part: str, size: str, other: str, others: Sequence[str]) -> Effect | str:
    rows = found.results[(found.results["part"] == part) & found.results["method"].isin([METHOD, *others])]
    if missing := [name for name in (METHOD, other) if name not in set(rows["method"])]:
        return f"no run of {' or '.join(missing)}"
    table = curve_areas(rows, size).query("measure == 'accuracy'").pivot(index="seed", columns="method", values="area")
    gaps = (table[METHOD] - table[other]).dropna()
    return Effect(gaps.to_numpy()) if len(gaps) else "the curves have no common range of sizes"


def against_each(
    name: str,
    source: str,
    statement: str,
    measured: Callable[[str], Effect | str],
    endpoint: str,
    gate: str = "switch",
    smallest: Mapping[str, float] | None = None,
    effects: Mapping[str, float] | None = None,
    measure: str = "accuracy",
) -> Claim:
    """S'MoRE compared with its opponents: one claim with a part for each; the parts are corrected for their number.

    Args:
        name, source, statement, endpoint: of the claim; the opponents are added to the statement.
        measured: opponent -> the effect, or why there is none.
        gate: of all methods.
        smallest, effects: opponent -> the smallest effect that matters, or the paper's own effect; one of both.
        measure: what `measured` compares.
    """
    method = named(METHOD, gate)
    labels = {other: named(other, gate) for other in smallest or effects or {}}
    parts = [
        Claim(
            f"{name}_{other}",
            source,
            f"{statement} {label}",
            compares=" - ".join(subtracted(measure, method, label)),
            endpoint=endpoint,
            paper_effect=effects[other] if effects else None,
            smallest=smallest[other] if smallest else None,
            family=name,
        )
        for other, label in labels.items()
    ]
    found = judged(parts, {part.name: measured(other) for part, other in zip(parts, labels)})
    whole = replace(
        parts[0],
        name=name,
        statement=f"{statement} {listed(list(labels.values()))}",
        compares=" - ".join(subtracted(measure, method, "each of them")),
        paper_effect=None,
        family="",
    )
    return whole.with_parts(found)


def named(label: str, gate: str) -> str:
    """The label of a system's runs with a gate: LoRA has no gate, HydraLoRA's is dense, switch gates are not named."""
    return label if gate == "switch" or label in ("LoRA", "HydraLoRA") else f"{label} ({gate})"


def listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def slug(words: str) -> str:
    return words.replace(" ", "_").replace("-", "_")
