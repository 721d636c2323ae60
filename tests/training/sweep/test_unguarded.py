"""A script that trains whenever it is read is told what to write, in place of Python's page about its bootstrap."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import pytest

import moe_analysis as ma
from moe_analysis.training.sweep.guard import UnguardedScript

# an `if` that may be a guard, so that only the first process finds out
SCRIPT = """
from moe_analysis.presets import preset

if True:
    preset().train("LoRA-MoE", steps=1, datasets=["add_small"], progress=False)
"""
IMPORTS = "from moe_analysis.training.sweep.guard import refuse_unguarded as train\n"
UNGUARDED = [
    "train()",
    "def main():\n    train()\nmain()",
    "for seed in range(2):\n    train()",
    "if 1:\n    pass\ntrain()",
]
GUARDED = [
    'if __name__ == "__main__":\n    train()',
    'def main():\n    train()\nif __name__ == "__main__":\n    main()',
    'for seed in range(2):\n    if __name__ == "__main__":\n        train()',
    'if __name__ != "__main__":\n    raise SystemExit\ntrain()',
    "from multiprocessing import parent_process\nif parent_process():\n    raise SystemExit\ntrain()",
]


@pytest.mark.parametrize("text", UNGUARDED)
def test_a_script_that_is_seen_to_have_no_guard_is_refused_at_once(text, tmp_path):
    (script := tmp_path / "script.py").write_text(IMPORTS + text)
    with pytest.raises(UnguardedScript, match='put the script\'s code under\n    if __name__ == "__main__":'):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("text", GUARDED)
def test_a_script_with_a_guard_is_not_refused(text, tmp_path):
    (script := tmp_path / "script.py").write_text(IMPORTS + text)
    runpy.run_path(str(script), run_name="__main__")


def test_a_sweep_refuses_before_it_reads_its_data_and_reads_finished_runs_anywhere(config, tmp_path, monkeypatch):
    made = ma.train(config(steps=1), tmp_path)
    monkeypatch.setattr(
        "moe_analysis.training.sweep.running.read_once", lambda configs: pytest.fail("it read its data")
    )
    text = "from moe_analysis.training.sweep.running import sweep\ndone = sweep(CONFIGS, OUT, workers=1)"
    (script := tmp_path / "script.py").write_text(text)
    with pytest.raises(UnguardedScript):
        runpy.run_path(str(script), {"CONFIGS": [config(steps=2)], "OUT": tmp_path}, "__main__")
    known = runpy.run_path(str(script), {"CONFIGS": [config(steps=1)], "OUT": tmp_path}, "__main__")
    assert [run.id for run in known["done"].runs] == [made.id]


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path):
    (script := tmp_path / "script.py").write_text(SCRIPT)
    own = {"MOE_ANALYSIS_PRESET": "tiny", "MOE_ANALYSIS_RUNS": str(tmp_path / "runs"), "MOE_ANALYSIS_WORKERS": "1"}
    done = subprocess.run([sys.executable, script], env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith('put the script\'s code under\n    if __name__ == "__main__":')
    assert done.stderr.count("Traceback") == 1 and "bootstrapping" not in done.stderr
    assert not list(tmp_path.glob("runs/*/failure.txt"))  # no run is to blame
