"""The papers' statements, checked on the real modules. A paper's checks register when its file is imported here."""

from . import (  # noqa: F401  one name per file of claims
    cost_claims,
    fixed_rank,
    riemannian,
    smore,
    smore_codes,
    smore_relatives,
    trex,
    trex_approximation,
    trex_intuition,
)
from .claim import CHECKS, Claim, checked, claim_check, verify

__all__ = ["CHECKS", "Claim", "checked", "claim_check", "verify"]
