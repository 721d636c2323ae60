"""Our own hypotheses about S'MoRE on the compact backbone: that wider routing helps it, and that more steps do."""

from __future__ import annotations

from ...evidence import Claim, Effect, judged
from .claims import DRAWN, versus
from .endpoints import ENDPOINTS, MEANING, effect_of, gap, within_guessing
from .measure import REFERENCE
from .steps import SystemSteps

NARROW = "S'MoRE"  # half of its routers start near collapse there (campaigns/compact.yaml)
WIDE = ("S'MoRE, width 32", "S'MoRE, width 16")
SOURCE = "beyond the papers"


def claims(found: SystemSteps) -> list[Claim]:
    """One claim per endpoint: each wider routing against S'MoRE, then what more steps do for each system."""
    parts = [part for part in ENDPOINTS if part in set(found.few.scores["part"])]
    wider = [
        versus(found.few, f"smore_routing_{wide.split()[-1]}", SOURCE, part, wide, (NARROW,), DRAWN, kind="own")
        for wide in WIDE
        if wide in found.few.methods
        for part in parts
    ]
    methods = [method for method in found.many.methods if method != REFERENCE]
    return wider + [longer(found, method, part) for method in methods for part in parts]


def longer(found: SystemSteps, method: str, part: str) -> Claim:
    """Against LoRA, a system does better after many steps than after few."""
    few, many = found.steps
    claim = Claim(
        f"smore_steps_{method.replace(' ', '_')}_{ENDPOINTS[part].replace(' ', '_')}",
        SOURCE,
        f"{ENDPOINTS[part]}: {method} gains on {REFERENCE} from {few} to {many} steps",
        kind="own",
        compares=f"({method} - {REFERENCE}) at {many} steps less the same at {few}",
        endpoint=f"accuracy, {MEANING[part]}",
        smallest=DRAWN,
    )
    return judged([claim], {claim.name: gained(found, method, part)})[0]


def gained(found: SystemSteps, method: str, part: str) -> Effect | str:
    if reason := within_guessing(found.few.tasks, found.few.guessing, part):
        return reason
    before = gap(found.few.scores, found.few.tasks, part, method, REFERENCE)
    after = gap(found.many.scores, found.many.tasks, part, method, REFERENCE)
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after)
    both = (after - before).dropna(axis=1, how="all")
    return effect_of(both, found.few.tasks, part) if both.shape[1] else "the two trainings share no seed"
