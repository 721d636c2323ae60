"""What accelerate starts in tests: trains the runs of a plan with all processes, and notes what each process saw.

Before that, the processes compare gradients of transformers' own Trainer, see tests/peft_bridge/two_processes.py.

The plan is a JSON list of {"name", "config", "dies_at"}; a run is trained into `out/<name>`. With dies_at the second
process kills itself before its dies_at-th step, as a machine that loses its power would.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from moe_analysis.training import TrainConfig, distributed, train, trainer
from tests.peft_bridge import two_processes as gradients


def weights_of(model: Any) -> str:
    """Digest of what was trained."""
    values = [parameter.detach().numpy().tobytes() for parameter in model.parameters() if parameter.requires_grad]
    return hashlib.sha256(b"".join(values)).hexdigest()


def die_at(step: int) -> None:
    original, calls = trainer.AdapterTrainer.compute_loss, []

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == step and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    trainer.AdapterTrainer.compute_loss = compute_loss  # type: ignore[method-assign]


def main(plan: Path, out: Path) -> None:
    gc.freeze()  # each run collects garbage, and should not look for it in the libraries
    gradients.main(out / "gradients.json")
    seen: dict[str, dict[str, Any]] = {}
    finish = trainer.finish

    def look_and_finish(run: Any, trained: Any, *rest: Any) -> None:
        seen.setdefault(run.path.parent.name, {})["weights"] = weights_of(trained.model)
        finish(run, trained, *rest)

    trainer.finish = look_and_finish
    for entry in json.loads(plan.read_text()):
        if entry.get("dies_at"):
            die_at(entry["dies_at"])
        notes = seen.setdefault(entry["name"], {})
        try:
            run = train(TrainConfig.from_dict(entry["config"]), out / entry["name"])
            notes |= {"path": str(run.path), "losses": run.history["loss"].tolist()}
        except ValueError as error:
            notes["error"] = str(error)
        (out / f"seen-by-{distributed.rank()}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
