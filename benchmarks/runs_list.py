"""How long `moe-analysis runs` takes, from the start of Python to the last line, for a folder of many runs.

    python benchmarks/runs_list.py [--json] [--runs 150] [--rounds 5]

The runs are copies of one of a few steps, each with a seed of its own; their records are not copied, as the list does
not read them. Reported are the medians of seconds on the clock and of seconds of a processor, in a process of its own
each time, and which of torch, transformers and peft such a process imported.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import moe_analysis as ma

HEAVY = ("torch", "transformers", "peft")
PROGRAM = f"""
import sys
from moe_analysis.__main__ import app
sys.argv[0] = "moe_analysis"
try:
    app()
finally:
    print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""


def copies(folder: Path, count: int) -> None:
    """Fill a folder with runs that differ in their seeds."""
    adapter = ma.MoeLoraConfig(num_experts=4, r=2, target_modules=["q_proj"])
    config = ma.TrainConfig(adapter=adapter, steps=4, batch_size=4, rows_per_dataset=2, eval_rows=1, embedder="tfidf")
    first = ma.train(config, folder / "first").path
    for seed in range(count):
        copy = folder / "runs" / first.name.replace("-s0-", f"-s{seed}-")
        shutil.copytree(first, copy, ignore=shutil.ignore_patterns("*.zarr"))
        values = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**values, "seed": seed}))


def timed(folder: Path) -> tuple[float, float, list[str]]:
    """(seconds, seconds of a processor, heavy packages that were imported) of one listing."""
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", PROGRAM, "runs", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return seconds, processor, done.stderr.splitlines()[-1].split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copies(Path(folder), asked.runs)
        rounds = [timed(Path(folder) / "runs") for _ in range(asked.rounds)]
    result = {
        "runs": asked.runs,
        "seconds": round(statistics.median(one[0] for one in rounds), 2),
        "processor_seconds": round(statistics.median(one[1] for one in rounds), 2),
        "imported": rounds[0][2],
    }
    if asked.json:
        print(json.dumps(result, indent=1))
    else:
        imported = ", ".join(result["imported"]) or f"none of {', '.join(HEAVY)}"
        print(
            f"{result['runs']} runs: {result['seconds']} s, {result['processor_seconds']} s of a processor; "
            f"imported {imported}"
        )


if __name__ == "__main__":
    main()
