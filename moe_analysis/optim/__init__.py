"""Optimisers and parameter groups for mixtures of low-rank experts."""

from .groups import OPTIMIZERS, build_optimizer, parameter_groups

__all__ = ["OPTIMIZERS", "build_optimizer", "parameter_groups"]
