"""Runs with an adapter of a user's own, trained in another process: the one that tests does not know the adapter."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

from moe_analysis.adapters import own
from tests import PROCESSES

ROOT = Path(__file__).parents[2]
# tells when it is executed
FILE = dedent('''\
    import os
    from dataclasses import dataclass

    from torch import nn, zeros

    from moe_analysis.adapters import Adapter, AdapterConfig, Routing, kaiming_down, register

    if "EXECUTED" in os.environ:
        open(os.environ["EXECUTED"], "a").write("once ")


    @dataclass
    class GatedLoraConfig(AdapterConfig):
        """LoRA whose r hidden values are weighed by a router."""

        warmth: float = 1.0


    @register("gatedlora")
    class GatedLora(Adapter):
        config_class = GatedLoraConfig
        num_gates = property(lambda self: self.config.r)

        def __init__(self, in_features, out_features, config):
            super().__init__(in_features, out_features, config)
            self.A, self.B = kaiming_down(config.r, in_features), nn.Parameter(zeros(out_features, config.r))
            self.router = nn.Linear(in_features, config.r, bias=False)

        def forward(self, x, context=None, base=None):
            gates = (self.config.warmth * self.router(x)).softmax(-1)  # (..., r)
            delta = (gates * (self.dropout(x) @ self.A.T)) @ self.B.T
            return (delta if base is None else base(x) + delta), Routing(gates)
    ''')
TRAINED = """
    Config = ma.use_adapter(given["file"])
    for seed in range(2):
        adapter = Config(r=3, alpha=8, warmth=2, target_modules=["q_proj"])
        config = ma.TrainConfig(adapter=adapter, seed=seed, **given["fields"])
        run = ma.train(config, given["out"])
    told["path"], told["logits"] = str(run.path), logits(run.model())
    """
# one process imports what takes seconds, and each script runs in a fork of it
FORKS = """
import gc, json, os, sys, tempfile, traceback
import torch
import moe_analysis as ma
from moe_analysis.training import trainer, transfer

torch.set_num_threads(1)
gc.freeze()  # a fork that looked for garbage in what it shares would copy it, once a run
for line in sys.stdin:
    code, given, environment = json.loads(line)
    with tempfile.TemporaryFile("w+") as said:
        if not (fork := os.fork()):
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.environ.update(environment)
            try:
                exec(code, {"__name__": "__main__", "given": given, "told": {}})
            except BaseException:
                print(traceback.format_exc())
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(fork, 0)
        said.seek(0)
        print(json.dumps(said.read()), flush=True)
"""
BEFORE = """
import json
import torch
import moe_analysis as ma

def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 16).view(2, 6)).logits.flatten().tolist()

def refusal(call):
    try:
        call()
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
"""


@cache
def forks() -> subprocess.Popen[str]:
    """The process that forks, in which no adapter of a user's own is named; it ends with this one."""
    environment = {key: value for key, value in os.environ.items() if key not in (own.VARIABLE, "EXECUTED")}
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), PROCESSES])},
    )
    atexit.register(process.communicate)  # which tells it that no script follows, and waits for its end
    return process


def elsewhere(script: str, executed: Path | None = None, **given: Any) -> dict[str, Any]:
    """What a script tells from a process of its own, which knows no adapter of a user's own."""
    code = f"{BEFORE}\n{dedent(script)}\nprint('TOLD', json.dumps(told))\n"
    process = forks()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps([code, given, {"EXECUTED": str(executed)} if executed else {}]) + "\n")
    process.stdin.flush()
    said = json.loads(process.stdout.readline())
    assert "TOLD " in said, said[-3000:]
    return json.loads(said.rpartition("TOLD ")[2])
