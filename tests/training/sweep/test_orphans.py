from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

CODE = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from moe_analysis.training.sweep.executors import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  a process that ended but was not waited for
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_ends_when_its_sweep_is_killed(tmp_path) -> None:
    script = tmp_path / "sweep.py"
    script.write_text(CODE)
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(driver.stdout.readline())
    assert alive(worker)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)
