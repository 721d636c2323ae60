"""The plain Trainer over two processes: the balance loss counts once per sample there too."""

from __future__ import annotations

import json

from tests.training.test_distributed import TORCHRUN, launch

from .systems import OPTIONS


def test_two_processes_make_the_gradient_of_all_rows_by_hand(tmp_path):
    results = tmp_path / "results.json"
    done = launch(*TORCHRUN, "-m", "tests.peft_bridge.two_processes", str(results))
    assert done.returncode == 0, done.stdout
    found = json.loads(results.read_text())
    assert len(found) == 4 * len(OPTIONS)
    assert {name: error for name, error in found.items() if not error < 1e-5} == {}
