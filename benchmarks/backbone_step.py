"""What a training step of a pretrained model costs with each system, beside PEFT's LoRA with as many parameters.

    MOE_ANALYSIS_DATA=<folder> python benchmarks/backbone_step.py [--json] [--rounds 2] [--batches 3] [--rows 8]
        [--rank 24] [--only trex] [--dtype bf16] [--backbone smollm2-135m] [--suite multitask] [--threads 1]

A step is forward, backward and AdamW on rows of the suite in cloze form (`embedded` without MOE_ANALYSIS_DATA). All
steps of a precision take turns in process time; a number is the sum over the batches of the medians over the rounds,
and reported are ratios.

whole: scores over the vocabulary at every token, rows as they are drawn. answers: the same batches, scores where labels
stand alone, and in bf16 attention of short rows as plain products. grouped: answers of the same rows in batches of like length, what a run does. float32: everything. bf16:
frozen weights in bfloat16 under autocast, what a run of that precision does. ratio_lora: over LoRA of equal size in the
same way.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peft import LoraConfig

import moe_analysis as ma
from moe_analysis.optim import build_optimizer
from moe_analysis.peft_bridge import CONFIGS
from moe_analysis.studies.budgets.step_time import adapted, frozen
from moe_analysis.tasks.batches import Example, collate, encode
from moe_analysis.theory.budget import match_budget
from moe_analysis.training.answers import SHORT, answer_head, at_answers, attention_of, gathers_loss, scores_at

TARGETS = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
SYSTEMS: dict[str, dict[str, Any]] = {
    "moelora": {"num_experts": 4, "top_k": 2, "gate": "switch"},
    "sira": {"num_experts": 4, "top_k": 2},
    "hydralora": {"num_experts": 4},
    "trex": {"num_down": 4, "num_up": 8, "intuition": False},
    "momor": {"num_experts": [4, 4]},
    "smore": {"num_experts": [4, 4], "fanout": [2, 2]},
}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
WAYS = ("whole", "answers", "grouped")
Batch = dict[str, torch.Tensor]


def batches_of(examples: list[Example], rows: int, pad: int) -> dict[str, list[Batch]]:
    """The same rows in batches as they are drawn, and of like length."""
    order = np.random.default_rng(0).permutation(len(examples))
    alike = order[np.argsort([len(examples[place].input_ids) for place in order], kind="stable")]
    drawn, grouped = (
        [collate([examples[place] for place in part], pad) for part in places.reshape(-1, rows)]
        for places in (order, alike)
    )
    return {"whole": drawn, "answers": drawn, "grouped": grouped}


def stepper(model: Any, half: bool) -> Callable[[Batch, bool], float]:
    """A function that makes one step and tells its process seconds."""
    optimizer = build_optimizer("adamw", model, 1e-5)

    def step(batch: Batch, answers_only: bool) -> float:
        started = time.process_time()
        row, place, labels = at_answers(batch["labels"])
        inputs = batch | {"labels": labels, "shift_labels": labels} if answers_only else batch
        head = answer_head(model) if answers_only else None
        tokens = batch["labels"].shape[-1] if answers_only else SHORT + 1
        with attention_of(tokens, batch["labels"].device, half):
            with torch.autocast("cpu", torch.bfloat16, enabled=half), scores_at(head, row, place):
                loss = model(**inputs).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started

    return step


def measure(
    base: Any, batches: dict[str, list[Batch]], rounds: int, rank: int, only: str, half: bool
) -> list[dict[str, Any]]:
    """One row per system and way."""
    with frozen(base):
        lora = adapted(base, LoraConfig(r=rank, target_modules=TARGETS, task_type="CAUSAL_LM"))
        size = sum(p.numel() for p in lora.parameters() if p.requires_grad)
        models = {"lora": lora}
        for system, options in SYSTEMS.items():
            if system.startswith(only):
                config = match_budget(CONFIGS[system](target_modules=TARGETS, **options), size, base)
                models[system] = adapted(base, config)
        if not gathers_loss(lora, {name: value[:1] for name, value in batches["grouped"][0].items()}):
            raise RuntimeError("the model's loss needs the scores of every token; choose another backbone")
        parameters = {name: sum(p.numel() for p in one.parameters() if p.requires_grad) for name, one in models.items()}
        steps = {system: stepper(model, half) for system, model in models.items()}
        for step in steps.values():
            step(batches["grouped"][0], True)  # allocates the optimizer's state
        times: dict[tuple[str, str], list[list[float]]] = {(one, way): [] for one in steps for way in WAYS}
        for _ in range(rounds):
            for place in range(len(batches["whole"])):
                for (system, way), seconds in times.items():
                    if place == 0:
                        seconds.append([])
                    seconds[-1].append(steps[system](batches[way][place], way != "whole"))
    total = {key: float(np.median(seconds, axis=0).sum()) for key, seconds in times.items()}
    return [
        {
            "precision": "bf16" if half else "float32",
            "system": system,
            "parameters": parameters[system],
            "ratio_lora": {way: round(total[system, way] / total["lora", way], 3) for way in WAYS},
            "times_as_fast_as_whole": {
                way: round(total[system, "whole"] / total[system, way], 2) for way in ("answers", "grouped")
            },
        }
        for system in models
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the rows only, one JSON object a line")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8, help="of a batch")
    parser.add_argument("--rank", type=int, default=24, help="of LoRA, whose size the others match")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="systems whose name begins so, beside LoRA")
    parser.add_argument("--dtype", choices=DTYPES, help="one precision; without it, both")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--suite", default="multitask" if "MOE_ANALYSIS_DATA" in os.environ else "embedded")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in [options.dtype] if options.dtype else DTYPES:
        torch.manual_seed(0)
        base, tokenizer = ma.load_backbone(options.backbone, DTYPES[name])
        frame = ma.load_suite(options.suite, split="train")
        frame = frame[frame["choices"].notna()].sample(options.rows * options.batches, random_state=0)
        examples = encode(frame, tokenizer, 256, cut_answers=True, prompt_form="cloze")
        batches = batches_of(examples, options.rows, tokenizer.pad_token_id)
        for row in measure(base, batches, options.rounds, options.rank, options.only, name == "bf16"):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
