"""From one short run to what it changed: the loss, the routers, and the experts of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...peft_bridge import adapter_modules
from ...training.recorders.routing import flat_gates, model_of
from ..asked import asked, one_run
from ..records import module_tensor, shared_modules
from ..result import Result

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, eq=False)
class FirstSteps(Result):
    """What a short run changed.

    Args:
        losses: Columns step, loss: the training loss of each step, without balance loss.
        moved: Columns module, step, distance: how far a router's weights are from their start (Frobenius norm).
        words: One row per module, time and token: module, when ("before" or "after"), position, token, expert, gate.
            expert is the one with the largest gate.
    """

    item = "first_steps"
    title = "The first training steps of a mixture"
    question = "What do a few training steps change?"
    how_to_read = (
        "(a) The training loss. (b) How far the weights of each router are from their start, one line per router. "
        "(c) The expert with the largest gate at each token of the sentence, before and after training, in the router "
        "that moved furthest; a black frame marks a token whose expert changed."
    )
    how_to_explore = (
        "The expert with the largest gate at each token of the sentence, before and after training. The menu chooses "
        "the router; the first one moved furthest. Number and color show the expert; point at a token for the size of "
        "its gate."
    )

    losses: pd.DataFrame
    moved: pd.DataFrame
    words: pd.DataFrame

    @cached_property
    def module(self) -> str:
        """The router that moved furthest."""
        last = self.moved[self.moved["step"] == self.moved["step"].max()]
        return str(last.loc[last["distance"].idxmax(), "module"])

    @property
    def sentence(self) -> pd.DataFrame:
        """The tokens in the router that moved furthest: columns token, before, after, changed; experts are numbers."""
        return self.sentence_in(self.module)

    def sentence_in(self, module: str) -> pd.DataFrame:
        """The tokens in one router: columns token, before, after, changed."""
        own = self.words[self.words["module"] == module]
        table = own.pivot(index="position", columns="when", values="expert")[[BEFORE, AFTER]]
        table.insert(0, "token", own.drop_duplicates("position").set_index("position")["token"])
        return table.assign(changed=table[BEFORE] != table[AFTER]).rename_axis(columns=None)

    @property
    def in_short(self) -> str:
        """The outcome in one sentence."""
        first, last = self.losses["loss"].iloc[[0, -1]]
        changed = self.sentence["changed"]
        return (
            f"In {len(self.losses)} training steps the loss went from {first:.2f} to {last:.2f} nats per token, and "
            f"{changed.sum()} of the sentence's {len(changed)} tokens now take another expert in {self.module}."
        )


@asked()
def measure(run: Any, sentence: str) -> FirstSteps:
    """Compare the model of a run with the model at its start.

    Args:
        run: One run of `ma.train` that recorded its routers at every step.
        sentence: Any text; it is not put into a prompt form.

    Returns:
        A result with `plot`, `interactive` and `in_short`.

    Raises:
        ValueError: For several runs, an empty sentence, one with more tokens than the run's max_length, and a run without routers.

    Example:
        >>> found = measure(runs[0], "Find the odd word in apple, tiger.")
        >>> found.sentence["token"].tolist()[:4], found.tables.keys() == {"losses", "moved", "words"}
        (['<bos>', 'Find', 'the', 'odd'], True)
    """
    run = one_run("run", run)
    train = run.history[run.history["split"] == "train"]
    losses = pd.DataFrame(
        {"step": train["step"], "loss": train["loss"] - train["balance_loss"].fillna(0.0)}
    ).reset_index(drop=True)
    moved = pd.concat([distances(run, module) for module in shared_modules([run])], ignore_index=True)
    frames = [experts_of(run, sentence, when) for when in (BEFORE, AFTER)]
    return FirstSteps(losses, moved, pd.concat(frames, ignore_index=True), runs=(run,))


def distances(run: Any, module: str) -> pd.DataFrame:
    """How far a router is from its start at each record: columns module, step, distance."""
    steps, values = module_tensor(run, module)  # (T,), (T, experts, features)
    way = values.astype(np.float64) - values[0]
    return pd.DataFrame({"module": module, "step": steps, "distance": np.linalg.norm(way, axis=(1, 2))})


@torch.no_grad()
def experts_of(run: Any, sentence: str, when: str) -> pd.DataFrame:
    """The expert with the largest gate at each token: columns module, when, position, token, expert, gate."""
    if not sentence.strip():
        raise ValueError(f"sentence = {sentence!r} is empty; pass some words")
    batch = run.tokenizer([sentence], return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if ids.shape[1] > run.config.max_length:
        raise ValueError(f"sentence has {ids.shape[1]} tokens, more than max_length = {run.config.max_length}; cut it")
    scores = run.intuition(pd.DataFrame({"prompt": [sentence]}))
    prior = {} if scores is None else {"intuition": torch.as_tensor(scores)}
    model = model_of(run, trained=when == AFTER).eval()
    gates: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        return lambda adapter, inputs, output: gates.update({name: flat_gates(output[1].gates, mask).numpy()})

    handles = [adapter.register_forward_hook(keep(name)) for name, adapter in adapter_modules(model).items()]
    try:
        model(input_ids=ids, attention_mask=mask, **prior)
    finally:
        for handle in handles:
            handle.remove()
    words = [run.tokenizer.decode([token]).strip() for token in ids[0]]
    columns = {"when": when, "position": range(len(words)), "token": words}
    return pd.concat(
        [
            pd.DataFrame(
                {"module": name, **columns, "expert": gate.argmax(1), "gate": gate.max(1)}
            )  # (tokens, experts)
            for name, gate in gates.items()
        ],
        ignore_index=True,
    )
