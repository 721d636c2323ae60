"""Libraries keep their warnings to themselves; ours are one line each."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..figures import environment
from .failures import PACKAGE
from .terminal import note


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """While the block runs, only warnings of this package are shown, each once, and of libraries' logs only errors."""

    said = set[str]()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.partition(".")[0] == PACKAGE.name and str(message) not in said:
            said.add(str(message))
            note(f"warning: {message}", style="yellow")

    level = logging.root.level
    verbosity = os.environ.get("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings(), environment({"TRANSFORMERS_VERBOSITY": verbosity}):
        warnings.showwarning = show
        logging.root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.root.setLevel(level)
