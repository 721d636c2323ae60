"""What a trained model does with rows of a suite or with texts: how it routes each token, and what each layer gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import set_seed

from ...adapters import Adapter
from ...model_limits import check_reads
from ...peft_bridge import adapter_modules
from ...tasks.batches import Example, collate, encode, padding_of, prompt_ids, scores_by_row
from ...tasks.rows import shorten
from ..answers import evaluating
from ..evaluation import length_batches
from ..prepare import prepare_model
from ..run import Run
from .foreign_routers import foreign_routers
from .recorder import hooked

UNBOUNDED = 10**6  # tokenizers without a limit say 1e30
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


def record_gates(
    model: nn.Module,
    tokenizer: Any,
    frame: pd.DataFrame | str | Sequence[str],
    intuition: np.ndarray | None = None,
    max_length: int = 256,
    prompt_form: str = "options",
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Gates of every real token of the frame's texts: ({module: (tokens, experts)}, tokens).

    tokens has one line per token in the same order: row (position in `frame`), position (in the text), token_id, and
    dataset and group where the frame has them. A text beyond max_length tokens is cut. intuition: (rows, clusters) for
    models that route by it. T-REX's gates are flattened i-major. prompt_form: as the model was trained.

    frame may also be plain strings, one or several, which are read as they are and never cut. The model may also be a
    mixture of experts that is not ours, as `foreign_routers` reads it; of one with an encoder and a decoder, the
    encoder's routers are recorded. Raises ValueError for a model without a router, an intuition of other rows, an empty
    text, and a plain text longer than the model's context.

    >>> by_module, tokens = record_gates(model, tokenizer, test)
    >>> by_module[module].shape == (len(tokens), 4)
    True
    >>> tokens.columns.tolist()
    ['row', 'position', 'token_id', 'dataset', 'group']
    """
    reader, adapters = routers_of(model)
    if isinstance(frame, pd.DataFrame):
        examples = encode_checked(frame, tokenizer, model, max_length, prompt_form)
    else:
        examples = encode_texts(frame, tokenizer, model)
    intuition = scores_by_row(intuition, len(examples))
    kept: dict[str, list[np.ndarray]] = {name: [] for name in adapters}
    lines: list[pd.DataFrame] = []
    device = next(model.parameters()).device
    mask = torch.empty(0)

    def keep(name: str) -> Any:
        return lambda adapter, inputs, options, output: kept[name].append(real_gates(output[1].gates, mask).numpy())

    with hooked(adapters, keep), evaluating(model):
        for rows in length_batches([len(example.input_ids) for example in examples], device):
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
            f"{type(model).__name__} has no routed adapter and no known router of its own; wrap it with "
            "peft.get_peft_model(model, ma.TRexConfig(...)), or pass a mixture of experts"
        )
    return reader, adapters


def real_gates(gates: Tensor, mask: Tensor) -> Tensor:
    """`flat_gates`, also of gates (batch · sequence, experts), whose tokens are in one row."""
    flat = gates.dim() == 2 and len(gates) == mask.numel() != len(mask)
    return flat_gates(gates.unflatten(0, mask.shape) if flat else gates, mask)


def flat_gates(gates: Tensor, token_mask: Tensor | None) -> Tensor:
    """(batch, sequence, …) -> (tokens, experts) of the real tokens, float32 on the CPU."""
    flat = gates.flatten(2) if gates.dim() > 2 else gates.unsqueeze(1)
    flat = flat[token_mask.bool()] if token_mask is not None else flat.flatten(0, 1)
    return flat.float().cpu()


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


@dataclass(frozen=True)
class LayerBatch:
    """One adapted layer on the real tokens of a batch, float64 on the CPU.

    adapter: the trained module itself. inputs: (tokens, in). gradient: ∂L/∂y at the layer's output (tokens, out), of
    the model's mean loss over answer tokens, in nats. gates: (tokens, experts), T-REX's flattened i-major.
    """

    adapter: Adapter
    inputs: Tensor
    gradient: Tensor
    gates: Tensor


def layer_batches(
    model: nn.Module,
    tokenizer: Any,
    frame: pd.DataFrame,
    modules: Sequence[str] | None = None,
    intuition: np.ndarray | None = None,
    max_length: int = 256,
    prompt_form: str = "options",
) -> dict[str, LayerBatch]:
    """{module: LayerBatch} of the named adapted layers (None: all), from one forward and backward of the whole frame.

    Dropout is off, and the model is left as it was: no parameter gets a gradient, so a model loaded for inference
    serves too. intuition: (rows, clusters) for models that route by it. prompt_form: as the model was trained. Raises
    ValueError for a model without adapters, a module that is not adapted, and an intuition of other rows.

    >>> found = layer_batches(model, tokenizer, test)
    >>> batch = found[list(found)[-1]]
    >>> len(found), batch.inputs.shape == batch.gradient.shape
    (4, True)
    """
    adapters = adapter_modules(model)
    if unknown := [name for name in modules or [] if name not in adapters]:
        raise ValueError(f"modules {unknown} are not adapted; choose from {', '.join(adapters) or 'none at all'}")
    adapters = {name: adapters[name] for name in (adapters if modules is None else modules)}
    if not adapters:
        raise ValueError(
            f"{type(model).__name__} has no routed adapter to read; wrap it with, for example, MoeLoraConfig"
        )
    examples = encode_checked(frame, tokenizer, model, max_length, prompt_form)
    device = next(model.parameters()).device
    collated = collate(examples, padding_of(tokenizer), scores_by_row(intuition, len(examples)))
    batch = {key: value.to(device) for key, value in collated.items()}
    seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}  # inputs, gates, and zeros at which the gradient is taken

    def watch(name: str) -> Any:
        def hook(adapter: Adapter, inputs: Any, options: Any, output: Any) -> Any:
            delta, routing = output
            probe = torch.zeros_like(delta, requires_grad=True)  # a leaf, so that frozen parameters do not matter
            seen[name] = inputs[0].detach(), routing.gates.detach(), probe
            return delta + probe, routing

        return hook

    with hooked(adapters, watch), evaluating(model), torch.enable_grad():
        loss = model(**batch).loss
        gradients = torch.autograd.grad(loss, [seen[name][2] for name in adapters])
    mask = batch["attention_mask"].reshape(-1).bool()
    found = {}
    for (name, adapter), gradient in zip(adapters.items(), gradients):
        inputs, gates, _ = seen[name]
        found[name] = LayerBatch(adapter, *(real_tokens(values, mask) for values in (inputs, gradient, gates)))
    return found


def real_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """values (batch, sequence, …), mask (batch · sequence,) -> (tokens, …) of the real tokens, float64 on the CPU."""
    return values.reshape(len(mask), -1)[mask].double().cpu()


def encode_checked(
    frame: pd.DataFrame, tokenizer: Any, model: nn.Module, max_length: int, prompt_form: str
) -> list[Example]:
    """Token ids of every row, an answer that is too long cut. Raises ValueError for a row that the model cannot read."""
    examples = encode(frame, tokenizer, max_length, cut_answers=True, prompt_form=prompt_form)
    rows = [example.input_ids for example in examples]
    check_reads(model, max(map(len, rows), default=0), max((max(ids) for ids in rows), default=0), max_length)
    return examples


def encode_texts(texts: str | Sequence[str], tokenizer: Any, model: nn.Module) -> list[Example]:
    """Token ids of every text with the tokenizer's beginning token, none of them cut.

    Raises:
        ValueError: For a text that is not a string, is empty, or has more tokens than the model's context.
    """
    listed = checked_texts(texts)
    most = context_length(model, tokenizer)
    examples = []
    for place, ids in enumerate(prompt_ids(listed, tokenizer)):
        if not ids:
            raise ValueError(f"texts[{place}] = {shorten(listed[place])} has no token for this tokenizer")
        if most is not None and len(ids) > most:
            raise ValueError(
                f"texts[{place}] = {shorten(listed[place])} has {len(ids)} tokens, more than the model's context of "
                f"{most}; split it into shorter texts"
            )
        examples.append(Example(ids, len(ids)))
    return examples


def checked_texts(texts: str | Sequence[str]) -> list[str]:
    """One text or several as a list; ValueError for no text, for a value that is not a string, and for an empty text."""
    if not isinstance(texts, str) and not isinstance(texts, Iterable):
        raise ValueError(f"texts = {texts!r} is {type(texts).__name__}; pass one string or several")
    listed: list[Any] = [texts] if isinstance(texts, str) else list(texts)
    if not listed:
        raise ValueError("texts is empty; pass one string or more")
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            raise ValueError(f"texts[{place}] = {text!r} is {type(text).__name__}; pass strings")
        if not text.strip():
            raise ValueError(f"texts[{place}] = {text!r} is empty; pass a text with at least one word")
    return listed


def context_length(model: Any, tokenizer: Any) -> int | None:
    """The most tokens that a model reads at once; None where neither it nor its tokenizer has a limit."""
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    told = [getattr(config, name, None) for name in CONTEXTS] + [getattr(tokenizer, "model_max_length", None)]
    known = [int(most) for most in told if isinstance(most, (int, float)) and 0 < most < UNBOUNDED]
    return min(known, default=None)
