"""How the examples of the docstrings are run: names made ready, output compared, what was seen told in a failure."""

from __future__ import annotations

import ast
import builtins
import doctest
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import moe_analysis as ma

from .prepared import PREPARED

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

from public_names import PublicName, definition, public_names

ALWAYS = {"ma": ma, "np": np, "pd": pd, "torch": torch}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
WIDTH = ("display.width", 100, "display.max_columns", 20, "display.max_rows", 60)  # as in the docstrings


def documented(*parts: str) -> list[PublicName]:
    """The public functions and classes of some parts of the package, of all without any."""
    return [one for one in public_names() if one.kind != "constant" and (not parts or part_of(one) in parts)]


def part_of(one: PublicName) -> str:
    return one.home.split(".")[1]


def examples_of(one: PublicName) -> list[doctest.DocTest]:
    """The examples of a name and of its methods, with the names they use made ready."""
    subject, module = one.load(), sys.modules[one.home]
    found = doctest.DocTestFinder(exclude_empty=True).find(subject, one.name, module, globs={**vars(module), **ALWAYS})
    for test in found:
        test.globs.update({name: PREPARED[name]() for name in names_used(test) - test.globs.keys() if name in PREPARED})
    return [test for test in found if test.examples]


def names_used(test: doctest.DocTest) -> set[str]:
    """Names that the examples read and that neither Python nor a line of theirs gives them."""
    read, given = set(), set(dir(builtins))
    for example in test.examples:
        nodes = list(ast.walk(ast.parse(example.source)))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        inside = {
            name.id
            for node in nodes
            if isinstance(node, ast.comprehension | ast.For)
            for name in ast.walk(node.target)
            if isinstance(name, ast.Name)
        }
        read |= {name.id for name in names if isinstance(name.ctx, ast.Load)} - given - inside
        given |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        given |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
        given |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return read


def failures(one: PublicName) -> str:
    """What goes wrong in the examples of a name, as doctest tells it; empty when all is as written."""
    told = io.StringIO()
    with pd.option_context(*WIDTH), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in examples_of(one):
            torch.manual_seed(0)
            np.random.seed(0)
            doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(test, out=told.write)
    return told.getvalue()


def docstring(one: PublicName) -> str:
    """As the source has it, without importing anything."""
    found: Any = definition(one.home, one.name)
    return ast.get_docstring(found[1]) or ""
