"""What S'MoRE claims in Table 2, declared before measuring, and the verdicts.

What T-REX claims on other data is a hypothesis of ours here, declared before the first final run of T-REX on these data
sets. That systems which the table does not have learn at all is a check of ours.
"""

from __future__ import annotations

from ...evidence import Claim
from .claims import CONTROL, DRAWN, HEADLINE, LORA_BASED, METHOD, smaller, trained, versus
from .endpoints import BASE, versions
from .scores import INSIDE
from .table_2 import PAPER, Table2, paper_gain

SMORE, OTHERS = "S'MoRE", ("LoRA", "HydraLoRA", "MixLoRA")
TREX, CHECK = "our hypothesis about T-REX", "our check of the training"


def claims(found: Table2) -> list[Claim]:
    """That every version of S'MoRE is ahead of each version of the others, and that training helps at all."""
    counted = found.tasks.loc[(found.tasks["part"] == INSIDE) & found.tasks["kept"], "dataset"]
    others = [label for name in OTHERS for label in versions(found.methods, name)]
    told = []
    for method in versions(found.methods, SMORE):
        effects = {other: gain for other in others if (gain := paper_gain(method, other, counted)) > 0}
        name = f"{found.item}_{method.removeprefix(SMORE).strip(' ()') or 'any'}"
        if others:
            told.append(versus(found, name, found.source, INSIDE, method, others, DRAWN, effects))
    gains = {method: gain for method in found.methods if (gain := paper_gain(method, BASE, counted)) > 0}
    printed = [method for method in found.methods if method in PAPER]
    told += [*of_t_rex(found), trained(found, f"{found.item}_trained", found.source, INSIDE, gains, methods=printed)]
    if added := [method for method in found.methods if method not in PAPER]:
        name = f"{found.item}_trained_too"
        told.append(trained(found, name, CHECK, INSIDE, kind="own", methods=added))
    return told


def of_t_rex(found: Table2) -> list[Claim]:
    """That T-REX is ahead of LoRA and LoRA-MoE, with as many parameters and with fewer, and that intuition helps."""
    others = [label for label in LORA_BASED if label in found.methods]
    asked = {
        "trex": (METHOD, others, HEADLINE),
        "trex_smaller": (smaller(found), others, HEADLINE),
        "trex_intuition": (METHOD, [label for label in (CONTROL,) if label in found.methods], DRAWN),
    }
    return [
        versus(found, f"{found.item}_{name}", TREX, INSIDE, method, against, least, kind="own")
        for name, (method, against, least) in asked.items()
        if method in found.methods and against
    ]
