"""Every public name has an example that a reader learns from, and it runs: here all but those of studies."""

from __future__ import annotations

import ast
import doctest
import re

import pytest

from .docs.harness import definition, docstring, documented, failures, names_used, part_of

ELSEWHERE = ("studies",)  # in tests/studies/test_examples.py, for there are many
EXAMPLES = documented()
SKIPPED: dict[str, int] = {}  # path -> examples that cannot run here


@pytest.mark.parametrize("one", [one for one in EXAMPLES if part_of(one) not in ELSEWHERE], ids=lambda one: one.path)
def test_the_example_does_what_it_says(one) -> None:
    assert failures(one) == ""


def test_every_public_name_has_an_example() -> None:
    parser = doctest.DocTestParser()
    shown = {one.path: parser.get_examples(docstring(one)) for one in EXAMPLES}
    assert [path for path, found in shown.items() if not any(one.want or one.exc_msg for one in found)] == []


def test_a_docstring_tells_the_errors_that_its_function_raises_itself() -> None:
    silent = {}
    for one in documented():
        node = definition(one.home, one.name)[1]
        begin = [item for item in node.body if getattr(item, "name", "") in ("__init__", "__post_init__")]
        raised = {name for part in (begin if isinstance(node, ast.ClassDef) else [node]) for name in errors_in(part)}
        told = " ".join([docstring(one).split(">>>")[0], *(ast.get_docstring(part) or "" for part in begin)])
        if missing := {name for name in raised if not re.search(rf"\b{name}\b", told)}:
            silent[one.path] = missing
    assert silent == {}


def errors_in(node: ast.AST) -> set[str]:
    """Names of the errors that a function raises by their class, `raise SomeError(...)`."""
    calls = [found.exc for found in ast.walk(node) if isinstance(found, ast.Raise) and isinstance(found.exc, ast.Call)]
    return {ast.unparse(call.func).split(".")[0] for call in calls}


def test_no_example_is_skipped_but_those_that_are_named() -> None:
    skipped = {one.path: docstring(one).count("+SKIP") for one in documented() if "+SKIP" in docstring(one)}
    assert skipped == SKIPPED


@pytest.mark.parametrize(
    "source, names",
    [
        ("frame = load(folder)\nframe.shape", {"load", "folder"}),
        ("[one for one in runs]\nfor row in rows:\n    print(row)", {"runs", "rows"}),
        ("from a import b\nb(c)", {"c"}),
        ("def f(): ...\nf(x)\nx = 1", {"x"}),
    ],
)
def test_the_names_of_an_example_are_those_that_it_does_not_define(source, names) -> None:
    lines = [line if line.startswith("    ") else f">>> {line}" for line in source.splitlines()]
    text = "\n".join(line.replace("    ", "...     ", 1) if line.startswith("    ") else line for line in lines)
    assert names_used(doctest.DocTestParser().get_doctest(text, {}, "example", None, None)) == names


def test_an_example_that_is_wrong_is_told(monkeypatch) -> None:
    one = next(one for one in documented() if one.path == "moe_analysis.optim.FactorPair")
    right = one.load().__doc__
    monkeypatch.setattr(one.load(), "__doc__", right.replace("(2, 16, 24)", "(2, 16, 25)"))
    assert "Expected:\n    (2, 16, 25)\nGot:\n    (2, 16, 24)" in failures(one)
