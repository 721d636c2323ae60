"""Every shape in the signatures of `adapters` and `theory` checked at every call, a wrong one an error.

A pytest plugin: `python -m pytest -p tests.checked_shapes tests/adapters` runs any tests that way. The packages must not
have been imported before, since the checks are put in as they are read.
"""

from __future__ import annotations

import pkgutil
import sys
import typing
from importlib import import_module
from unittest import mock

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number can stand for a real one
CHECKED = ("moe_analysis.adapters", "moe_analysis.theory")


def check_shapes() -> None:
    """Import both packages with their checks. Raises RuntimeError where one is imported already."""
    if early := [name for name in CHECKED if name in sys.modules]:
        raise RuntimeError(f"{', '.join(early)} imported already, without checks; call check_shapes in a new process")
    with install_import_hook(CHECKED, f"{__name__}.checker"):
        import_all("moe_analysis.adapters")
        for library in ("pandas", "peft", "scipy.optimize", "moe_analysis.evidence.claim", "moe_analysis.optim"):
            import_module(library)
        # shapes of `theory` are made of names that most of its files import for type checkers alone
        with mock.patch.object(typing, "TYPE_CHECKING", True):
            import_all("moe_analysis.theory")


def import_all(package: str) -> None:
    for part in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        import_module(part.name)


def pytest_load_initial_conftests() -> None:
    check_shapes()
