"""Constraints for pip: each library that pyproject.toml names for users, at the lowest version that it allows."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

OWN = "moe_analysis["  # one extra that brings another
EXTRAS = ("notebooks", "maps", "cluster")


def lowest(text: str) -> list[str]:
    """In: the text of a pyproject.toml. Out: such as "torch==2.8"."""
    project = tomllib.loads(text)["project"]
    named = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    return [re.sub(r"[>=]=", "==", requirement) for requirement in named if not requirement.startswith(OWN)]


if __name__ == "__main__":
    print("\n".join(lowest(Path(sys.argv[1]).read_text("utf-8"))))
