"""Errors and warnings as a person sees them."""

from __future__ import annotations

import json
import shlex
import warnings
from pathlib import Path

import nbformat
import pytest

from moe_analysis.commands import program
from moe_analysis.kernels import NotebookError, execute
from moe_analysis.tasks.rows import SuiteWarning
from tests.commands.calls import call


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, warning: Warning | None = None) -> None:
    """Let `gallery` warn and raise."""

    def build(*_: object) -> Path:
        if warning is not None:
            warnings.warn(warning, stacklevel=1)
            warnings.warn_explicit(warning, None, "elsewhere.py", 1)
        raise error

    monkeypatch.setattr("moe_analysis.gallery.build", build)


def test_an_unexpected_error_is_its_type_and_how_to_see_more(monkeypatch) -> None:
    failing(monkeypatch, KeyError("lost [bold]key"))
    result = call("gallery")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[0] == "error: unexpected KeyError: 'lost [bold]key'"
    assert "--debug gallery shows where it comes from" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("asked", ["option", "variable"])
def test_debug_shows_the_traceback(monkeypatch, asked: str) -> None:
    failing(monkeypatch, KeyError("lost"))
    result = call("--debug", "gallery") if asked == "option" else call("gallery", MOE_ANALYSIS_DEBUG="1")
    assert result.exit_code == 2 and "Traceback" in result.stderr and "in build" in result.stderr


def test_a_librarys_value_error_is_unexpected_and_one_of_ours_is_a_message(monkeypatch) -> None:
    try:
        json.loads("{")
    except ValueError as error:
        assert program.message(error, "x --debug").startswith("unexpected JSONDecodeError: Expecting property name")
    try:
        failures_of_ours()
    except ValueError as error:
        assert program.message(error, "x --debug").startswith("only = nothing is unknown")
    assert program.message(FileNotFoundError(2, "No such file", "grid"), "") == "[Errno 2] No such file: 'grid'"


def failures_of_ours() -> None:
    from moe_analysis.figures import choose

    choose(["nothing"])


def test_a_notebooks_error_is_its_place_and_its_last_line() -> None:
    text = (
        "03.ipynb stopped at cell 4 of 9:\nAn error occurred\n-----\nx / 0\n-----\n\n"
        "\x1b[31mZeroDivisionError\x1b[0m: 0"
    )
    told = program.message(NotebookError(text), "figures --debug")
    assert told.splitlines() == [
        "03.ipynb stopped at cell 4 of 9: ZeroDivisionError: 0",
        "figures --debug shows the cell and its traceback",
    ]


def test_a_notebooks_error_without_a_message_is_the_line_of_the_cell(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell("def one():\n    assert x == 2\n\none()")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "bare.ipynb")
    with pytest.raises(NotebookError) as raised:
        execute(tmp_path / "bare.ipynb")
    told = program.message(raised.value, "figures --debug").splitlines()[0]
    assert told == "bare.ipynb stopped at cell 2 of 2: AssertionError at 'one()'"


def test_warnings_of_libraries_are_quiet_and_ours_are_one_line(monkeypatch) -> None:
    failing(monkeypatch, ValueError("x"), SuiteWarning("two rows alike"))
    told = call("gallery").stderr
    assert "warning: two rows alike\n" in told and ".py" not in told
    assert told.count("two rows alike") == 1
    failing(monkeypatch, ValueError("x"), FutureWarning("will change"))
    assert "will change" not in call("gallery").stderr


def test_a_wrong_option_is_typers_message_with_status_2() -> None:
    result = call("sweep", "grid.yaml", "--wrokers", "2")
    assert result.exit_code == 2 and "--workers" in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("runs list", "`root runs` alone lists them."),
        ("results ls", "`root results` alone lists them."),
        ("runs rm one", "Did you mean 'delete'?"),
        ("runs sho one", "Did you mean 'show'?"),
        ("runs help", "Use `root runs --help`."),
        ("results compact", "Did you mean `root results show compact`?"),
        ("figures list", "Did you mean --list?"),
        ("figures trex_fig2", "Did you mean --only trex_fig2?"),
        ("verify 'smore_*'", "Did you mean --only 'smore_*'?"),
        ("gallery open", "Unexpected argument 'open'."),
    ],
)
def test_a_word_of_other_programs_gets_a_hint(words: str, hint: str) -> None:
    done = call(*shlex.split(words), COLUMNS="200")
    assert done.exit_code == program.BAD and hint in " ".join(done.stderr.replace("│", " ").split())


def test_json_goes_alone_to_stdout(tmp_path: Path) -> None:
    listed = json.loads(call("figures", "--list", "--only", "trex_fig2", "--json").stdout)
    assert [one["notebook"] for one in listed] == ["02_router_trajectories"]
    page = call("gallery", "--folder", str(tmp_path), "--json")
    assert json.loads(page.stdout) == {"gallery": str(tmp_path / "index.html")} and page.stderr == ""
