"""The program around the commands: its name for shells, its errors, its interruptions, its exit status."""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..figures import environment
from .terminal import note

# what the exit status says to a script; every command keeps to it
FINE = 0
FAILED = 1
BAD = 2
INTERRUPTED = 130
TERMINATED = 143

MEANING = {
    FINE: "all went well",
    FAILED: "the command finished, but a claim does not hold or a run failed",
    BAD: "bad input or an error; nothing more was done",
    INTERRUPTED: "stopped by Ctrl-C; finished work is kept",
    TERMINATED: "stopped by SIGTERM, in the same way",
}
PACKAGE = Path(__file__).resolve().parents[1]
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FAILING_LINE = re.compile(r"^-+> *\d+ +(\S.*?) *$", re.MULTILINE)  # IPython's arrow, in the cell's own frame first
TRACEBACK = "Traceback (most recent call last)"
SCRIPT = "moe-analysis"
COMPLETE_VARIABLE = "_MOE_ANALYSIS_COMPLETE"
DEBUG_VARIABLE = "MOE_ANALYSIS_DEBUG"
WORDS = "moe_analysis.words"
USUAL_WORDS = {"ls": "list", "rm": "delete", "remove": "delete", "diff": "compare", "info": "show", "view": "show"}


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
        last = lines[-1].strip()
        if re.fullmatch(r"[\w.]+:?", last) and (failing := re.search(FAILING_LINE, text)):  # as of a bare assert
            last = f"{last.removesuffix(':')} at {failing[1]!r}"
        return f"{lines[0]} {last}\n{debug_command} shows the cell and its traceback"
    return text


def full(error: BaseException) -> str:
    """The traceback, with the errors that led to this one."""
    return "".join(traceback.format_exception(error)).rstrip()


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what runs just as Ctrl-C does."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """While the block runs, SIGTERM raises `Terminated`; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def kept(what: str | Callable[[], str]) -> Iterator[None]:
    """Where the block is interrupted, the program says `what` is kept and that the same command resumes."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(what if isinstance(what, str) else what())
        raise


def status_of(stop: KeyboardInterrupt) -> int:
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def told(stop: KeyboardInterrupt, command: str) -> str:
    """What a person should know after an interruption; command: the line that was typed."""
    how = "terminated" if isinstance(stop, Terminated) else "interrupted"
    if saved := getattr(stop, "__notes__", []):
        return f"{how}: {' '.join(saved)}\nto resume: {command}"
    return f"{how}; nothing was changed"


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """While the block runs, only warnings of this package are shown, each once, and of libraries' logs only errors."""

    said = set[str]()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__module__.partition(".")[0] == PACKAGE.name and str(message) not in said:
            said.add(str(message))
            note(f"warning: {message}", style="yellow")

    level = logging.root.level
    verbosity = os.environ.get("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings(), environment({"TRANSFORMERS_VERBOSITY": verbosity}):
        warnings.showwarning = show
        logging.root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.root.setLevel(level)


class PlainFlags:
    """Help text that names no type for an option that is only set or not."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


class Command(PlainFlags, TyperCommand):
    """A command that says which option a stray word may belong to."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # else typer refuses them without a hint
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            options = {name for param in self.params for name in param.opts}
            meant = {f"--{extra[0]}": f"--{extra[0]}", "--only": f"--only {shlex.quote(extra[0])}"}
            hints = [f" Did you mean {words}?" for option, words in meant.items() if option in options]
            ctx.fail(f"Unexpected argument {extra[0]!r}.{''.join(hints[:1])}")
        return extra


class Group(PlainFlags, TyperGroup):
    """A group that knows the words of other programs for its commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:  # typer's own suggestions are words that are spelled alike
            if "Did you mean" not in error.message:
                error.message += self.hint(ctx.command_path, args[0])
            raise

    def hint(self, path: str, word: str) -> str:
        usual = USUAL_WORDS.get(word, word)
        if usual == "help":
            return f" Use `{path} --help`."
        if usual == "list":
            return f" `{path}` alone lists them." if self.invoke_without_command else ""
        if usual in self.commands:
            return f" Did you mean {usual!r}?"
        return f" Did you mean `{path} show {shlex.quote(word)}`?" if "show" in self.commands else ""


class Program(Group):
    """A group of commands that reports failures in one message, however the program was called."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        *rest: Any,
        **named: Any,
    ) -> Any:
        words = sys.argv[1:] if args is None else args
        if any(word.startswith(("--install-completion", "--show-completion")) for word in words):
            prog_name = SCRIPT  # a shell completes the words after one command, which `python -m` is not
        return super().main(args, prog_name, complete_var or COMPLETE_VARIABLE, *rest, **named)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what it raises becomes a message on stderr and an exit status."""
        debug = bool(ctx.params.get("debug"))
        with sigterm_raises(), nullcontext() if debug else libraries_quiet():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                if debug:
                    note(full(stop))
                if os.environ.get("RANK", "0") == "0":  # of several processes of torchrun's the first speaks
                    note(told(stop, typed(ctx)), style="yellow")
                raise typer.Exit(status_of(stop)) from stop
            except Exception as error:
                if passes(error):
                    raise
                note(
                    full(error) if debug else f"error: {message(error, typed(ctx, '--debug'))}",
                    style="" if debug else "red",
                )
                raise typer.Exit(BAD) from error


def passes(error: Exception) -> bool:
    """Whether typer itself deals with it: an exit, a wrong option, a reader of the output that went away."""
    own = (typer.Exit, typer.Abort, typer.TyperException)
    return isinstance(error, own) or (isinstance(error, OSError) and error.errno == errno.EPIPE)


def typed(ctx: Any, *options: str) -> str:
    """The command line as it was typed, with options before the command."""
    return " ".join([ctx.command_path, shlex.join([*options, *ctx.meta.get(WORDS, [])])]).rstrip()
