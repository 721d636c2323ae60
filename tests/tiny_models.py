"""How the tests of the PEFT bridge adapt a tiny model and look inside it."""

from __future__ import annotations

import torch
from peft import get_peft_model

from moe_analysis.peft_bridge import CONFIGS, AdapterLayer

from .adapters.cases import randomize

SWITCH = {"r": 2, "num_experts": 4, "top_k": 1, "gate": "switch", "balance_coef": 0.3}
RESCALED = {"r": 2, "num_experts": 4, "top_k": 2, "gate_backward_power": 0.5}
TREX = {"num_down": 2, "num_up": 3}


def adapt(base, name: str = "trex", targets=("q_proj", "down_proj"), **options):
    """The PEFT model in evaluation mode, every adapter weight random."""
    targets = targets if isinstance(targets, str) else list(targets)
    model = get_peft_model(base, CONFIGS[name](target_modules=targets, **options)).eval()
    randomize(model)
    return model


def scores(batch: int = 2, width: int = 6) -> torch.Tensor:
    return torch.rand(batch, width)


def adapted_layers(model) -> list[AdapterLayer]:
    return [module for module in model.modules() if isinstance(module, AdapterLayer)]
