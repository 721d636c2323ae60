"""Scripts that start processes: each process reads the script again, so its code must stand under a guard."""

from __future__ import annotations

import ast
import sys
from multiprocessing import current_process
from pathlib import Path
from types import FrameType

UNGUARDED = 79  # exit code of a process that was to start processes while it only read the script
GUARD = (
    "training and testing start processes, each of which reads this script again and would start its own; put the "
    'script\'s code under\n    if __name__ == "__main__":'
)


class UnguardedScript(RuntimeError):
    """A script that starts processes whenever it is read, as each of these processes does."""


def refuse_unguarded() -> None:
    """Raise UnguardedScript if the script is seen to have no guard, and end a process that only reads it.

    Call it before work that ends in processes. A guard that cannot be judged from the text counts as one: then the
    first process ends with `UNGUARDED`.
    """
    end_when_read_again()
    if seen_without_guard():
        raise UnguardedScript(GUARD)


def end_when_read_again() -> None:
    """End a process of a pool that still reads the script and would start its own; its parent process reports why."""
    if getattr(current_process(), "_inheriting", False):
        sys.exit(UNGUARDED)


def seen_without_guard() -> bool:
    """Whether the line of the script that runs now would run again in every process that is started.

    False in notebooks and for `python -m package`, which no process reads again.
    """
    main = sys.modules["__main__"]
    path, name = getattr(main, "__file__", None), getattr(getattr(main, "__spec__", None), "name", "")
    if path is None or name.rpartition(".")[2] == "__main__":
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is vars(main) and frame.f_code.co_name == "<module>":
            break
        frame = frame.f_back
    if frame is None or Path(frame.f_code.co_filename).resolve() != Path(path).resolve():
        return False
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return not guarded(tree, frame.f_lineno)


def guarded(tree: ast.Module, line: int) -> bool:
    """Whether the line may stand under a guard: inside an `if`, or after one at the top that asks for the process.

    >>> guarded(ast.parse("if __name__ == '__main__':\\n    train()"), 2), guarded(ast.parse("train()"), 1)
    (True, False)
    """
    inside = any(
        isinstance(node, ast.If | ast.Match) and node.lineno <= line <= (node.end_lineno or line)
        for node in ast.walk(tree)
    )
    before = [node for node in tree.body if isinstance(node, ast.If) and node.lineno < line]
    return inside or any("__name__" in (asked := ast.dump(node.test)) or "process" in asked for node in before)
