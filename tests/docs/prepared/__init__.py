"""The names that the examples of the docstrings use beside their module's own: `PREPARED`, name -> what makes it."""

from . import comparison, costs, models, optimizers, routing, semantics, structures, theorems  # noqa: F401
from .registry import PREPARED

__all__ = ["PREPARED"]
