"""The time of a training step of a whole model with each adapter: forward, backward and optimizer; models take turns.

Source: S'MoRE, Table 7 (time of S'MoRE / time of MixLoRA at equal parameters).
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ...backbones import load_backbone
from ...optim import build_optimizer
from ..one_thread import one_thread

if TYPE_CHECKING:
    from peft import PeftConfig

Step = Callable[[], float]
WARM_UP = 2  # rounds that are not counted, because the first ones allocate the optimizer's state
LR = 1e-4


class Rounds(NamedTuple):
    """seconds: one row per round, one column per label. trainable: label -> parameters."""

    seconds: pd.DataFrame
    trainable: dict[str, int]


def round_seconds(
    configs: Mapping[str, PeftConfig],
    backbone: str | Path | nn.Module = "compact",
    batch: tuple[int, int] = (16, 64),
    rounds: int = 20,
) -> Rounds:
    """Time of a step of AdamW on random tokens, with every adapter, round by round.

    This is process time with one thread. Every round times each model once, in an order that rotates from round to
    round.

    Args:
        configs: label -> PEFT configuration.
        backbone: as in `load_backbone`, or a causal language model, which is not changed; all models share its weights.
        batch: (samples, tokens per sample).
        rounds: number of counted rounds.

    Raises:
        ValueError: for no configuration, and for a wrong shape or number of rounds, before anything is built.

    Example:
        >>> mixture = ma.MoeLoraConfig(num_experts=4, top_k=2, gate="switch", target_modules=["up_proj"])
        >>> found = round_seconds({"MixLoRA": mixture}, batch=(2, 8), rounds=3)
        >>> found.seconds.shape, found.trainable
        ((3, 1), {'MixLoRA': 32768})
    """
    check(configs, batch, rounds)
    base = backbone if isinstance(backbone, nn.Module) else load_backbone(backbone)[0]
    with one_thread(), frozen(base), torch.random.fork_rng():
        torch.manual_seed(0)
        models = {label: adapted(base, config) for label, config in configs.items()}
        steps = {label: training_step(model, batch) for label, model in models.items()}
        trainable = {
            label: sum(p.numel() for p in model.parameters() if p.requires_grad) for label, model in models.items()
        }
        return Rounds(interleaved(steps, rounds), trainable)


def check(configs: Mapping[str, Any], batch: Sequence[int], rounds: int) -> None:
    if not configs:
        raise ValueError("configs is empty; pass at least one {label: PEFT configuration}")
    if len(batch) != 2 or min(batch) < 1 or batch[1] < 2:
        raise ValueError(
            f"batch = {tuple(batch)} must be (samples, tokens per sample), at least (1, 2): a token predicts the next"
        )
    if rounds < 1:
        raise ValueError(f"rounds = {rounds} must be at least 1")


@contextmanager
def frozen(base: nn.Module) -> Iterator[None]:
    """Inside, `base` is frozen; afterwards its flags are restored."""
    trained = {parameter: parameter.requires_grad for parameter in base.parameters()}
    base.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in trained.items():
            parameter.requires_grad_(flag)


def adapted(base: nn.Module, config: PeftConfig) -> nn.Module:
    """A PEFT model around a copy of `base` that shares its weights, in training mode."""
    from peft import get_peft_model

    shared = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    copied: Any = copy.deepcopy(base, shared)
    copied.config.use_cache = False
    return get_peft_model(copied, copy.deepcopy(config)).train()


def training_step(model: Any, batch: tuple[int, int]) -> Step:
    """A function that makes one step on the same random tokens and returns its seconds."""
    optimizer = build_optimizer("adamw", model, LR)
    inputs = random_batch(model, batch)

    def step() -> float:
        started = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        model(**inputs).loss.backward()
        optimizer.step()
        return time.process_time() - started

    return step


def random_batch(model: Any, batch: tuple[int, int]) -> dict[str, Tensor]:
    """input_ids, attention_mask and labels (samples, tokens), and an intuition if the adapter routes by one."""
    ids = torch.randint(model.get_base_model().config.vocab_size, batch)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    config = model.active_peft_config
    if getattr(config, "intuition", False):
        inputs["intuition"] = torch.rand(batch[0], config.clusters)
    return inputs


def interleaved(steps: Mapping[str, Step], rounds: int) -> pd.DataFrame:
    """Seconds, one row per round and one column per label; garbage is collected only before the rounds."""
    labels = list(steps)
    rows = []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds + WARM_UP):
            turn = number % len(labels)
            # the model before decides what is in the caches, so each model is first in turn
            seconds = {label: steps[label]() for label in labels[turn:] + labels[:turn]}
            rows.append([seconds[label] for label in labels])
    finally:
        if collecting:
            gc.enable()
    return pd.DataFrame(rows[WARM_UP:], columns=labels)


def summary(seconds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The seconds of `Rounds` -> one row per method.

    Columns method, seconds (median over rounds), seconds_low, seconds_high (quartiles), ratio (median of a round's time
    / the reference's in the same round), ratio_low, ratio_high (95 % interval of this median, see `median_interval`),
    rounds.
    """
    rows = []
    for label in seconds:
        values = seconds[label].to_numpy()
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        ratios = median_interval(values / seconds[reference].to_numpy())
        rows.append((label, median, low, high, *ratios, len(values)))
    return pd.DataFrame(
        rows, columns=["method", "seconds", "seconds_low", "seconds_high", "ratio", "ratio_low", "ratio_high", "rounds"]
    )


def median_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """(median, low, high) of (n,) values: two order statistics that contain the median of any distribution.

    The number of values below the true median is binomial(n, 1/2). Fewer than six values have no such 95 % interval:
    low and high are then NaN.
    """
    from scipy.stats import binom

    ordered = np.sort(values)
    skipped = int(binom.ppf((1 - confidence) / 2, len(ordered), 0.5)) - 1  # values below the lower end
    if skipped < 0:
        return float(np.median(ordered)), float("nan"), float("nan")
    return float(np.median(ordered)), float(ordered[skipped]), float(ordered[-1 - skipped])


def random_decoder(
    hidden: int, inner: int, layers: int, vocabulary: int = 2000, head: int = 64, seed: int = 0
) -> nn.Module:
    """A Llama decoder of any size with random weights, because the cost of a step depends only on shapes.

    hidden: width, a multiple of `head`. inner: width of the feed-forward blocks. Raises ValueError for another width.

    >>> random_decoder(hidden=64, inner=128, layers=1, vocabulary=100).num_parameters()
    47552
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if hidden % head:
        raise ValueError(f"hidden = {hidden} must be a multiple of head = {head}, the width of an attention head")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // head,
        num_key_value_heads=hidden // head,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()
