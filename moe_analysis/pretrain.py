"""Pre-train the compact backbone on the original tasks: `python -m moe_analysis.pretrain --seed 0 --out data/compact`.

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

from moe_analysis.backbones import compact_config, train_tokenizer
from moe_analysis.tasks import generate
from moe_analysis.tasks.batches import render

# Tasks that the decoder learns in a few hundred steps, or hardly at all, get half the share of the others.
HALF_SHARE = frozenset(
    {"both_or_either", "review_mood", "opposite_word", "truth_teller", "count_kind", "subtract_two_digit"}
)


@dataclass(frozen=True)
class PretrainConfig:
    """What makes the backbone. `prompt_weight` is the share of plain language modelling in the loss."""

    seed: int = 0
    steps: int = 1600
    batch_size: int = 64
    lr: float = 5e-3  # of the hidden layers' matrices, by Muon
    embedding_lr: float = 4e-3  # of everything else, by AdamW
    warmup: int = 60
    weight_decay: float = 0.05
    prompt_weight: float = 0.1
    threads: int = 1


Example = tuple[list[int], list[int]]  # prompt ids, answer ids with the end token


def encode(tokenizer: Any, rows: list[generate.Row]) -> list[Example]:
    texts = [render(row) for row in rows]
    prompts = tokenizer([prompt for prompt, _ in texts])["input_ids"]
    answers = tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
    return [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(prompts, answers, strict=True)]


def collate(examples: list[Example], pad: int) -> tuple[Any, Any, Any]:
    """Padded `(ids, mask, is_answer)`, each (batch, length)."""
    import torch

    length = max(len(prompt) + len(answer) for prompt, answer in examples)
    ids = torch.full((len(examples), length), pad)
    is_answer = torch.zeros(len(examples), length, dtype=torch.bool)
    mask = torch.zeros(len(examples), length, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(examples):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        is_answer[row, len(prompt):end] = True
        mask[row, :end] = True
    return ids, mask, is_answer


def batches(tokenizer: Any, config: PretrainConfig) -> Iterator[list[list[Example]]]:
    """Batches of fresh problems of the originals, each as its shorter and its longer half (to save padding)."""
    rng = Random(f"{config.seed}/batches")
    tests = generate.test_prompts()
    streams = {
        name: generate.stream(name, config.seed, exclude=tests)
        for name, dataset in generate.TRAINING.items() if dataset.role == "original"
    }
    turns = [stream for name, stream in streams.items() for _ in range(1 if name in HALF_SHARE else 2)]
    while True:
        rows = [next(turns[i % len(turns)]) for i in range(8 * config.batch_size)]
        rng.shuffle(rows)
        examples = encode(tokenizer, rows)
        for start in range(0, len(examples), config.batch_size):
            batch = sorted(examples[start:start + config.batch_size], key=lambda example: len(example[0]))
            half = (len(batch) + 1) // 2
            yield [batch[:half], batch[half:]]


def loss_of(model: Any, batch: tuple[Any, Any, Any], prompt_weight: float) -> Any:
    """Mean cross-entropy of the answer tokens, plus `prompt_weight` times that of the prompt tokens."""
    import torch
    import torch.nn.functional as F

    ids, mask, is_answer = batch
    # Padding is on the right, where causal attention never looks: no mask is needed.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (batch, length - 1, hidden)
    answer = is_answer[:, 1:]
    prompt = (mask & ~is_answer)[:, 1:]
    # The prompts of one row in four: the vocabulary's logits are a third of the cost, the answers matter most.
    prompt &= torch.arange(len(ids))[:, None] % 4 == 0
    used = answer | prompt
    losses = F.cross_entropy(model.lm_head(hidden[used]), ids[:, 1:][used], reduction="none")  # (used,)
    is_answer = answer[used]
    return losses[is_answer].mean() + prompt_weight * losses[~is_answer].mean()


def train(model: Any, tokenizer: Any, config: PretrainConfig, every: int = 50) -> list[tuple[int, float]]:
    """Train in place; returns the loss curve, a list of (step, mean loss since the last entry), one `every` steps."""
    import torch

    from moe_analysis.muon import Muon

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


def score(model: Any, tokenizer: Any, rows: list[generate.Row], batch_size: int = 128) -> float:
    """Share of rows answered right: the likeliest choice, or the exact answer by greedy decoding.

    Greedy decoding gives the answer exactly if each answer token is the likeliest after the true ones before it, so
    one pass over prompt and answer decides.
    """
    import torch

    candidates = [
        (index, dict(row, answer=choice))
        for index, row in enumerate(rows)
        for choice in (row["choices"] or [row["answer"]])
    ]
    likelihoods: dict[int, list[float]] = {}
    exact: dict[int, bool] = {}
    examples = encode(tokenizer, [row for _, row in candidates])
    for start in range(0, len(examples), batch_size):
        ids, mask, is_answer = collate(examples[start:start + batch_size], tokenizer.pad_token_id)
        with torch.no_grad():
            log_p = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
        wanted = is_answer[:, 1:]
        given = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (batch, length - 1)
        totals = (given * wanted).sum(-1).tolist()
        greedy = ((log_p.argmax(-1) == ids[:, 1:]) | ~wanted).all(-1).tolist()
        for (index, _), total, hit in zip(candidates[start:start + batch_size], totals, greedy, strict=True):
            likelihoods.setdefault(index, []).append(total)
            exact[index] = hit
    right = [
        exact[index] if row["choices"] is None
        else max(range(len(row["choices"])), key=likelihoods[index].__getitem__) == row["label"]
        for index, row in enumerate(rows)
    ]
    return sum(right) / len(right)


def score_suite(model: Any, tokenizer: Any) -> dict[str, dict[str, float]]:
    """Test accuracy by role and dataset, before any adaptation."""
    table: dict[str, dict[str, float]] = {}
    for suite in generate.build().values():
        for name, rows in suite.items():
            role = (generate.TRAINING | generate.OOD)[name].role
            test = [row for row in rows if row["split"] == "test"]
            table.setdefault(role, {})[name] = round(score(model, tokenizer, test), 3)
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
        "command": f"python -m moe_analysis.pretrain --seed {config.seed} --steps {config.steps} --out data/compact",
        "config": asdict(config),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "cpu_minutes": round(minutes, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__},
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
