"""What sweeps start from: a machine without a queue of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Slurm is installed, the tests would wait in its queue."""
    import submitit

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda _: -1))
