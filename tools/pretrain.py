"""Pre-train the compact backbone on the original tasks: `python -m tools.pretrain --seed 0 --out data/compact`.

Fresh problems without end, none of them a test prompt of the suite (variants and out-of-distribution tasks included).
The variants' rules are never seen: they are what an adapter has left to learn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd

from moe_analysis.tasks.batches import collate, encode
from moe_analysis.tasks.prompts import render
from tools import generate
from tools.compact import compact_config, train_tokenizer

# Tasks that the decoder learns in a few hundred steps, or hardly at all, get half the share of the others.
HALF_SHARE = frozenset(
    {"both_or_either", "review_mood", "opposite_word", "truth_teller", "count_kind", "subtract_two_digit"}
)


MAX_LENGTH = 1024


@dataclass(frozen=True)
class PretrainConfig:
    """What makes the backbone. `prompt_weight` is the share of plain language modeling in the loss."""

    seed: int = 0
    steps: int = 1600
    batch_size: int = 64
    lr: float = 5e-3  # of the hidden layers' matrices, by Muon
    embedding_lr: float = 4e-3  # of everything else, by AdamW
    warmup: int = 60
    weight_decay: float = 0.05
    prompt_weight: float = 0.1
    threads: int = 1


def batches(tokenizer: Any, config: PretrainConfig) -> Iterator[list[list[Any]]]:
    """Batches of fresh problems of the originals, each as its shorter and its longer half (to save padding)."""
    rng = Random(f"{config.seed}/batches")
    tests = generate.test_prompts()
    streams = {
        name: generate.stream(name, config.seed, exclude=tests)
        for name, dataset in generate.TRAINING.items()
        if dataset.role == "original"
    }
    turns = [stream for name, stream in streams.items() for _ in range(1 if name in HALF_SHARE else 2)]
    while True:
        rows = [next(turns[i % len(turns)]) for i in range(8 * config.batch_size)]
        rng.shuffle(rows)
        examples = encode(pd.DataFrame(rows), tokenizer, MAX_LENGTH)
        for start in range(0, len(examples), config.batch_size):
            batch = sorted(examples[start : start + config.batch_size], key=lambda example: example.prompt_length)
            half = (len(batch) + 1) // 2
            yield [batch[:half], batch[half:]]


def loss_of(model: Any, batch: dict[str, Any], prompt_weight: float) -> Any:
    """Mean cross-entropy of the answer tokens, plus `prompt_weight` times that of the prompt tokens."""
    import torch
    import torch.nn.functional as F

    ids, answer = batch["input_ids"], batch["labels"][:, 1:] != -100
    # Padding is on the right, where causal attention never looks: no mask is needed.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (batch, length - 1, hidden)
    prompt = (batch["attention_mask"][:, 1:] == 1) & ~answer
    # The prompts of one row in four: the vocabulary's logits are a third of the cost, the answers matter most.
    prompt &= torch.arange(len(ids))[:, None] % 4 == 0
    used = answer | prompt
    losses = F.cross_entropy(model.lm_head(hidden[used]), ids[:, 1:][used], reduction="none")  # (used,)
    is_answer = answer[used]
    return losses[is_answer].mean() + prompt_weight * losses[~is_answer].mean()


def train(model: Any, tokenizer: Any, config: PretrainConfig, every: int = 50) -> list[tuple[int, float]]:
    """Train in place; returns the loss curve, a list of (step, mean loss since the last entry), one `every` steps."""
    import torch

    from tools.muon import Muon

    hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
    optimizers = [
        Muon(hidden, lr=config.lr, weight_decay=config.weight_decay),
        torch.optim.AdamW(rest, lr=config.embedding_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    def share_of_lr(step: int) -> float:
        return min((step + 1) / config.warmup, 1.0) * max(1 - step / config.steps, 0.02)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_lr) for optimizer in optimizers]
    model.train()
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    for step, halves in zip(range(1, config.steps + 1), batches(tokenizer, config)):
        model.zero_grad()
        total = 0.0
        for part in halves:
            loss = loss_of(model, collate(part, tokenizer.pad_token_id), config.prompt_weight) / len(halves)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        recent.append(total)
        if step % every == 0 or step == config.steps:
            curve.append((step, round(sum(recent) / len(recent), 4)))
            print(f"step {step:5d}  loss {curve[-1][1]:.4f}", flush=True)
            recent = []
    model.eval()
    return curve


def score_suite(model: Any, tokenizer: Any) -> dict[str, dict[str, float]]:
    """Test accuracy by role and dataset, before any adaptation."""
    from moe_analysis.training.evaluation import evaluate

    roles = {name: dataset.role for name, dataset in (generate.TRAINING | generate.OOD).items()}
    frame = pd.DataFrame([row for suite in generate.build().values() for rows in suite.values() for row in rows])
    results = evaluate(model, tokenizer, frame[frame["split"] == "test"].reset_index(drop=True))
    table: dict[str, dict[str, float]] = {}
    for dataset, accuracy in zip(results["dataset"], results["accuracy"]):
        table.setdefault(roles[dataset], {})[dataset] = round(accuracy, 3)
    return table


def save(model: Any, tokenizer: Any, record: dict[str, Any], out: Path) -> None:
    """Write everything beside `out` first, then move file by file: a killed run leaves the old backbone whole."""
    out.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".pretrain-", dir=out.parent))
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        for file in sorted(part.iterdir()):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def pretrain(config: PretrainConfig, out: str | Path) -> dict[str, Any]:
    """Make the backbone and write it to `out`; returns the record that training.json holds."""
    import torch
    import transformers

    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rows = [row for suite in generate.build().values() for rows in suite.values() for row in rows]
    tokenizer = train_tokenizer("".join(render(row)) for row in rows)
    model = transformers.LlamaForCausalLM(compact_config(tokenizer))
    started = time.process_time()
    curve = train(model, tokenizer, config)
    minutes = (time.process_time() - started) / 60
    accuracy = score_suite(model, tokenizer)
    record = {
        "command": f"python -m tools.pretrain --seed {config.seed} --steps {config.steps} --out data/compact",
        "config": asdict(config),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "cpu_minutes": round(minutes, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "accuracy": accuracy,
        "mean_accuracy": {role: round(sum(by.values()) / len(by), 3) for role, by in accuracy.items()},
        "loss_curve": curve,
    }
    save(model, tokenizer, record, Path(out))
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="data/compact")
    for name in ("seed", "steps", "batch_size", "threads"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(PretrainConfig, name))
    for name in ("lr", "embedding_lr", "prompt_weight"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(PretrainConfig, name))
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    record = pretrain(PretrainConfig(**arguments), out)
    print(json.dumps({key: record[key] for key in ("accuracy", "mean_accuracy", "cpu_minutes")}, indent=1))


if __name__ == "__main__":
    main()
