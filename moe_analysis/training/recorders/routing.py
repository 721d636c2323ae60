"""The routing of a trained model, token by token: what the analyses of used experts and subspaces read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import set_seed

from ...peft_bridge import adapter_modules
from ...tasks.batches import collate, encode
from ..likelihoods import batches_of
from ..prepare import prepare_model
from ..run import Run
from .foreign_routers import foreign_routers
from .plain_texts import encode_texts
from .recorder import flat_gates


@torch.no_grad()
def record_gates(
    model: nn.Module,
    tokenizer: Any,
    frame: pd.DataFrame | str | Sequence[str],
    intuition: np.ndarray | None = None,
    max_length: int = 256,
    prompt_form: str = "options",
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Gates of every real token of the frame's texts: ({module: (tokens, experts)}, tokens).

    tokens has one line a token in the same order: row (position in `frame`), position (in the text), token_id, and
    dataset and group where the frame has them. A text beyond max_length tokens is cut. intuition: (rows, clusters) for
    models that route by it. T-REX's gates are flattened i-major. prompt_form: as the model was trained.

    frame may also be plain strings, one or several, which are read as they are and never cut. The model may also be a
    mixture of experts that is not ours, as `foreign_routers` reads it; of one with an encoder and a decoder, the
    encoder's routers are recorded. Raises ValueError for a model without a router, an empty text, and a plain text
    longer than the model's context.

    >>> by_module, tokens = record_gates(model, tokenizer, test)
    >>> by_module[module].shape == (len(tokens), 4)
    True
    >>> tokens.columns.tolist()
    ['row', 'position', 'token_id', 'dataset', 'group']
    """
    reader, adapters = routers_of(model)
    if isinstance(frame, pd.DataFrame):
        examples = encode(frame, tokenizer, max_length, cut_answers=True, prompt_form=prompt_form)
    else:
        examples = encode_texts(frame, tokenizer, model)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in adapters}
    lines: list[pd.DataFrame] = []
    device = next(model.parameters()).device
    mask: torch.Tensor = torch.empty(0)

    def keep(name: str) -> Any:
        return lambda adapter, inputs, output: kept[name].append(real_gates(output[1].gates, mask).numpy())

    handles = [adapter.register_forward_hook(keep(name)) for name, adapter in adapters.items()]
    training = model.training
    model.eval()
    try:
        for rows in batches_of([len(example.input_ids) for example in examples], device):
            scores = None if intuition is None else intuition[rows]
            batch = collate([examples[i] for i in rows], padding_of(tokenizer), scores)
            batch.pop("labels")
            mask = batch["attention_mask"]
            reader(**{key: value.to(device) for key, value in batch.items()})
            row, position = mask.nonzero(as_tuple=True)
            lines.append(
                pd.DataFrame(
                    {
                        "row": rows[row.numpy()],
                        "position": position.numpy(),
                        "token_id": batch["input_ids"][row, position].numpy(),
                    }
                )
            )
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    tokens = pd.concat(lines, ignore_index=True)
    if isinstance(frame, pd.DataFrame):
        tokens[["dataset", "group"]] = frame[["dataset", "group"]].to_numpy()[tokens["row"]]
    return {name: np.concatenate(parts) for name, parts in kept.items()}, tokens


def routers_of(model: Any) -> tuple[nn.Module, dict[str, Any]]:
    """(what reads the texts, its routers by name): our adapters, else the model's own routers.

    Raises ValueError for a model without either.
    """
    adapters: dict[str, Any] = adapter_modules(model) or foreign_routers(model)
    reader = model
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        reader = model.get_encoder()
        inside = {id(part) for part in reader.modules()}
        adapters = {name: one for name, one in adapters.items() if id(getattr(one, "module", one)) in inside}
    if not adapters:
        raise ValueError(
            f"{type(model).__name__} has no routed adapter and no router of its own that is known; wrap it with "
            "peft.get_peft_model(model, ma.TRexConfig(...)), or pass a mixture of experts"
        )
    return reader, adapters


def real_gates(gates: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`flat_gates`, also of gates (batch · sequence, experts), whose tokens stand in one row."""
    flat = gates.dim() == 2 and len(gates) == mask.numel() != len(mask)
    return flat_gates(gates.unflatten(0, mask.shape) if flat else gates, mask)


def padding_of(tokenizer: Any) -> int:
    """The id that fills up a batch, whose tokens nobody reads: the padding's or, without one, the end's."""
    return next((one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None), 0)


def gates_of_runs(
    runs: Iterable[Run], frame: pd.DataFrame, trained: bool = True
) -> list[tuple[Run, dict[str, np.ndarray], pd.DataFrame]]:
    """`record_gates` of every run, with its own intuition: [(run, {module: gates (tokens, experts)}, tokens)].

    trained=False: of the models before their first step, which their configurations make again.

    >>> run, by_module, tokens = gates_of_runs(runs[:1], test)[0]
    >>> run.config.name, by_module[module].shape == (len(tokens), 4)
    ('LoRA-MoE', True)
    """
    return [
        (
            run,
            *record_gates(
                model_of(run, trained),
                run.tokenizer,
                frame,
                run.intuition(frame),
                run.config.max_length,
                run.config.form,
            ),
        )
        for run in runs
    ]


def model_of(run: Run, trained: bool = True) -> Any:
    """A run's model, or the one that it began with."""
    if trained:
        return run.model()
    run.require_adapter()
    set_seed(run.config.seed)
    return prepare_model(run.config)[0]
