"""What gR claims about its optimizers, on a pretrained model, declared before any run of it."""

from __future__ import annotations

from ...evidence import Claim, whole_of
from .claims import ACCURACY, OURS, REPRODUCED, decided, pair_claim, tuning_fault
from .claims_tuned import missing_runs, tested_pair
from .measure import PLAIN, RESCALED
from .tuned import PretrainedOptimizers

MODEL = "on a pretrained model"
NAME = "gr_pretrained"
USUAL = "AdamW"  # what most people train adapters with
PAIRS = ((RESCALED, PLAIN), (f"gR{USUAL}", USUAL))
OTHERS = (PLAIN, RESCALED, f"gR{USUAL}")


def claims(found: PretrainedOptimizers) -> list[Claim]:
    """Lower training losses and a higher accuracy, which gR reports; and lower test losses than AdamW, which we ask."""
    return [
        *(
            pair_claim(
                found.finals,
                found.rates,
                *pair,
                lacking=lambda *both: missing_runs(found, *both),
                name=NAME,
                source=f"gR Fig. 3, {MODEL}",
            )
            for pair in PAIRS
        ),
        more_accurate(found),
        whole_of(
            f"own_{NAME}_test",
            f"{OURS}, {MODEL}",
            f"{', '.join(OTHERS[:-1])} and {OTHERS[-1]} each have a lower test loss than {USUAL}",
            [tested_pair(found, better, USUAL, f"own_{NAME}_test", f"{OURS}, {MODEL}") for better in OTHERS],
        ),
    ]


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
