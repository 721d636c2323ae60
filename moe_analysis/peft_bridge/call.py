"""One forward pass of an adapted model: what its layers need to know, and where they find it.

A forward pass is a `Call`. It holds the intuition of the samples, which tokens are real, which adapter a row takes,
and the balance losses of the layers. Nothing of it is kept on the model, so no later pass can change it.

    begin    a hook before a model's forward opens a Call and puts it on the stack of this thread
    layers   read the top of the stack, `current()`, and add their balance loss to it
    end      a hook after the forward takes the Call off and hands the balance losses to the output

torch runs no hook after a KeyboardInterrupt. A Call that is left on the stack is recognized by its frame, which
no longer runs, and is dropped at the next look.

The hooks are on the model itself, so they work for every entry point: `get_peft_model`, transformers' `add_adapter` and
`load_adapter`, `inject_adapter_in_model`. A model inside the model (an encoder, a decoder, a vision tower) opens a Call
for its own sequence that shares everything else. Gradient checkpointing runs a block again in the backward pass, when
its Call is over: the blocks of a training model are checkpointed by `Checkpoint`, which opens the same Call again.
`model.generate` is a session on the same stack, from which the forward passes of its steps take their intuition.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import Adapter, RoutingContext

CHECKPOINTS = ("_gradient_checkpointing_func", "checkpoint_fn")  # of transformers, of torch.distributed


class Stack(threading.local):
    """The calls that are open in a thread, the innermost last."""

    def __init__(self) -> None:
        self.calls: list[Call] = []


OPEN = Stack()
NO_GRADIENT = (
    "a layer with a balance loss runs without gradients inside a pass with gradients (torch.no_grad, or a checkpoint "
    "made by hand with use_reentrant=True), so its routers would not be balanced; use use_reentrant=False, or leave "
    "the layer out of target_modules"
)

ALONE = (
    "forward of this {} was called by itself, so no hook runs, and its balance loss, intuition and adapter_names would be "
    "lost; call the model: model(...), not model.forward(...)"
)


@dataclass
class Call:
    """One forward pass.

    Attributes:
        opened_by: What opened it, and closes it.
        frame: The frame in which torch runs the hooks and the forward between them; None if a `with` statement
            closes the Call, and while torch.compile traces.
        intuition: (samples, clusters), for T-REX.
        token_mask: (samples, tokens), nonzero where a token is real; of the sequence that the layers see now.
        alone: Whether the model has no other sequence than that of the mask, and what may be computed from it.
        shortened: The mask of an audio model's frames, from their number and the mask of its samples.
        target_mask: The token mask of the decoder's sequence, if the whole model has an encoder too.
        encoded: The encoder's output that a decoder's cross-attention reads, and its token mask.
        adapter_names: The adapter of each sample; None: the active ones for all.
        samples, tokens: The shape of the input; None if it is not known.
        generating: Whether this is a session of `generate`, in which beams repeat the samples.
        with_grad: Whether the pass began with gradients enabled.
        active: The adapters that each layer used, by the layer's id: a recomputed block uses the same.
        ran, read: The layers that ran, and those whose weight was read from outside, by name.
        balance_losses: One scalar per balanced layer, already times its coefficient.
        pull: How the gradient of the balance loss reaches a block whose first run built no graph.
    """

    opened_by: Any = None
    frame: FrameType | None = None
    intuition: Tensor | None = None
    token_mask: Tensor | None = None
    alone: bool = False
    shortened: Any = None
    target_mask: Tensor | None = None
    encoded: tuple[Tensor, Tensor | None] | None = None
    adapter_names: list[str] | None = None
    samples: int | None = None
    tokens: int | None = None
    generating: bool = False
    shared: bool = False  # a part of the Call below it on the stack
    checkpointed: bool = False  # inside a block that the backward pass runs again
    again: bool = False  # the backward pass runs it again now
    with_grad: bool = True
    active: dict[int, list[str]] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    balance_losses: list[Tensor] = field(default_factory=list)
    pull: Pull = field(default_factory=lambda: Pull())
    last_context: RoutingContext | None = None  # of the layer before

    def context(self, x: Tensor, layer: str, adapter: Adapter) -> RoutingContext:
        """What the router of one layer may know about its input x (…, in); one object for layers that know the same."""
        scores, mask, last = self._intuition_of(x, layer), self._mask_of(x, layer, adapter), self.last_context
        if torch.compiler.is_compiling():
            return RoutingContext(scores, mask)
        if last is None or last.intuition is not scores or last.token_mask is not mask:
            last = self.last_context = RoutingContext(scores, mask)
        return last

    def _intuition_of(self, x: Tensor, layer: str) -> Tensor | None:
        scores, rows = self.intuition, x.shape[0]
        if scores is None or rows == len(scores):
            return scores
        if rows == 0 or len(scores) == 1:
            return scores[:1].expand(rows, -1)
        if x.dim() == 2 and self.tokens and rows == len(scores) * self.tokens:  # a model that flattens its tokens
            return scores.repeat_interleave(self.tokens, 0)
        raise ValueError(
            f"layer {layer} gets {tuple(x.shape[:-1])} rows for {len(scores)} samples, so it is unknown which row belongs "
            "to which sample's intuition (a block that regroups its tokens?); leave it out of target_modules"
        )

    def _mask_of(self, x: Tensor, layer: str, adapter: Adapter) -> Tensor | None:
        mask, rows = self.token_mask, x.shape[:-1]
        if self.encoded is not None:
            states, encoded = self.encoded
            if x is states or (mask is not None and rows != mask.shape and rows == states.shape[:-1]):
                mask = encoded
        if mask is None or rows == mask.shape or (x.dim() == 2 and len(x) == mask.numel()):
            return mask
        if len(x) in (0, len(mask)):
            if x.dim() == 2 or rows[1] == 1 or not self.alone or not balance_weight(adapter):
                return None  # pooled, a prefix, patches of an image
            if self.shortened is not None and rows[1] < mask.shape[1]:
                return self.shortened(rows[1], mask)
        if not balance_weight(adapter) or bool(mask.all()):
            return None
        raise ValueError(
            f"layer {layer} gets {tuple(rows)} rows but the attention mask has {tuple(mask.shape)} tokens, so its "
            "balance loss cannot exclude padding (a block that regroups its tokens?); set balance_coef=0, or leave "
            "the layer out of target_modules"
        )

    def add(self, balance_loss: Tensor, y: Tensor) -> Tensor:
        """Keep one layer's balance loss.

        Args:
            balance_loss: A scalar.
            y: The layer's output.

        Returns:
            The output, through which the balance loss gets its gradient in the recompute of a reentrant checkpoint:
            the first run of such a block has no graph.

        Raises:
            ValueError: If gradients are off in a part of a pass that began with them: the balance loss would have no
                gradient, without a word.
        """
        if self.again:
            gradient = self.pull.gradient if self.pull.needed else None
            return y if gradient is None else Pulled.apply(y, balance_loss, gradient)
        if self.with_grad and not torch.is_grad_enabled():
            if not self.checkpointed:
                raise ValueError(NO_GRADIENT)
            self.pull.needed = True
        self.balance_losses.append(balance_loss)
        return y


@dataclass
class Pull:
    """The gradient of the balance loss as the backward pass finds it, before it runs any block again."""

    needed: bool = False
    gradient: Tensor | None = None

    def watched(self, balance_loss: Tensor) -> Tensor:
        """The balance loss, whose gradient is kept here; its own graph is left where there is one."""
        return Watched.apply(balance_loss, torch.zeros((), requires_grad=True), self) if self.needed else balance_loss


class Watched(torch.autograd.Function):
    """The identity; its backward pass, the first of all since it was made last, keeps the gradient."""

    @staticmethod
    def forward(ctx: Any, balance_loss: Tensor, leaf: Tensor, pull: Pull) -> Tensor:
        ctx.pull = pull
        return balance_loss.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.pull.gradient = grads[0]
        return grads[0], None, None


class Pulled(torch.autograd.Function):
    """A layer's output; its backward pass gives the layer's balance loss the gradient that was kept."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, balance_loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient, ctx.like = gradient, balance_loss.dtype
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return grads[0], ctx.gradient.to(grads[0].device, ctx.like), None


def current() -> Call | None:
    """The innermost open call of this thread."""
    while OPEN.calls and not torch.compiler.is_compiling() and not runs(OPEN.calls[-1].frame):
        OPEN.calls.pop()
    return OPEN.calls[-1] if OPEN.calls else None


def runs(frame: FrameType | None) -> bool:
    """Whether a frame is among the callers of this function; None counts as one that is."""
    caller: FrameType | None = None if frame is None else sys._getframe(1)
    while caller is not frame:
        if caller is None:
            return False
        caller = caller.f_back
    return True


def called_alone() -> nn.Module | None:
    """The adapted model whose `forward` was called by itself and runs now: torch runs the hooks in `__call__`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_locals.get("self") if frame.f_code.co_name == "forward" else None
        if isinstance(module, nn.Module):
            owners = (getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values())
            if any(getattr(owner, "outermost", False) for owner in owners):
                return module
        frame = frame.f_back
    return None


def in_backward() -> bool:
    """Whether autograd runs a backward pass now, so that a layer without a Call is being recomputed."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def balance_weight(adapter: Adapter) -> float:
    """The coefficient of an adapter's balance loss; 0 if it has none."""
    config = adapter.config
    return getattr(config, "balance_weight", None) or getattr(config, "balance_coef", None) or 0.0


@contextmanager
def opened(call: Call) -> Iterator[Call]:
    """Keep a call open while the block runs.

    >>> layer = ma.adapters.MoeLora(16, 16, ma.adapters.MoeLoraConfig(num_experts=4))
    >>> with opened(Call(intuition=torch.rand(2, 6))) as call:
    ...     current() is call
    True
    """
    depth = len(OPEN.calls)
    OPEN.calls.append(call)
    try:
        yield call
    finally:
        del OPEN.calls[depth:]


@dataclass
class Again:
    """A function that opens the Call of its first run again whenever it is run once more."""

    function: Any
    call: Call
    ran: bool = False
    encoded_at: int | None = None  # which argument is the encoder's output

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = replace(self.call, frame=None, checkpointed=True, again=self.ran)
        if call.encoded is not None:  # a reentrant checkpoint hands copies of its arguments to the second run
            if not self.ran:
                self.encoded_at = next((place for place, value in enumerate(args) if value is call.encoded[0]), None)
            elif self.encoded_at is not None:
                call.encoded = (args[self.encoded_at], call.encoded[1])
        self.ran = True
        with opened(call):
            return self.function(*args, **kwargs)


@dataclass
class Checkpoint:
    """A checkpoint function of torch whose recompute sees the Call of the pass that it repeats."""

    checkpoint: Any

    @torch.compiler.disable  # a compiled checkpoint may not add a balance loss to the Call
    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self.checkpoint(keeping_call(function), *args, **kwargs)


def keeping_call(function: Any) -> Any:
    """The function for a checkpoint made by hand, `checkpoint(keeping_call(block), x, use_reentrant=False)`.

    Its recompute sees the forward pass that it repeats, as that of transformers' gradient checkpointing does.
    """
    call = current()
    return function if call is None or torch.compiler.is_compiling() else Again(function, call)


@torch.compiler.disable
def keep_calls(blocks: list[Any]) -> None:
    """Let the checkpointed blocks of a model keep their calls for the recompute; outside of a compiled graph."""
    for block in blocks:
        for name in CHECKPOINTS:
            function = block.__dict__.get(name)
            if function is not None and not isinstance(function, Checkpoint):
                setattr(block, name, Checkpoint(function))
