"""Help pages: what a command does, what it reads and writes, worked examples, and what its exit status means."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence

from .exit_codes import MEANING

PROGRAM = "python -m moe_analysis"


def page(text: str, examples: Sequence[str] = (), exits: Mapping[int, str] | None = None) -> str:
    """A help page in rich's markup.

    text: paragraphs, whose lines are joined, as a terminal breaks them at its own width; one that begins with [cyan]
    is a file or a command and keeps its lines. examples: what follows the program's name. exits: exit status -> what
    it means for this command; None leaves that part out.
    """
    paragraphs = [joined(part) for part in re.split(r"\n\s*\n", inspect.cleandoc(text))]
    if examples:
        lines = (f"  [cyan]{' '.join([PROGRAM, example]).strip()}[/]" for example in examples)
        paragraphs.append("\n".join(["[bold]Examples[/]", *lines]))
    if exits is not None:
        lines = (f"  [bold]{code:<3}[/] {meaning}" for code, meaning in exits.items())
        paragraphs.append("\n".join(["[bold]Exit status[/]", *lines]))
    first, *rest = paragraphs
    return "\n\n".join([first, *(f"[not dim]{part}[/]" for part in rest)])


def joined(paragraph: str) -> str:
    return paragraph if paragraph.startswith("[cyan]") else " ".join(paragraph.split())


def exits_of(*codes: int, **said: str) -> dict[int, str]:
    """The general meaning of some exit codes; said: `code_1="…"` gives another for this command."""
    own = {int(name.removeprefix("code_")): meaning for name, meaning in said.items()}
    return {code: own.get(code, MEANING[code]) for code in sorted({*codes, *own})}
