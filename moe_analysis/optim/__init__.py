"""Optimizers and parameter groups for mixtures of low-rank experts."""

from .build import OPTIMIZERS, build_optimizer, check_options
from .groups import parameter_groups, router_parameters
from .pairs import FactorPair, factor_pairs
from .preconditioner import precondition
from .riemannian import FallbackWarning, RiemannianAdamW, RiemannianSGD

__all__ = [
    "OPTIMIZERS",
    "FactorPair",
    "FallbackWarning",
    "RiemannianAdamW",
    "RiemannianSGD",
    "build_optimizer",
    "check_options",
    "factor_pairs",
    "parameter_groups",
    "precondition",
    "router_parameters",
]
