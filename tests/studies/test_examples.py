"""Every example in a docstring of the studies runs and prints what it says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import moe_analysis
from tests.docs.harness import PublicName, failures

ROOT = Path(moe_analysis.__file__).parent
KINDS = {ast.FunctionDef: "function", ast.ClassDef: "class"}


def shown() -> list[PublicName]:
    """Functions and classes of the studies whose docstring has an example."""
    found = []
    for path in sorted((ROOT / "studies").rglob("*.py")):
        module = ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts))
        for node in ast.parse(path.read_text("utf-8")).body:
            if type(node) in KINDS and ">>>" in (ast.get_docstring(node) or ""):
                found.append(PublicName(module, node.name, module, KINDS[type(node)]))
    return found


@pytest.mark.parametrize("one", shown(), ids=lambda one: f"{one.module.partition('.studies.')[2]}.{one.name}")
def test_the_example_does_what_it_says(one) -> None:
    assert failures(one) == ""
