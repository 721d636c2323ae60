"""What S'MoRE claims about sizes, on a pretrained model and CommonsenseQA, declared before any run at these rates.

Only the final runs of S'MoRE at the middle size had been seen: those of the same cell in `smollm2_commonsense`.
"""

from __future__ import annotations

import numpy as np

from ...evidence import Claim, Effect, judged, whole_of
from ...evidence.effect import ON_ONE
from ..systems.endpoints import BASE, ENDPOINTS, MEANING
from ..systems.table_2 import paper_gain
from .claims import METHOD, Declared, slug
from .claims import claims as at_sizes
from .pretrained import DATASET, PretrainedBudgets

OPPONENTS = {"LoRA": "LoRA", "MixLoRA": "MixLoRA (8)"}  # here, and in Table 2
HERE = Declared(
    {"switch": {name: paper_gain(f"{METHOD} (4-4)", label, [DATASET]) for name, label in OPPONENTS.items()}},
    sizes=("trainable",),  # MixLoRA's active parameters are fewer than those of any LoRA here
    where=", on a pretrained model",
    model="_pretrained",
)
LEARNED = {"LoRA": "LoRA", "MixLoRA": "MixLoRA (8)", METHOD: f"{METHOD} (4-4)"}


def claims(found: PretrainedBudgets) -> list[Claim]:
    """The claims of Fig. 4 and Table 2 against LoRA and MixLoRA, and that every system learns at all."""
    return [*at_sizes(found, HERE), *(trained(found, part) for part in found.parts)]


def trained(found: PretrainedBudgets, part: str) -> Claim:
    """Every system, as the mean over its sizes, is more accurate than the model that it started from.

    Half of the gain in Table 2, which is that of the best size, matters.
    """
    name, source = HERE.name("smore_fig4_trained", part), f"S'MoRE Table 2{HERE.where}"
    words, endpoint = "is more accurate than before training", f"accuracy, {MEANING[part]}"
    parts = [
        Claim(
            f"{name}_{slug(method)}",
            source,
            f"{ENDPOINTS[part]}: {method} {words}, mean over its sizes",
            compares=f"{method} - {BASE}",
            endpoint=endpoint,
            smallest=paper_gain(label, BASE, [DATASET]) / 2,
            family=name,
        )
        for method, label in LEARNED.items()
    ]
    effects = {claim.name: over_base(found, part, method) for claim, method in zip(parts, LEARNED)}
    return whole_of(name, source, f"{ENDPOINTS[part]}: every system {words}", judged(parts, effects))


def over_base(found: PretrainedBudgets, part: str, method: str) -> Effect | str:
    """A system less the base model, the mean over its sizes, by seed; a text where there is nothing to compare."""
    own = found.results[(found.results["part"] == part) & (found.results["method"] == method)]
    if own.empty or part not in found.untrained:
        return f"no run of {method if own.empty else BASE}"
    by_seed = own.pivot(index="seed", columns="budget", values="accuracy").dropna()
    if by_seed.empty:
        return f"no seed of {method} at all of its sizes"
    return Effect(np.asarray(by_seed.mean(axis=1)) - found.untrained[part], ON_ONE)
