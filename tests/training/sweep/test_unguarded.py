"""A script that trains whenever it is read is told what to write, in place of Python's page about its bootstrap."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
from moe_analysis.presets import preset

preset().train("LoRA-MoE", steps=1, datasets=["add_small"], progress=False)
"""


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path):
    (script := tmp_path / "script.py").write_text(SCRIPT)
    own = {"MOE_ANALYSIS_PRESET": "tiny", "MOE_ANALYSIS_RUNS": str(tmp_path / "runs"), "MOE_ANALYSIS_WORKERS": "1"}
    done = subprocess.run([sys.executable, script], env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith('put the script\'s code under\n    if __name__ == "__main__":')
    assert done.stderr.count("Traceback") == 1 and "bootstrapping" not in done.stderr
    assert not list(tmp_path.glob("runs/*/failure.txt"))  # no run is to blame
