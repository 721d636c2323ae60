"""The command line's entry point: `python -m moe_analysis --help`."""

from __future__ import annotations

import atexit
import gc
import sys

try:
    from .commands import app
except KeyboardInterrupt:  # before anything has run that could be reported
    sys.exit(130)

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; it ends the process with the status that `commands.program.MEANING` lists."""
    atexit.register(gc.freeze)  # else a process that ends looks for garbage in all that it imported, for a second
    app()


if __name__ == "__main__":
    main()
