"""Pieces of code that each run where nothing of ours, of PEFT's or of transformers was imported before.

To import torch takes seconds: one new process does it, with the parts of torch and the other libraries that
transformers and PEFT import, and each piece runs in a fork of that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORKS = """
import gc, json, os, sys, tempfile, traceback
import accelerate, huggingface_hub.hf_api, jinja2, pandas, regex, scipy.optimize, tokenizers, torch._dynamo
import torch.distributed.checkpoint, torch.distributed.tensor, yaml

early = {"moe_analysis", "peft", "transformers"} & set(sys.modules)
assert not early, early
gc.freeze()  # a fork that looked for garbage in what it shares would copy it
told = []
for code in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile("w+") as said:
        if not os.fork():
            os.dup2(said.fileno(), 1)
            try:
                exec(code, {"__name__": "__main__"})
            except BaseException:
                print(traceback.format_exc())
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        said.seek(0)
        told.append(said.read())
print(json.dumps(told))
"""


def printed(*codes: str, **environment: str) -> list[str]:
    """What each piece prints, the traceback of its error too."""
    command = [sys.executable, "-c", FORKS, json.dumps(codes)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
