"""The fast ways to an answer's likelihood and to a training step's loss, each tried on the model before it is trusted.

Scores over the vocabulary are computed at the answer's tokens only: the head is a fifth of a small model's cost. The
hidden states are gathered right before the model's output layer. All answers to a prompt are read in one packed row.
Whether a model gives the same numbers that way is not guessed: `gathers`, `gathers_loss` and `packs` try it on a row or
two.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import Trainer

from ..model_limits import REFUSALS, most_tokens
from ..peft_bridge import weighing
from ..tasks.batches import Question
from ..tasks.packing import Row, layout, packed_batch, plain_batch, reads_of
from . import distributed
from .recorders.recorder import HookedRecorder

MOST = 0.25  # of what another layout changes: a right one must change less, and half precision alone changes up to 0.14
SHORT = 128  # tokens of a row
MASK_TYPES = {"sdpa": torch.bool, "eager": None}  # attention that accepts our mask; None: additive, as the model's
WINDOWS = (  # in the last one's case, the angles of all positions are others in a longer row
    "sliding_window",
    "attention_chunk_size",
    "window_size",
    "local_attention",
    "max_position_embeddings",
    "original_max_position_embeddings",
)
PROBED = 24, 8  # tokens of the two answers of a made-up question


def answer_head(model: nn.Module) -> nn.Module | None:
    """The layer that makes scores of hidden states; None if there is none, or one that an adapter changes.

    An adapter knows the tokens of a batch by their places, so its layer must see all of them.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    adapted = isinstance(head, BaseTunerLayer | AuxiliaryTrainingWrapper)
    return head if isinstance(head, nn.Module) and not adapted else None


@contextmanager
def scores_at(head: nn.Module | None, row: Tensor, place: Tensor) -> Iterator[None]:
    """While inside, a model's logits are (1, reads, vocabulary): those of the hidden states at these rows and places.

    Without a head, nothing changes.
    """
    if head is None:
        yield
        return

    def gather(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]  # (batch, sequence, features)
        return hidden[row, place].unsqueeze(0), *inputs[1:]

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode that each of the model's modules was in comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def gathers(model: Any, batch: dict[str, Tensor]) -> bool:
    """Whether a model gives the scores at some places alone as it gives them among all.

    Args:
        model: A causal language model.
        batch: A small batch without labels.
    """
    head = answer_head(model)
    if head is None:
        return False
    row, place = torch.ones_like(batch["input_ids"]).nonzero(as_tuple=True)
    row, place = row[1::2], place[1::2]
    with evaluating(model):
        whole = model(**batch)
        try:
            with scores_at(head, row, place):
                some = model(**batch)
        except REFUSALS:
            return False
    return same_scores(some.logits, whole.logits, row, place)


def gathers_loss(model: Any, batch: dict[str, Tensor]) -> bool:
    """Whether a model gives the loss of some labels from the scores at these labels alone.

    Args:
        model: A causal language model, adapted or not.
        batch: A small batch with `labels` (batch, sequence), at least one of them not -100.
    """
    head = answer_head(model)
    if head is None:
        return False
    row, place, labels = at_answers(batch["labels"])
    with evaluating(model):
        whole = model(**batch)
        try:
            with scores_at(head, row, place):
                some = model(**batch | {"labels": labels, "shift_labels": labels})
        except REFUSALS:
            return False
    if not same_scores(some.logits, whole.logits, row, place):
        return False
    entropies = [cross_entropy(scores.float(), labels[0]) for scores in (some.logits[0], whole.logits[row, place])]
    beside = [out.loss - entropy for out, entropy in zip((some, whole), entropies)]  # a balance loss, say
    return bool((beside[0] - beside[1]).abs() <= 1e-5 * (1 + entropies[1]))


def same_scores(some: Tensor, whole: Tensor, row: Tensor, place: Tensor) -> bool:
    """Whether some scores (1, reads, vocabulary) are those of the whole (batch, sequence, vocabulary) at their places.

    The scores one place before are the measure: what differs by rounding is far nearer than they are.
    """
    right, wrong = whole[row, place], whole[row, (place - 1).clamp_min(0)]
    if some.shape != (1, *right.shape):
        return False
    off, measure = ((other - right).float().abs().mean() for other in (some[0], wrong))
    return bool(off <= MOST * measure)


@dataclass(frozen=True)
class Way:
    """How questions are put before a model.

    Attributes:
        packed: One row per question, else one per answer.
        gathered: Scores at the places that are read alone, else at all of them.
        mask_dtype: Type of the mask of packed rows.
    """

    packed: bool
    gathered: bool
    mask_dtype: torch.dtype = torch.bool


def read(
    model: nn.Module, rows: Sequence[Row], intuition: np.ndarray | None, pad: int, way: Way
) -> tuple[np.ndarray, np.ndarray]:
    """(log-likelihood, whether it is the most likely token) of every target of some rows, row by row."""
    device = next(model.parameters()).device
    batch = packed_batch(rows, pad, way.mask_dtype) if way.packed else plain_batch(rows, pad)
    if intuition is not None:
        batch["intuition"] = torch.as_tensor(intuition[[row.question for row in rows]], dtype=torch.float32)
    row, place = (index.to(device) for index in reads_of(rows))
    head = answer_head(model) if way.gathered else None
    with scores_at(head, row, place):
        logits = model(**{name: value.to(device) for name, value in batch.items()}, use_cache=False).logits
    logits = (logits[row, place] if head is None else logits[0]).float()  # (reads, vocabulary)
    before = np.cumsum([0, *(len(row.reads) for row in rows)])
    pairs = [(start + target[1], target[2]) for start, row in zip(before, rows) for target in row.targets]
    reads, tokens = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2).unbind(-1)
    normalizer, best = logits.logsumexp(-1), logits.argmax(-1)  # (reads,)
    values = logits[reads, tokens].double() - normalizer[reads].double()
    return values.cpu().numpy(), (best[reads] == tokens).cpu().numpy()


def way_for(model: nn.Module, questions: Sequence[Question], intuition: np.ndarray | None, pad: int) -> Way:
    """The fastest way to put some questions before a model that gives the numbers of plain rows.

    A packed row needs attention that takes our mask, positions that we can set, and no other way from one
    token to another, such as the state of a recurrent layer or a window. What a model's configuration does not show is
    tried: one prompt with two made-up answers is read both ways.
    """
    room = most_tokens(model)
    if not questions or (room is not None and room <= sum(PROBED)):
        return Way(packed=False, gathered=False)
    asked = probe(model, questions, room)
    first = None if intuition is None else intuition[:1]
    batch = plain_batch(layout([asked], [], [[True, True]], packed=False)[1:], pad)  # with the shorter answer
    if first is not None:
        batch["intuition"] = torch.as_tensor(first, dtype=torch.float32)
    device = next(model.parameters()).device
    way = Way(packed=False, gathered=gathers(model, {name: value.to(device) for name, value in batch.items()}))
    longest = max(len(one.prompt) + sum(len(answer) + 1 for answer in one.answers) for one in questions)
    mask_dtype = mask_type(model, longest)
    if mask_dtype is None or all(len(one.answers) == 1 for one in questions):
        return way
    packed = replace(way, packed=True, mask_dtype=mask_dtype)
    return packed if packs(model, asked, first, pad, packed) else way


def probe(model: Any, questions: Sequence[Question], room: int | None) -> Question:
    """The shortest of some prompts, cut to the model's room, and two answers made up of tokens that it knows."""
    first, second = PROBED
    ids = np.random.default_rng(0).integers(0, model.get_input_embeddings().weight.shape[0], first + second).tolist()
    prompt = min((one.prompt for one in questions), key=len)
    return Question(prompt if room is None else prompt[: room - len(ids)], [ids[:first], ids[first:]])


def mask_type(model: Any, length: int) -> torch.dtype | None:
    """The type of mask with which packed rows of some tokens may be tried; None if a model cannot take them."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "config") or getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return None
    config = base.config.get_text_config()
    limits = [value for name in WINDOWS if isinstance(value := getattr(config, name, None), int)]
    attention = getattr(config, "_attn_implementation", None)
    if (
        attention not in MASK_TYPES
        or config.is_encoder_decoder
        or getattr(base, "_is_stateful", False)
        or getattr(config, "alibi", False)
        or "position_ids" not in inspect.signature(base.forward).parameters
        or any(length > limit for limit in limits)
    ):
        return None
    return MASK_TYPES[attention] or base.dtype


def packs(model: nn.Module, asked: Question, intuition: np.ndarray | None, pad: int, way: Way) -> bool:
    """Whether packed rows give the likelihoods of plain ones.

    Two wrong layouts are the measure: in one, positions do not start again at the second answer; in the other, it sees
    the first one. The right layout must change what the second answer's tokens get, against plain rows, by no more than
    a small share of what either does.
    """
    plain = layout([asked], [], [[True, True]], packed=False)
    right = layout([asked], [], [[True, True]], packed=True)[0]
    running = replace(right, positions=list(range(len(right))))
    open_ = replace(right, segments=[min(segment, 1) for segment in right.segments])
    try:
        with evaluating(model):
            expected = read(model, plain, intuition, pad, replace(way, packed=False))[0]
            found = read(model, [right, running, open_], intuition, pad, way)[0].reshape(3, -1)
    except REFUSALS:
        return False
    behind = len(asked.answers[0]) + 1  # the second answer's first token is predicted from the prompt only
    off, *wrong = np.abs(found - expected)[:, behind:].mean(1)
    return bool(off <= MOST * min(wrong))


def at_answers(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The places of a causal model's scores of labels, and these labels.

    Args:
        labels: (batch, sequence), -100 where nothing is to be answered.

    Returns:
        Row and place of the scores (answers,), each one place before its label, and the labels (1, answers).

    Example:
        >>> [part.tolist() for part in at_answers(torch.tensor([[-100, -100, 7, 8], [-100, 9, -100, -100]]))]
        [[0, 0, 1], [1, 2, 0], [[7, 8, 9]]]
    """
    shifted = labels[:, 1:]
    row, place = (shifted != -100).nonzero(as_tuple=True)
    return row, place, shifted[row, place].unsqueeze(0)


def attention_of(tokens: int, device: torch.device, half: bool) -> AbstractContextManager[None]:
    """While inside, attention of short rows in half precision on a processor is plain matrix products.

    torch's fused kernel is several times as slow there: forward and backward of 16 rows of 22 tokens and 9 heads take
    11 ms with it and 3 ms without. Forward and backward must both be inside, or a checkpoint finds other tensors.
    """
    return sdpa_kernel(SDPBackend.MATH) if half and device.type == "cpu" and tokens <= SHORT else nullcontext()


class AnswerLoss(Trainer):
    """Trainer that scores the vocabulary at the labels only, counts right answers, and weights balance losses.

    Attributes:
        recorders: Record the step; they receive which tokens of the batch belong to this process.
        step_sums: Right answer tokens, all answer tokens, and the balance loss since they were last logged.
        answers_only: Whether the model's loss can be computed from the answers alone; known after the first batch.
    """

    recorders: Sequence[HookedRecorder]
    step_sums: dict[str, float]
    answers_only: bool | None = None

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        with attention_of(inputs["labels"].shape[-1], self.args.device, self.args.bf16):
            return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if any(recorder.active for recorder in self.recorders):
            tokens = distributed.place(int(inputs["attention_mask"].sum()))
            for recorder in self.recorders:
                recorder.place = tokens
        weight = inputs.pop("weight")  # of this process's share of the batch, 1 on average
        # the last update of an epoch may have fewer batches than gradient_accumulation
        share = weight / self.current_gradient_accumulation_steps
        row, place, labels = at_answers(inputs["labels"])
        head = self.head_of_answers(inputs)
        if head is not None:
            inputs = inputs | {"labels": labels, "shift_labels": labels}
        # the token loss is a sum over the whole accumulated batch, the balance loss a mean of each part; both are
        # multiplied by the processes, whose mean is taken when they put their gradients together
        balance_weight = share / distributed.world_size() if num_items_in_batch is not None else 1.0
        with weighing(balance_weight), scores_at(head, row, place):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        scores = outputs.logits[row, place] if head is None else outputs.logits[0]  # (answer tokens, vocabulary)
        right = scores.detach().argmax(-1) == labels[0]
        self.step_sums["right"] += right.sum().item()
        self.step_sums["answers"] += right.numel()
        balance = getattr(outputs, "balance_loss", None)
        if balance is not None:
            self.step_sums["balance_loss"] += share * balance.item()
        return (loss, outputs) if return_outputs else loss

    def head_of_answers(self, inputs: dict[str, Any]) -> nn.Module | None:
        """The layer that scores the answers alone; None if a model, or the user's own loss, needs all scores."""
        answered = (inputs["labels"] != -100).any(-1)
        if self.label_smoother is not None or self.compute_loss_func is not None or not answered.any():
            return None
        model = self.accelerator.unwrap_model(self.model)
        if self.answers_only is None:
            first = answered.int().argmax()
            kept = inputs["attention_mask"][first].bool()
            rows = {name: value[first : first + 1] for name, value in inputs.items()}
            tokens = ("input_ids", "attention_mask", "labels")
            batch = {name: value[:, kept] if name in tokens else value for name, value in rows.items()}
            self.answers_only = gathers_loss(model, batch)
        return answer_head(model) if self.answers_only else None
