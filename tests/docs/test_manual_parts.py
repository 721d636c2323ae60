"""The parts that make the manual: which names are public, and how a docstring becomes Markdown."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

from docstrings import with_links
from generated import assigned, prepared_names, shown
from links import Links, escape
from public_names import PublicName, definition, page_of, public_names, taken_names, top_names

import moe_analysis as ma

from ..new_process import printed
from .prepared import PREPARED

PAGES = Path(__file__).parents[2] / "docs" / "pages"


@pytest.mark.parametrize(
    "code, names",
    [
        ("import moe_analysis as ma\nma.theory.verify()", {("moe_analysis.theory", "verify")}),
        (
            "from moe_analysis.drawing import save\nfrom moe_analysis.studies import trees as of\nof.measure(1)",
            {("moe_analysis.drawing", "save"), ("moe_analysis.studies.trees", "measure")},
        ),
        ("from moe_analysis.presets import preset\npreset().train('a')", {("moe_analysis.presets", "preset")}),
        ("import numpy as np\nnp.zeros(1)", set()),
    ],
)
def test_what_a_notebook_takes_is_public(code, names) -> None:
    assert names <= set(taken_names(code)) and bool(names) == bool(set(taken_names(code)))


def test_every_name_at_the_top_is_documented() -> None:
    assert set(top_names()) == set(ma.SOURCES)


def test_every_public_name_can_be_imported_from_where_the_manual_says() -> None:
    for one in public_names():
        assert one.load() is not None and one.page == page_of(one.module)
    assert len({one.path for one in public_names()}) == len(public_names())


def test_a_definition_is_followed_through_imports() -> None:
    assert definition("moe_analysis.tasks", "baselines")[0] == "moe_analysis.tasks.baselines"
    assert definition("moe_analysis.adapters", "TRex")[0] == "moe_analysis.adapters.trex"
    assert definition("moe_analysis.adapters", "no_such_name") is None


def test_examples_become_sections_that_the_parser_knows() -> None:
    text = "A [thing].\n\n    >>> f([1])\n    2\n\n    >>> g()\n    3\n\nRaises:\n    ValueError: for `once`."
    expected = "A \\[thing].\n\nExamples:\n    >>> f([1])\n    2\n\n    >>> g()\n    3\n\nRaises:\n    ValueError: for "
    links = Links([PublicName("p", "once", "p.c", "function")])
    assert with_links(text, links, "p.z", "f") == expected + "[`once`][p.once]."
    assert with_links("Example:\n    >>> f()\n    2", links, "p.z", "f") == "Examples:\n    >>> f()\n    2"


def test_marks_that_are_no_markdown_are_kept() -> None:
    assert escape("S'MoRE* and A[l] <run>, not `a*b[0]`") == r"S'MoRE\* and A\[l] \<run>, not `a*b[0]`"


def test_a_mention_becomes_a_link_where_it_can_mean_one_name_only() -> None:
    names = [
        PublicName("p.a", "twice", "p.a", "function"),
        PublicName("p.b", "twice", "p.b", "function"),
        PublicName("p", "once", "p.c", "function"),
    ]
    links = Links(names)
    assert links.add("`once` and `twice`", "p.z") == "[`once`][p.once] and `twice`"
    assert links.add("`twice`", "p.b") == "[`twice`][p.b.twice]"
    assert links.add("`a.twice`", "p.z") == "[`a.twice`][p.a.twice]"
    assert links.add("`once`", "p.c", "once") == "`once`"


def test_the_manual_lists_every_prepared_name_with_what_it_is() -> None:
    found = {name: (about, body) for name, about, body in prepared_names()}
    assert found.keys() == PREPARED.keys()
    assert all(about and f"{name} = " in body for name, (about, body) in found.items())


def test_a_statement_that_returns_gives_the_name() -> None:
    import ast

    assert assigned("runs", ast.parse("def f(): return 1 + 1").body[0].body[0]) == "runs = 1 + 1"


def test_a_long_constant_is_cut() -> None:
    one = next(one for one in public_names() if one.path == "moe_analysis.optim.OPTIMIZERS")
    assert shown(one) == "(*TORCH, *RIEMANNIAN)" and shown(one, 5).endswith(" …")


def test_the_adapter_of_the_page_is_twenty_lines_and_works(tmp_path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / "adapters.md").read_text("utf-8"), flags=re.DOTALL)
    (tmp_path / "gated_lora.py").write_text(blocks[0])
    use = blocks[1].replace("ma.train(", "dict(config=").replace("steps=20", "steps=2")  # a run takes its time
    check = "model(**tokenizer(['two and two'], return_tensors='pt')).logits.sum().backward(); run['config'].check()"
    script = f"{use}\n{check}\nprint(type(run['config'].adapter).__name__)"
    assert printed(script, folder=tmp_path) == ["GatedLoraConfig\n"]
