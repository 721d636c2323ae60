"""What reading the intuition from the prompt costs, as a share of `model.generate`.

    python benchmarks/prompt_intuition.py [--json] [--rounds 15] [--backbone compact] [--tokens 32]

Three calls take turns on the same prompts, in process time with one thread: with the intuition as an argument, without
it on prompts that were seen before (they are decoded, and their embeddings remembered), and without it on new ones
(they are embedded, too). A share is the median of the paired differences over the median of the call that it is a part
of. Opening the embedder, once in a process, is timed on its own, imports included.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import peft
import torch

import moe_analysis as ma
from moe_analysis.peft_bridge.hooks import adapted_of
from moe_analysis.tasks.embed import Embedder
from moe_analysis.tasks.prompts import AROUND_PROMPT, default_form, render

BATCHES = (1, 16)
TRAINED_ON = 512  # prompts that are clustered


def opening_seconds() -> float:
    """Process seconds until an embedder whose weights were compared with a digest has embedded its first text."""
    started = time.process_time()
    embedder = Embedder("minilm", cache=False)
    embedder.digest  # noqa: B018 - reads the weights once
    embedder.transform(["a text"])
    return time.process_time() - started


class Caller:
    """One model, and prompts to generate from."""

    def __init__(self, backbone: str, new_tokens: int) -> None:
        torch.manual_seed(0)
        base, self.tokenizer = ma.load_backbone(backbone)
        self.tokenizer.padding_side = "left"
        self.form = default_form(backbone)
        frame = ma.load_suite("embedded", split="train").sample(TRAINED_ON, random_state=0)
        self.clusters = ma.cluster(ma.embed(frame["prompt"]), k=32)
        self.model = peft.get_peft_model(base, ma.TRexConfig(target_modules=["q_proj", "v_proj"])).eval()
        begin, ends = AROUND_PROMPT[self.form]
        ma.set_intuition(self.model, self.clusters, tokenizer=self.tokenizer, prompt_begin=begin, prompt_ends=ends)
        self.reader = adapted_of(self.model.get_base_model()).held["default"].reader
        self.options = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}

    def measure(self, batch: int, rounds: int) -> dict[str, float]:
        rows = ma.load_suite("embedded", split="test").sample(batch * (rounds + 2), random_state=1)
        seconds = []
        for first in range(0, len(rows), batch):
            frame = rows.iloc[first : first + batch]
            texts = [render(row, self.form)[0] for row in frame.to_dict("records")]
            tokens = self.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
            scores = torch.from_numpy(self.clusters.intuition(ma.embed(frame["prompt"], cache=False)))
            calls = {
                "given": lambda t=tokens, s=scores: self.generate(t, intuition=s),
                "new": lambda t=tokens: self.generate(t, forget=True),
                "seen": lambda t=tokens: self.generate(t),
            }
            order = list(calls) if first % (2 * batch) else list(reversed(calls))
            if order[0] == "seen":
                self.generate(tokens)  # so that it was
            seconds.append({name: calls[name]() for name in order})
        table = {name: np.array([one[name] for one in seconds[2:]]) for name in seconds[0]}  # the first ones warm up
        shares = {
            f"{name}_percent": 100 * np.median(table[name] - table["given"]) / np.median(table[name])
            for name in ("new", "seen")
        }
        return {
            "batch": batch,
            "call_ms": 1e3 * float(np.median(table["given"])),
            **{name: float(share) for name, share in shares.items()},
        }

    def generate(self, tokens: dict[str, torch.Tensor], forget: bool = False, **given: torch.Tensor) -> float:
        """Process seconds of one call."""
        if forget:
            self.reader.rows.clear()
        started = time.process_time()
        self.model.generate(**tokens, **self.options, **given)
        return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the last line's object")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backbone", default="compact")
    parser.add_argument("--tokens", type=int, default=32, help="generated from each prompt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    opening = opening_seconds()
    caller = Caller(options.backbone, options.tokens)
    results = [caller.measure(batch, options.rounds) for batch in BATCHES]
    if not options.json:
        print(f"the embedder opens in {opening:.2f} s; {options.tokens} tokens from each prompt of {options.backbone}")
        for one in results:
            print(
                f"batch {one['batch']:3d}: a call takes {one['call_ms']:7.1f} ms; reading new prompts is "
                f"{one['new_percent']:5.1f} % of it, prompts seen before {one['seen_percent']:5.1f} %"
            )
    print(json.dumps({"opening_s": round(opening, 2), "batches": results}))


if __name__ == "__main__":
    main()
