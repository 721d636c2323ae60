"""Names that stand ready in the examples of the docstrings: each made once, the first time an example uses it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

PREPARED: dict[str, Callable[[], Any]] = {}  # name in an example -> what makes it


def prepared(make: Callable[[], Any]) -> Callable[[], Any]:
    """Decorator: the function's result stands ready under the function's name, and is made once."""
    PREPARED[make.__name__] = cache(make)
    return PREPARED[make.__name__]


def fresh(make: Callable[[], Any]) -> Callable[[], Any]:
    """As `prepared`, and every example gets a copy of its own, because examples change it."""
    kept = cache(make)

    @wraps(make)
    def copied() -> Any:
        return copy.deepcopy(kept())

    PREPARED[make.__name__] = copied
    return copied


@prepared
def folder() -> Path:
    """An empty folder to write into; it is gone when Python ends."""
    place = tempfile.TemporaryDirectory(prefix="moe_analysis-examples-")
    KEPT.append(place)  # removed when this list goes
    return Path(place.name)


KEPT: list[Any] = []
