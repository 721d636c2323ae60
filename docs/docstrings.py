"""Docstrings on their way to the manual: names of ours become links, and examples are told from prose.

This is an extension of griffe, which reads the sources for mkdocstrings and parses the sections (Args, Raises, …).
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from griffe import Docstring, Extension, Object

sys.path.insert(0, str(Path(__file__).parent))  # what stands beside this file, which is no package

from links import Links, escape
from public_names import public_names


class Manual(Extension):
    """Rewrites every docstring of the package, once all of it is read."""

    def __init__(self) -> None:
        self.links = Links(public_names())
        self.done: set[int] = set()

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring and not obj.is_alias and id(obj.docstring) not in self.done:
            self.done.add(id(obj.docstring))
            text = with_links(obj.docstring.value, self.links, obj.module.path, obj.name)
            obj.docstring = Docstring(text, lineno=obj.docstring.lineno, parent=obj)


def with_links(text: str, links: Links, module: str, own: str) -> str:
    """A docstring with links in its prose, and every example in a section that the parser shows as Python.

    An example is a paragraph that begins with `>>>`. Its section is "Examples:": to griffe "Example:" is a remark.
    """
    paragraphs, in_examples = [], False
    for paragraph in re.split(r"\n\s*\n", text):
        example = re.sub(r"\AExamples?:\n", "", paragraph)
        if example.lstrip().startswith(">>>"):
            title = "" if in_examples else "Examples:\n"
            paragraphs.append(title + textwrap.indent(textwrap.dedent(example), "    "))
            in_examples = True
        else:
            paragraphs.append(links.add(escape(paragraph), module, own))
            in_examples = False
    return "\n\n".join(paragraphs)
