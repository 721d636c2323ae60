"""What evaluation costs: a prompt computed once for all its choices, beside one row per choice and lm_eval's HFLM.

    MOE_ANALYSIS_DATA=<folder> python benchmarks/evaluation.py [--json] [--rows 60] [--rounds 5] [--threads 1]
        [--backbone smollm2-135m] [--suite multitask] [--dataset ARC-Easy] [--dtype float32]

All sides score the same choices of the same test rows, in cloze form and without an end token, and take turns in
process time; reported are the largest difference between their log-likelihoods, in nats, and ratios of medians.
`whole` is one row per choice with scores over the vocabulary at every token, as evaluation was; `plain` is one row per
choice with scores at the answers alone. Without MOE_ANALYSIS_DATA the suite is `embedded`. The column of lm_eval, the
fastest of some batch sizes, is left out with a word where it is not installed. In bfloat16 likelihoods differ by
tenths, whichever way rows are laid out: each is as far from those in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

import moe_analysis as ma
from moe_analysis.tasks.batches import encode_questions
from moe_analysis.tasks.prompts import PROMPT_FORMS
from moe_analysis.training.answers import Way, evaluating
from moe_analysis.training.evaluation import score

HARNESS_BATCHES = (8, 16, 32)  # of which lm_eval gets the fastest
WAYS = {"packed": None, "plain": Way(packed=False, gathered=True), "whole": Way(packed=False, gathered=False)}
Side = Callable[[], np.ndarray]  # log-likelihoods of all choices, in order


def our_sides(model: Any, tokenizer: Any, frame: Any) -> dict[str, Side]:
    """Tokenization included, as in lm_eval."""

    def side(way: Way | None) -> np.ndarray:
        questions = encode_questions(frame, tokenizer, 512, "cloze")
        ended = [[False] * len(one.answers) for one in questions]
        with evaluating(model):
            found = score(model, questions, None, tokenizer.pad_token_id, [], ended, way)
        return found["log_likelihood"].to_numpy()

    return {name: lambda way=way: side(way) for name, way in WAYS.items()}


def harness_sides(model: Any, tokenizer: Any, frame: Any) -> dict[str, Side]:
    """`HFLM.loglikelihood` at several batch sizes; nothing where lm_eval is not installed."""
    if find_spec("lm_eval") is None:
        return {}
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    form = PROMPT_FORMS["cloze"]
    asked = [(form.prompt(row), answer) for row in frame.to_dict("records") for answer in form.answers(row)]

    def side(wrapped: Any) -> np.ndarray:
        requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(asked)]
        return np.array([likelihood for likelihood, _ in wrapped.loglikelihood(requests, disable_tqdm=True)])

    made = {
        f"lm_eval/{size}": HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, max_length=512)
        for size in HARNESS_BATCHES
    }
    return {name: lambda wrapped=wrapped: side(wrapped) for name, wrapped in made.items()}


def interleaved(sides: dict[str, Side], rounds: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """(median process seconds, log-likelihoods) of each side; the first round warms up, and the order turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    values: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name in sorted(sides, reverse=bool(number % 2)):
            started = time.process_time()
            values[name] = sides[name]()
            times[name].append(time.process_time() - started)
    return {name: float(np.median(seconds[1:])) for name, seconds in times.items()}, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the last line's object")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--suite", default="multitask" if "MOE_ANALYSIS_DATA" in os.environ else "embedded")
    parser.add_argument("--dataset", help="one of the suite; without it, ARC-Easy of multitask and all of any other")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, tokenizer = ma.load_backbone(options.backbone, getattr(torch, options.dtype))
    chosen = options.dataset or ("ARC-Easy" if options.suite == "multitask" else None)
    frame = ma.load_suite(options.suite, split="test", datasets=[chosen] if chosen else None)
    frame = frame[frame["choices"].notna()]
    if frame.empty:
        parser.error(f"dataset = {chosen!r} has no test rows with choices; name another")
    frame = frame.sample(min(options.rows, len(frame)), random_state=0).reset_index(drop=True)
    harness = harness_sides(model, tokenizer, frame)
    times, values = interleaved({**our_sides(model, tokenizer, frame), **harness}, options.rounds)
    if harness:
        best = min(harness, key=lambda name: times[name])
        times["lm_eval"], values["lm_eval"] = times[best], values[best]
    others = [name for name in ("plain", "whole", "lm_eval") if name in times]
    result = {
        "backbone": options.backbone,
        "suite": options.suite,
        "dataset": chosen,
        "dtype": options.dtype,
        "threads": options.threads,
        "rows": len(frame),
        "choices": len(values["packed"]),
        "lm_eval": version("lm_eval") if harness else None,
        "times_as_fast": {name: round(times[name] / times["packed"], 2) for name in others},
        "largest_difference": {name: float(f"{np.abs(values[name] - values['packed']).max():.1e}") for name in others},
    }
    if not options.json:
        print(f"{len(frame)} rows of {chosen or options.suite}, {options.backbone} in {options.dtype}: packed rows are")
        for name in others:
            said, off = result["times_as_fast"][name], result["largest_difference"][name]
            print(f"  {said:5.2f} times as fast as {name}; log-likelihoods differ by at most {off:.1e}")
        if not harness:
            print("  lm_eval is not installed, so there is no column of it; pip install lm_eval==0.4.13")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
