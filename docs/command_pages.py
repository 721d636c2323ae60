"""The page of the command line, made from the commands' own help."""

from __future__ import annotations

from typing import Any


def command_page() -> str:
    """Markdown: every command with its help, its arguments and its options."""
    import typer.main

    from moe_analysis.__main__ import app

    group: Any = typer.main.get_command(app)
    parts = [
        "# Command line",
        plain(group.help),
        "Every command prints this text with `--help`. `moe-analysis` is short for `python -m moe_analysis`.",
        *commands(group, "python -m moe_analysis"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def commands(group: Any, call: str, level: int = 2) -> list[str]:
    parts = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        title = f"{call.rpartition(' ')[2]} {name}" if level > 2 else name
        parts += [f"{'#' * level} {title}", usage(command, call, name), plain(command.help), options(command)]
        if getattr(command, "commands", None):
            parts += commands(command, f"{call} {name}", level + 1)
    return parts


def usage(command: Any, call: str, name: str) -> str:
    arguments = [f"<{one.name}>" for one in command.params if one.param_type_name == "argument"]
    words = [call, name, *arguments, "[options]"]
    return f"```console\n$ {' '.join(words)}\n```"


def options(command: Any) -> str:
    rows = [
        f"| {names(one)} | {cell(one.help)} | {default(one)} |"
        for one in command.params
        if not getattr(one, "hidden", False) and one.name != "help"
    ]
    return "\n".join(["| option | meaning | default |", "|---|---|---|", *rows]) if rows else ""


def names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def default(parameter: Any) -> str:
    value = parameter.default
    shown = value is not None and not callable(value) and value != [] and value != () and "Sentinel" not in repr(value)
    return f"`{value}`" if shown and value is not False and str(value) else ""


def cell(text: str | None) -> str:
    return " ".join(plain(text).split()).replace("|", r"\|")


def plain(text: str | None) -> str:
    """Help in rich's markup as Markdown: one paragraph per block, and under a title in bold what is indented, as it is."""
    from rich.text import Text

    blocks = []
    for block in Text.from_markup((text or "").strip()).plain.split("\n\n"):
        title, *lines = block.splitlines() or [""]
        if lines and all(line.startswith("  ") for line in lines):
            inside = "\n".join(line[2:] for line in lines)
            blocks.append(f"**{title}**\n\n```text\n{inside}\n```")
        else:
            blocks.append(" ".join(block.split()).replace("<", r"\<"))
    return "\n\n".join(blocks)
