"""What T-REX claims about accuracy, on a pretrained model, declared before measuring, and the verdicts.

The saved parameters are counted and do not depend on the model, so they are judged with Fig. 3 alone.
"""

from __future__ import annotations

from ...evidence import Claim
from .claims import ABLATION, CONTROL, DRAWN, HEADLINE, LORA_BASED, METHOD, trained, versus
from .pretrained import PretrainedSystems
from .scores import INSIDE, OUTSIDE

MODEL = "on a pretrained model"
NAME = "trex_pretrained"


def claims(found: PretrainedSystems) -> list[Claim]:
    """The headline, Fig. 3, the ablation, and that training helps at all."""
    headline, figure = (f"T-REX, headline, {MODEL}", f"T-REX Fig. 3, {MODEL}")
    ablation = f"{ABLATION}, {MODEL}"
    return [
        versus(found, f"{NAME}_headline", headline, INSIDE, METHOD, LORA_BASED, HEADLINE),
        versus(found, f"{NAME}_fig3", figure, OUTSIDE, METHOD, LORA_BASED, DRAWN),
        *(
            versus(found, f"{NAME}_intuition", ablation, part, METHOD, (CONTROL,), DRAWN, kind="own")
            for part in (INSIDE, OUTSIDE)
        ),
        *(
            trained(found, f"{NAME}_trained", f"our check of the training, {MODEL}", part, kind="own")
            for part in (INSIDE, OUTSIDE)
        ),
    ]
