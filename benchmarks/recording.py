"""What recording costs: training steps with and without the recorder, interleaved, in process time.

    python benchmarks/recording.py [--json] [--rounds 40] [--backbone compact]

Both trainers live in one process with one thread and take turns step by step, each on the same batches, so that
whatever else the machine does falls on both. The overhead is the median of the paired differences over the median
step without the recorder; the writing that happens every 50 records is spread over those records.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerControl, TrainerState

import moe_analysis as ma
from moe_analysis.optim import build_optimizer
from moe_analysis.presets import methods
from moe_analysis.tasks.batches import collate, encode
from moe_analysis.training.prepare import prepare_model
from moe_analysis.training.recorders.recorder import Recorder


class Stepper:
    """One training loop, advanced a step at a time, with or without a recorder."""

    def __init__(self, config: ma.TrainConfig, record: Path | None) -> None:
        torch.manual_seed(0)
        self.model, self.tokenizer, _ = prepare_model(config)
        self.model.train()
        self.optimizer = build_optimizer("adamw", self.model, config.lr, config.router_lr)
        self.recorder = Recorder(self.model, record, config.record_every) if record else None
        self.state = TrainerState(max_steps=config.steps)
        self.call("on_train_begin")

    def call(self, event: str) -> None:
        if self.recorder is not None:
            getattr(self.recorder, event)(None, self.state, TrainerControl())

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """Process seconds of one step, the recorder's work included."""
        started = time.process_time()
        self.model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.call("on_pre_optimizer_step")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.global_step += 1
        self.call("on_step_end")
        return time.process_time() - started


def measure(backbone: str, method: str, rounds: int) -> dict[str, float]:
    torch.set_num_threads(1)
    config = ma.TrainConfig(backbone=backbone, adapter=methods()[method], steps=rounds)
    rows = ma.load_suite("embedded", split="train").sample(config.batch_size * 8, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        plain, recorded = Stepper(config, None), Stepper(config, Path(folder) / "records.zarr")
        examples = encode(rows, plain.tokenizer, config.max_length)
        clusters = config.clusters
        intuition = None if clusters is None else np.random.default_rng(0).uniform(-1, 1, (len(rows), clusters))
        times = []
        for number in range(rounds):
            start = number * config.batch_size % len(rows)
            chosen = slice(start, start + config.batch_size)
            scores = None if intuition is None else intuition[chosen]
            batch = collate(examples[chosen], plain.tokenizer.pad_token_id, scores)
            first, second = (plain, recorded) if number % 2 else (recorded, plain)
            seconds = {first: first.step(batch), second: second.step(batch)}
            times.append([seconds[plain], seconds[recorded]])
        started = time.process_time()
        recorded.recorder.flush()
        writing = (time.process_time() - started) / max(1, rounds % 50)
    without, recording = np.array(times[4:]).T  # the first ones warm up
    step, extra = np.median(without), np.median(recording - without) + writing
    return {"step_ms": 1e3 * float(step), "overhead_percent": 100 * float(extra / step)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the last line's object")
    parser.add_argument("--rounds", type=int, default=45)
    parser.add_argument("--backbone", default="compact")
    options = parser.parse_args()
    results = {method: measure(options.backbone, method, options.rounds) for method in ("LoRA-MoE", "T-REX")}
    if not options.json:
        for method, result in results.items():
            print(f"{method:10s} step {result['step_ms']:7.1f} ms, recording {result['overhead_percent']:5.2f} %")
    print(json.dumps({"overhead_percent": round(max(result["overhead_percent"] for result in results.values()), 2)}))


if __name__ == "__main__":
    main()
