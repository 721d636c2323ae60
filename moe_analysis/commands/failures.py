"""What an error looks like: one message that says what to do, and a traceback only where it was asked for."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TRACEBACK = "Traceback (most recent call last)"


def expected(error: BaseException) -> bool:
    """Whether the message was written for the user: an error of ours, or one of the disk or the network."""
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == PACKAGE.name:
        return True
    frames = traceback.extract_tb(error.__traceback__)
    raised_here = bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(PACKAGE)
    return raised_here and isinstance(error, (ValueError, RuntimeError))


def message(error: BaseException, debug_command: str) -> str:
    """The error in one message; debug_command: the line that shows the traceback."""
    text = ANSI.sub("", str(error))
    if not expected(error):
        return f"unexpected {type(error).__name__}: {text}\n{debug_command} shows where it comes from"
    if TRACEBACK in text or "\n---" in text:  # a notebook's, which holds the cell and all its frames
        lines = [line for line in text.splitlines() if line.strip()]
        return f"{lines[0]} {lines[-1]}\n{debug_command} shows the cell and its traceback"
    return text


def full(error: BaseException) -> str:
    """The traceback, with the errors that led to this one."""
    return "".join(traceback.format_exception(error)).rstrip()
