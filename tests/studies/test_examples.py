"""Every example in a docstring of the studies runs and prints what it says."""

from __future__ import annotations

import ast
import doctest
from pathlib import Path

import pytest

import moe_analysis
from tests.docs.harness import PublicName, docstring, documented, failures, names_used
from tests.docs.prepared import PREPARED

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


def test_every_prepared_name_is_used() -> None:
    examples = [*documented(), *shown()]
    tests = [doctest.DocTestParser().get_doctest(docstring(one), {}, one.path, None, None) for one in examples]
    used = {name for test in tests for name in names_used(test)}
    used |= {name for make in PREPARED.values() for name in getattr(make, "__wrapped__", make).__code__.co_names}
    assert PREPARED.keys() - used == set()
