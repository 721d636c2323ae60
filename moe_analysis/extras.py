"""Libraries that only a part of the package needs, imported on first use; an error says how to install a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ImportError):
    """A library that comes with an extra of this package is not installed; the message names the extra."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports of what `pip install "moe_analysis[name]"` brings.

    Args:
        name: "notebooks", "maps" or "cluster", as in pyproject.toml.

    Raises:
        MissingExtra: Names the library, the extra and the command that installs it.

    Example:
        >>> with extra("maps"):
        ...     import no_such_library
        Traceback (most recent call last):
            ...
        moe_analysis.extras.MissingExtra: no_such_library is not installed; pip install "moe_analysis[maps]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f'{error.name} is not installed; pip install "moe_analysis[{name}]"') from error
