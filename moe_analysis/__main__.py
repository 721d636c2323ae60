"""The command line's door: `python -m moe_analysis --help`."""

from __future__ import annotations

import sys

try:
    from .commands import app
except KeyboardInterrupt:  # before anything runs that could be told of
    sys.exit(130)

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; it ends the process with the status that `commands.program.MEANING` lists."""
    app()


if __name__ == "__main__":
    main()
