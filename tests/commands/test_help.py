"""The pages that teach, and that they come at once."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command

import moe_analysis as ma
from moe_analysis.__main__ import app
from moe_analysis.commands import sweep, train
from moe_analysis.commands.options import PROGRAM, page
from moe_analysis.commands.program import MEANING
from moe_analysis.training.sweep.grid import read_grid
from tests.commands.calls import process

HEAVY = ("torch", "transformers", "peft", "pandas", "matplotlib", "nbclient")
LOOK = f"""
import sys
sys.argv = ["moe_analysis", *sys.argv[1:]]
from moe_analysis.__main__ import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def commands() -> Iterator[tuple[str, object]]:
    """Every command by the words that call it, groups among them."""
    program = get_command(app)
    for name, command in program.commands.items():
        yield name, command
        for inner, below in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", below


COMMANDS = dict(commands())


@pytest.mark.parametrize("arguments", [("--help",), ("runs", "--help"), ("--version",), ("figures", "--list")])
def test_what_only_tells_something_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_a_program_that_ends_has_set_all_that_it_imported_aside_from_garbage_collection() -> None:
    code = f"import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); {LOOK.strip()}"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "True", done.stderr


def test_the_first_page_names_every_command_and_every_exit_status_and_fits_80_columns() -> None:
    printed = process("--help").stdout
    assert all(name in printed for name in COMMANDS if " " not in name)
    assert all(f"{code} " in printed and meaning in printed for code, meaning in MEANING.items())
    assert max(map(len, printed.splitlines())) <= 80


def test_the_first_files_that_pages_show_can_be_used(tmp_path: Path) -> None:
    shown = [" ".join(process(name, "--help").stdout.split()) for name in ("train", "sweep")]
    assert all(" ".join(file.split()) in page for file, page in zip((train.FIRST, sweep.FIRST), shown))
    config = ma.TrainConfig.from_dict(json.loads(train.FIRST))
    config.check()
    assert (config.system, config.steps) == ("trex", 50)
    (tmp_path / "grid.yaml").write_text(sweep.FIRST)
    assert {(one.lr, one.adapter.r, one.seed) for one in read_grid(tmp_path / "grid.yaml").configs} == {
        *itertools.product((0.001, 0.005), (2, 4), (0, 1))
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_examples_that_are_calls_of_the_command_and_its_exit_status(name: str) -> None:
    lines = COMMANDS[name].help.splitlines()
    examples = [line for line in lines if PROGRAM in line and "torchrun" not in line]
    assert examples and all(f"{PROGRAM} {name.partition(' ')[0]}" in line for line in examples)
    assert all(len(line) - len("[cyan][/]") <= 78 for line in examples), "a terminal would break an example"
    assert any("Exit status" in line for line in lines) and any(line.startswith("  [bold]0 ") for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_and_says_what_it_takes(name: str) -> None:
    from typer._click import Context

    command = COMMANDS[name]
    for option in command.get_params(Context(command)):
        assert option.help, f"{name} {option.name}"
        assert option.metavar is not None, f"{name} {option.name}"


def test_variables_of_the_environment_stand_beside_the_options_they_replace() -> None:
    found = {option.envvar for command in COMMANDS.values() for option in command.params if option.envvar}
    assert found == {f"MOE_ANALYSIS_{name}" for name in ("PRESET", "SEEDS", "SUITE", "BACKBONE", "RUNS", "FIGURES")}
    assert "MOE_ANALYSIS_RUNS" in process("runs", "--help").stdout


def test_a_paragraph_is_broken_by_the_terminal_and_not_by_its_source() -> None:
    text = page("One\n  two.\n\n  Three\n  four.", ["verify"], {0: "fine"})
    assert text.split("\n\n")[:2] == ["One two.", "[not dim]Three four.[/]"]


def test_the_version_is_the_packages() -> None:
    assert process("--version").stdout == f"moe_analysis {version('moe_analysis')}\n"
