"""Docstrings as the manual shows them: examples in frames, parameters in type, names of ours as links.

The docstrings themselves stay plain text, which a terminal shows as well. This is an extension of griffe, which reads
the sources for mkdocstrings.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from griffe import Class, Docstring, Extension, Function, Object

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
            obj.docstring = Docstring(as_markdown(obj, self.links), lineno=obj.docstring.lineno, parent=obj)


def as_markdown(obj: Object, links: Links) -> str:
    """The docstring of an object as Markdown."""
    assert obj.docstring is not None
    parts = []
    for is_example, text in split_examples(obj.docstring.value):
        if is_example:
            parts.append(f"```pycon\n{text}\n```")
        else:
            parts.append(links.add(name_parameters(escape(text), parameters_of(obj)), obj.module.path, obj.name))
    return "\n\n".join(parts)


def split_examples(text: str) -> list[tuple[bool, str]]:
    """(is an example, text) of the paragraphs; an example is a paragraph that begins with >>>, its indent taken off."""
    found: list[tuple[bool, str]] = []
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n")):
        is_example = paragraph.lstrip().startswith(">>>")
        text = textwrap.dedent(paragraph) if is_example else paragraph
        if found and is_example and found[-1][0]:
            found[-1] = (True, f"{found[-1][1]}\n\n{text}")
        else:
            found.append((is_example, text))
    return found


def parameters_of(obj: Object) -> set[str]:
    """Names that a docstring explains as "name: …": arguments of a function, arguments and fields of a class."""
    if isinstance(obj, Function):
        return {parameter.name.lstrip("*") for parameter in obj.parameters}
    if isinstance(obj, Class):
        own = {parameter.name for parameter in obj.parameters}
        return own | {name for base in [obj, *obj.mro()] for name in base.attributes}
    return set()


def name_parameters(text: str, parameters: set[str]) -> str:
    """Parameters in type where a sentence explains them: "x, y: two numbers." -> "`x`, `y`: two numbers."."""

    def typed(match: re.Match[str]) -> str:
        names = match["names"].split(", ")
        return f"{match['before']}{', '.join(f'`{name}`' for name in names)}:" if set(names) <= parameters else match[0]

    return re.sub(r"(?P<before>^|\n|[.;] )(?P<names>\w+(?:, \w+)*):(?=\s)", typed, text)
