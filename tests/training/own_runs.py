"""Runs with an adapter of a user's own, trained in another process: the one that tests does not know the adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from moe_analysis.adapters import own

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
BEFORE = """
import json, sys
import torch
import moe_analysis as ma
given, told = json.loads(sys.argv[1]), {}
torch.set_num_threads(1)

def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 16).view(2, 6)).logits.flatten().tolist()

def refusal(call):
    try:
        call()
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
"""


def elsewhere(script: str, executed: Path | None = None, **given: Any) -> dict[str, Any]:
    """What a script tells from a new process, in which no adapter of a user's own is named."""
    environment = {key: value for key, value in os.environ.items() if key not in (own.VARIABLE, "EXECUTED")}
    environment |= {"PYTHONPATH": str(ROOT), **({"EXECUTED": str(executed)} if executed else {})}
    code = f"{BEFORE}\nif __name__ == '__main__':\n    {script.strip()}\n    print('TOLD', json.dumps(told))\n"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("TOLD ")[2])
