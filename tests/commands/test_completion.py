"""Completions as the shells ask for them: by variables of the environment, answered on stdout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moe_analysis.commands import options
from moe_analysis.figures import ITEMS
from moe_analysis.presets import PRESETS
from moe_analysis.training.run_folder import COLUMNS, DAMAGED
from moe_analysis.training.sweep.executors import KINDS
from tests.commands.calls import call, process

NAMES = ("LoRA-embedded-s0-aa11", "LoRA-embedded-s1-bb22", "RSGD, k = 1-embedded-s0-cc33", ".deleted-LoRA-1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs of which only the name is looked at."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    return tmp_path


def bash(line: str, ask=call) -> list[str]:
    """What bash would offer for the last word of the line."""
    place = str(len(line.split(" ")) - 1)
    return ask(_MOE_ANALYSIS_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place).stdout.split()


def zsh(line: str, ask=call) -> str:
    return ask(_MOE_ANALYSIS_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line).stdout


def test_a_process_answers_either_shell_also_through_python_m() -> None:
    assert bash("moe-analysis figures --only trex_fig4", process) == ["trex_fig4", "trex_fig4_contents"]
    answer = zsh("moe-analysis ver", process)
    assert answer.startswith("""_arguments '*: :(("verify":"Check the papers''""") and answer.endswith("""))'\n""")


def test_bash_completes_commands_options_and_values() -> None:
    assert set(bash("moe-analysis ")) == {
        *("figures", "verify", "train", "sweep", "watch", "runs", "results", "gallery")
    }
    assert bash("moe-analysis sweep g.yaml --exec") == ["--executor"]
    assert bash("moe-analysis sweep g.yaml --executor ") == list(KINDS)
    assert bash("moe-analysis figures --preset ") == list(PRESETS)
    assert bash("moe-analysis runs --state f") == ["finished", "failed"]


def test_bash_and_zsh_complete_figures_and_notebooks() -> None:
    assert bash("moe-analysis figures --only trex_lem") == ["trex_lemma41", "trex_lemma41_trained"]
    assert bash("moe-analysis figures --only 03") == ["03_subspace_rank"]
    assert '"gr_fig1":"gR Fig. 1' in zsh("moe-analysis figures --only gr_fi")
    assert len(bash("moe-analysis figures --only ")) == len(ITEMS) + len({item.notebook for item in ITEMS})


def test_runs_of_the_folder_are_completed_and_those_that_need_quotes_by_their_hash(folder: Path) -> None:
    for where in (f"runs --out {folder} compare ", f"runs compare --out {folder} "):
        assert bash(f"moe-analysis {where}") == [*NAMES[:2], "cc33"]
    assert bash(f"moe-analysis runs show --out {folder} LoRA-embedded-s1") == [NAMES[1]]
    assert bash(f"moe-analysis runs delete --out {folder} {NAMES[0]} L") == [NAMES[1]], "a run that stands there"
    assert f'"cc33":"{NAMES[2]}"' in zsh(f"moe-analysis runs show --out {folder} ")
    assert bash("moe-analysis runs show --out /no/such/folder ") == []


def test_a_real_bash_completes_after_it_read_the_script(folder: Path) -> None:
    """A script that was asked for through `python -m`, for the program that a shell can complete."""
    if not (shell := shutil.which("bash")):
        pytest.skip("bash is not installed")
    program = folder / "moe-analysis"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moe_analysis "$@"\n')
    program.chmod(0o755)
    line = f"moe-analysis runs --out {folder} show LoRA-embedded-s0"
    script = f"""
        PATH="{folder}:$PATH"
        source <(moe-analysis --show-completion bash)
        COMP_WORDS=({line}); COMP_CWORD=5
        _moe_analysis_completion moe-analysis && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([shell, "--norc", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [NAMES[0]], done.stderr


def test_the_lists_that_are_written_twice_are_the_same() -> None:
    assert options.EXECUTORS == KINDS
    assert set(options.ORDERS) < set(COLUMNS) and DAMAGED in options.STATES
