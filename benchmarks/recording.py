"""What recording and the live panel cost: training steps with and without them, interleaved, in process time.

    python benchmarks/recording.py [--json] [--rounds 40] [--backbone compact]

Three trainers live in one process with one thread and take turns step by step, each on the same batches, so that
whatever else the machine does falls on all: one alone, one with the recorder, one with the recorder and the numbers of
the live panel. An overhead is the median of the paired differences over the median step alone; the writing that happens
every 50 records is spread over those records. Drawing the panel is timed by itself, as a share of one core at its two
pictures a second, in a terminal and in a notebook. The last line has the sum of all.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from transformers import TrainerControl, TrainerState

import moe_analysis as ma
from moe_analysis.optim import build_optimizer
from moe_analysis.presets import methods
from moe_analysis.tasks.batches import collate, encode
from moe_analysis.training.panel import REFRESH_SECONDS, Panel
from moe_analysis.training.prepare import prepare_model
from moe_analysis.training.progress import RunProgress, read_live
from moe_analysis.training.recorders.live_recorder import LiveRecorder
from moe_analysis.training.recorders.recorder import Recorder

PARTS = ("recording", "live", "panel")


class Stepper:
    """One training loop, advanced a step at a time, with or without a recorder and the numbers of the panel."""

    def __init__(self, config: ma.TrainConfig, record: Path | None = None, live: Path | None = None) -> None:
        torch.manual_seed(0)
        self.model, self.tokenizer, _ = prepare_model(config)
        self.model.train()
        self.optimizer = build_optimizer("adamw", self.model, config.lr, config.router_lr)
        self.recorder = Recorder(self.model, record, config.record_every) if record else None
        self.live = LiveRecorder(self.model, live, config.steps) if live else None
        self.state = TrainerState(max_steps=config.steps)
        self.call("on_train_begin")

    def call(self, event: str) -> None:
        for callback in (self.recorder, self.live):
            if callback is not None:
                getattr(callback, event)(None, self.state, TrainerControl())

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """Process seconds of one step, the work of what watches it included."""
        started = time.process_time()
        loss = self.model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.call("on_pre_optimizer_step")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.global_step += 1
        self.call("on_step_end")
        if self.live is not None:
            self.live.told(self.state.global_step, loss.item())
        return time.process_time() - started


def measure(backbone: str, method: str, rounds: int) -> dict[str, float]:
    torch.set_num_threads(1)
    config = ma.TrainConfig(backbone=backbone, adapter=methods()[method], steps=rounds)
    rows = ma.load_suite("embedded", split="train").sample(config.batch_size * 8, random_state=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone, recorded = Stepper(config), Stepper(config, folder / "one.zarr")
        watched = Stepper(config, folder / "two.zarr", folder)
        examples = encode(rows, alone.tokenizer, config.max_length)
        clusters = config.clusters
        intuition = None if clusters is None else np.random.default_rng(0).uniform(-1, 1, (len(rows), clusters))
        steppers, times = [alone, recorded, watched], []
        for number in range(rounds):
            start = number * config.batch_size % len(rows)
            chosen = slice(start, start + config.batch_size)
            scores = None if intuition is None else intuition[chosen]
            batch = collate(examples[chosen], alone.tokenizer.pad_token_id, scores)
            turn = number % 3
            seconds = {one: one.step(batch) for one in steppers[turn:] + steppers[:turn]}
            times.append([seconds[one] for one in steppers])
        started = time.process_time()
        recorded.recorder.flush()
        writing = (time.process_time() - started) / max(1, rounds % 50)
        watched.live.flush()
        panel = max(seconds_of(draw) for draw in drawings(folder, method, rounds))
    without, recording, watching = np.array(times[4:]).T  # the first ones warm up
    step, extra = np.median(without), np.median(recording - without) + writing
    return {
        "step_ms": 1e3 * float(step),
        "recording_percent": 100 * float(extra / step),
        "live_percent": 100 * float(np.median(watching - recording) / step),
        "panel_percent": 100 * panel / REFRESH_SECONDS,
    }


def drawings(folder: Path, name: str, steps: int) -> list[Callable[[], object]]:
    """What reads the numbers of a run and draws its panel: for a terminal, and for a notebook."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)

    def panel() -> Panel:
        return Panel([RunProgress(name, "running", steps - 1, steps, 60.0, live=read_live(folder))])

    return [lambda: console.print(panel()), lambda: panel()._repr_html_()]


def seconds_of(draw: Callable[[], object], times: int = 20) -> float:
    """Median process seconds of a call, the first one left out."""
    found = []
    for _ in range(times + 1):
        started = time.process_time()
        draw()
        found.append(time.process_time() - started)
    return float(np.median(found[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the last line's object")
    parser.add_argument("--rounds", type=int, default=45)
    parser.add_argument("--backbone", default="compact")
    options = parser.parse_args()
    results = {method: measure(options.backbone, method, options.rounds) for method in ("LoRA-MoE", "T-REX")}
    if not options.json:
        for method, result in results.items():
            parts = ", ".join(f"{name} {result[f'{name}_percent']:5.2f} %" for name in PARTS)
            print(f"{method:10s} step {result['step_ms']:7.1f} ms, {parts}")
    sums = [sum(result[f"{name}_percent"] for name in PARTS) for result in results.values()]
    print(json.dumps({"overhead_percent": round(max(sums), 2)}))


if __name__ == "__main__":
    main()
