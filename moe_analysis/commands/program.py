"""The program around the commands: its name for shells, its errors, its interruptions, its exit status."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import failures
from .exit_codes import BAD
from .interrupts import sigterm_raises, status_of, told
from .quiet import libraries_quiet
from .terminal import note

SCRIPT = "moe-analysis"
COMPLETE_VARIABLE = "_MOE_ANALYSIS_COMPLETE"
DEBUG_VARIABLE = "MOE_ANALYSIS_DEBUG"
WORDS = "moe_analysis.words"


class Command(TyperCommand):
    """A command whose help says no type of an option that is only set or not."""

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands with such a help."""

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))


def without_flag_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class Program(Group):
    """A group of commands whose failures are told in one message, however the program was called."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = sys.argv[1:] if args is None else args
        if any(word.startswith(("--install-completion", "--show-completion")) for word in words):
            prog_name = SCRIPT  # a shell completes the words after one command, which `python -m` is not
        return super().main(
            args, prog_name, complete_var or COMPLETE_VARIABLE, standalone_mode, windows_expand_args, **extra
        )

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
                    note(failures.full(stop))
                if os.environ.get("RANK", "0") == "0":  # of several processes of torchrun's the first speaks
                    note(told(stop, typed(ctx)), style="yellow")
                raise typer.Exit(status_of(stop)) from stop
            except Exception as error:
                if passes(error):
                    raise
                note(
                    failures.full(error) if debug else f"error: {failures.message(error, typed(ctx, '--debug'))}",
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
