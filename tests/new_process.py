"""Pieces of code that each run where nothing of ours, of PEFT's or of transformers was imported before.

To import torch takes seconds: one new process does it for all tests, with the parts of torch and the other libraries
that transformers and PEFT import, and each piece runs in a fork of that process.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from moe_analysis.adapters.own import VARIABLE

ROOT = Path(__file__).parents[1]
FORKS = """
import gc, json, os, sys, tempfile, traceback
import accelerate, huggingface_hub.hf_api, jinja2, pandas, regex, scipy.optimize, tokenizers, torch._dynamo
import torch.distributed.checkpoint, torch.distributed.tensor, yaml

early = {"moe_analysis", "peft", "transformers"} & set(sys.modules)
assert not early, early
gc.freeze()  # a fork that looked for garbage in what it shares would copy it
for line in sys.stdin:
    code, folder, environment = json.loads(line)
    with tempfile.TemporaryFile("w+") as said:
        if not (fork := os.fork()):
            os.dup2(said.fileno(), 1)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            try:
                exec(code, {"__name__": "__main__"})
            except BaseException:
                print(traceback.format_exc())
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(fork, 0)
        said.seek(0)
        print(json.dumps(said.read()), flush=True)
"""


@cache
def forks(before: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    """The process that forks, with some variables set before anything is imported; it ends with this one."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths} | dict(before),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)  # which tells it that no code follows, and waits for its end
    return process


def printed(*codes: str, folder: Path = ROOT, before: dict[str, str] | None = None, **environment: str) -> list[str]:
    """What each piece prints, the traceback of its error too.

    folder: where it runs. before: variables that libraries read when they are imported. environment: other variables,
    beside those of this process, of which the one that names adapters of a user's own is left out.
    """
    process, told = forks(tuple((before or {}).items())), []
    assert process.stdin is not None and process.stdout is not None
    variables = {key: value for key, value in os.environ.items() if key != VARIABLE} | (before or {}) | environment
    for code in codes:
        process.stdin.write(json.dumps([code, str(folder), variables]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the process that forks has ended"
        told.append(json.loads(line))
    return told
