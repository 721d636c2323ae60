"""What S'MoRE claims in Table 2, declared before measuring, and the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ...evidence import Claim, Effect, judged
from .claims import DRAWN, versus
from .endpoints import ENDPOINTS, MEANING, effect_of, kept_scores, versions
from .scores import INSIDE, crossed
from .table_2 import BASE, paper_gain

if TYPE_CHECKING:
    from .table_2 import Table2

SMORE, OTHERS, SOURCE = "S'MoRE", ("LoRA", "HydraLoRA", "MixLoRA"), "S'MoRE Table 2"


def claims(found: Table2) -> list[Claim]:
    """That every version of S'MoRE is ahead of each version of the others, and that training helps at all."""
    counted = found.tasks.loc[(found.tasks["part"] == INSIDE) & found.tasks["kept"], "dataset"]
    others = [label for name in OTHERS for label in versions(found.methods, name)]
    told = []
    for method in versions(found.methods, SMORE):
        effects = {other: gain for other in others if (gain := paper_gain(method, other, counted)) > 0}
        name = f"smore_table2_{method.removeprefix(SMORE).strip(' ()') or 'any'}"
        if others:
            told.append(versus(found, name, SOURCE, INSIDE, method, others, DRAWN, effects))
    return [*told, trained(found, counted)]


def trained(found: Table2, counted: pd.Series) -> Claim:
    """Every system is more accurate than the model that it started from; of those in the paper by half of its gain."""
    name, words = f"smore_table2_trained_{ENDPOINTS[INSIDE].replace(' ', '_')}", "is more accurate than before training"
    endpoint = f"accuracy, {MEANING[INSIDE]}"
    parts, effects = [], {}
    for method in found.methods:
        gain = paper_gain(method, BASE, counted)
        known = gain > 0
        part = Claim(
            f"{name}_{method.replace(' ', '_')}",
            SOURCE,
            f"{method} {words}",
            compares=f"{method} - {BASE}",
            endpoint=endpoint,
            paper_effect=gain if known else None,
            smallest=None if known else DRAWN,
            family=name,
        )
        parts.append(part)
        effects[part.name] = over_base(found, method)
    whole = Claim(name, SOURCE, f"every system {words}", compares=f"each - {BASE}", endpoint=endpoint, smallest=DRAWN)
    return whole.with_parts(judged(parts, effects))


def over_base(found: Table2, method: str) -> Effect | str:
    """A system less the base model on the tasks that count; a text where there is nothing to compare."""
    rows = kept_scores(found.scores, found.tasks, INSIDE)
    if rows.empty:
        return "every task is at floor or ceiling"
    own = crossed(rows, method, "accuracy")  # (tasks, seeds)
    levels = found.levels.assign(place=found.levels["part"] + "/" + found.levels["dataset"]).set_index("place")
    untrained = levels.loc[own.index, "untrained"]
    if untrained.isna().any():
        return "the table holds no base model that was tested on the same rows"
    return effect_of(own.sub(untrained, axis=0), found.tasks, INSIDE)
