"""Ctrl-C and SIGTERM on real processes: all of them end, and the program says how to resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

import moe_analysis as ma
from moe_analysis.commands.program import Terminated, kept, sigterm_raises, status_of, told
from tests.commands.calls import call, document

FIGURES = """
import sys
from pathlib import Path
from moe_analysis import figures
from moe_analysis.__main__ import main

figures.NOTEBOOKS = Path(sys.argv.pop(1))
figures.ITEMS = (figures.Item("slow", "", "", notebook="slow"),)
sys.argv[1:] = ["figures", "--preset", "tiny", *sys.argv[1:]]
main()
"""
CHILD = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
NOTE = "import os; open('{place}', 'w').write(str(os.getpid()) + ' ' + str(child.pid) + '\\n')"


def wait_for(ready: Callable[[], bool], patience: float = 90.0) -> None:
    end = time.monotonic() + patience
    while not ready():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def started(*command: str, **environment: str) -> subprocess.Popen[str]:
    """A process that hears SIGINT, as one does that a terminal started."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=hear,
    )


def hear() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupted_figure_ends_its_kernel_and_what_that_started(tmp_path: Path) -> None:
    place = tmp_path / "pids"
    cells = [CHILD, NOTE.format(place=place), "import time; time.sleep(600)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "slow.ipynb")
    program = started("-c", FIGURES, str(tmp_path), "--out", str(tmp_path / "out"), MOE_ANALYSIS_CACHE=str(tmp_path))
    wait_for(lambda: place.exists() and place.read_text().endswith("\n"))
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert program.returncode == 130 and out == ""
    assert "Traceback" not in err and "figures and runs are kept" in err and "to resume: " in err
    wait_for(lambda: not any(alive(int(pid)) for pid in place.read_text().split()), 10)


def test_a_training_is_watched_from_here_and_terminated_it_says_from_which_step_it_goes_on(config, out: Path) -> None:
    lasting = config(steps=100_000, save_every=1)
    out.mkdir()
    (out / "config.json").write_text(json.dumps(lasting.to_dict()))
    program = started("-m", "moe_analysis", "train", str(out / "config.json"), "--out", str(out), "--json")
    seen: dict = {}

    def watched() -> bool:
        assert program.poll() is None
        time.sleep(0.2)  # the program needs the processor more
        seen.update(next(iter(document(call("watch", "--out", str(out), "--json").stdout)), {}))
        return bool((seen.get("live") or {}).get("points"))

    wait_for(watched)
    assert seen["name"] == lasting.run_name and seen["state"] == "running" and seen["live"]["step"] >= 1
    assert seen["live"]["experts"] == 16 and ma.Run.load(out / lasting.run_name).status["state"] == "running"
    wait_for(lambda: any((out / lasting.run_name / "checkpoints").glob("*/complete")))
    program.send_signal(signal.SIGTERM)
    told_out, err = program.communicate(timeout=30)
    assert program.returncode == 143 and told_out == "" and "Traceback" not in err
    assert f"terminated: {lasting.run_name} resumes from step" in err and "of 100000." in err
    assert "to resume: python -m moe_analysis train " in err


def test_what_is_kept_is_told_with_the_command_that_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt) as stopped, kept("two are kept."), kept(lambda: "one is whole."):
        raise KeyboardInterrupt
    assert told(stopped.value, "x train c") == "interrupted: one is whole. two are kept.\nto resume: x train c"
    assert told(KeyboardInterrupt(), "x runs") == "interrupted; nothing was changed"
    assert (status_of(KeyboardInterrupt()), status_of(Terminated())) == (130, 143)


def test_sigterm_raises_inside_and_is_as_before_outside() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before
