"""What S'MoRE claims in Table 2, declared before measuring, and the verdicts."""

from __future__ import annotations

from ...evidence import Claim
from .claims import DRAWN, trained, versus
from .endpoints import BASE, versions
from .scores import INSIDE
from .table_2 import Table2, paper_gain

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
    gains = {method: gain for method in found.methods if (gain := paper_gain(method, BASE, counted)) > 0}
    return [*told, trained(found, "smore_table2_trained", SOURCE, INSIDE, gains)]
