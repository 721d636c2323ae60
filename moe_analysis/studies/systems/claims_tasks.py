"""Our own hypothesis on mixtures at the budget of LoRA; the claims of papers are with the figures that make them."""

from __future__ import annotations

from ...evidence import Claim
from .claims import versus
from .endpoints import ENDPOINTS, versions
from .measure import SystemTasks

MIXTURES = ("LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA", "MoMOR")  # T-REX and S'MoRE have their papers' claims
MATTERS = 0.01  # a point: what a reader of a table would see


def claims(found: SystemTasks) -> list[Claim]:
    """Each mixture is ahead of LoRA: one claim per mixture and endpoint."""
    parts = [part for part in ENDPOINTS if part in set(found.scores["part"])]
    return [
        versus(
            found, f"own_{label.replace(' ', '_')}", "beyond the papers", part, label, ("LoRA",), MATTERS, kind="own"
        )
        for part in parts
        for mixture in MIXTURES
        for label in versions(found.methods, mixture)
        if "LoRA" in found.methods
    ]
