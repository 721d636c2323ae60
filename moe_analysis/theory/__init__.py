"""The papers' statements, checked on the real modules. A paper's checks register when its file is imported here."""

from . import fixed_rank, riemannian, trex, trex_approximation, trex_intuition  # noqa: F401  one import line a file of claims
from .claim import CHECKS, Claim, claim_check, verify

__all__ = ["CHECKS", "Claim", "claim_check", "verify"]
