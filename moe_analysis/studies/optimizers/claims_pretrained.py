"""What gR claims about its optimizers, on a pretrained model, declared before any run of it."""

from __future__ import annotations

from ...evidence import Claim, judged
from .claims import ACCURACY, OURS, REPRODUCED, decided, pair, tuning_fault
from .claims_tuned import missing_runs, tested_pairs
from .measure import PLAIN, RESCALED
from .tuned import PretrainedOptimizers

MODEL = "on a pretrained model"
NAME = "gr_pretrained"
USUAL = "AdamW"  # what most people train adapters with
PAIRS = ((NAME, "gR Fig. 3", RESCALED, PLAIN), (f"own_{NAME}", "beyond gR Fig. 3", f"gR{USUAL}", USUAL))
OTHERS = (PLAIN, RESCALED, f"gR{USUAL}")


def claims(found: PretrainedOptimizers) -> list[Claim]:
    """A lower training loss and a higher accuracy for SGD, which gR reports; and what we ask about AdamW."""
    return [
        *(lower_loss(found, *one) for one in PAIRS),
        more_accurate(found),
        tested_pairs(
            found,
            f"own_{NAME}_test",
            f"{OURS}, {MODEL}",
            f"{', '.join(OTHERS[:-1])} and {OTHERS[-1]} each have a lower test loss than {USUAL}",
            [(better, USUAL) for better in OTHERS],
        ),
    ]


def lower_loss(found: PretrainedOptimizers, name: str, source: str, better: str, worse: str) -> Claim:
    """That one optimizer trains to a lower loss than another."""
    claim, effect = pair(
        found.finals,
        found.rates,
        better,
        worse,
        lambda *both: missing_runs(found, *both),
        name,
        f"{source}, {MODEL}",
    )
    return judged([claim], {claim.name: effect})[0]


def more_accurate(found: PretrainedOptimizers) -> Claim:
    """That rescaling gives a higher accuracy, each rule at its best rate; an independent reproduction saw 6.6 points."""
    claim = Claim(
        f"{NAME}_accuracy",
        f"{REPRODUCED}, {MODEL}",
        f"{RESCALED} is more accurate than {PLAIN}",
        compares=f"{RESCALED} - {PLAIN}, each at its best learning rate",
        endpoint="test accuracy",
        paper_effect=ACCURACY,
    )
    if fault := tuning_fault(found.rates, RESCALED, PLAIN) or missing_runs(found, RESCALED, PLAIN):
        return claim.untestable(fault)
    first, second = (
        found.finals[found.finals["method"] == name].set_index("seed")["accuracy"] for name in (RESCALED, PLAIN)
    )
    return decided(claim, (first - second).reindex(first.index.intersection(second.index)).to_numpy())
