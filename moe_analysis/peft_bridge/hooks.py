"""The hooks of an adapted model: they open a `Call` before its forward and pass on what its layers stored in it."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .call import ALONE, CHECKPOINTS, OPEN, Call, balance_weight, called_alone, current, keep_calls, opened
from .layer import AdapterLayer
from .loss import hand_over
from .masks import is_alone, mask_of, shape_of, shortened, target_mask, without_padding
from .prompts import CacheMemory, PromptIntuition, prompts_of, reads
from .rows import adapter_of_rows, give_rows_their_modules


@dataclass
class Adapted:
    """A model that adapters were injected into; one object for all of its hooks.

    Attributes:
        model: The model.
        blocks: Its modules that gradient checkpointing may run again.
        layers: Its adapted layers.
        held: The clusters that its adapters hold, by adapter name.
        caches: The intuition of the prompts in key-value caches.
        warned: Whether the user was warned of a balance loss that took no part in a backward pass.
    """

    model: nn.Module
    blocks: list[nn.Module] = field(default_factory=list)
    layers: list[AdapterLayer] = field(default_factory=list)
    held: dict[str, PromptIntuition] = field(default_factory=dict)
    caches: CacheMemory = field(default_factory=CacheMemory)
    warned: bool = False

    def look(self) -> None:
        """Find what the model consists of now."""
        modules = list(self.model.modules())
        self.blocks = [
            block
            for block in modules
            if hasattr(block, "gradient_checkpointing") or any(name in block.__dict__ for name in CHECKPOINTS)
        ]
        self.layers = [module for module in modules if isinstance(module, AdapterLayer)]
        self.held = prompts_of(self.model)

    @property
    def routes_by_intuition(self) -> bool:
        """Whether any adapter of the model, active or not, routes by intuition."""
        return any(getattr(one.config, "intuition", False) for layer in self.layers for one in layer.adapters.values())

    @property
    def balanced(self) -> bool:
        """Whether any adapter of the model, active or not, has a balance loss."""
        return any(balance_weight(one) for layer in self.layers for one in layer.adapters.values())

    @property
    def balances_checkpoints(self) -> bool:
        """Whether a layer has a balance loss and a block may run again."""
        checkpointed = any(
            getattr(block, "gradient_checkpointing", False) and any(name in block.__dict__ for name in CHECKPOINTS)
            for block in self.blocks
        )
        return checkpointed and self.balanced

    def read(self, inputs: dict[str, Any], rows: list[str] | None, cached: bool) -> Tensor | None:
        """Intuition (samples, clusters) from the prompts of a model's inputs.

        Args:
            inputs: Arguments of the model by name.
            rows: The adapter of each sample; None: the active ones for all of them.
            cached: Whether a key-value cache among the inputs holds the prompts, and `input_ids` what follows.

        Returns:
            None if no adapter that needs an intuition holds clusters.
        """
        if not self.held or self.layers[0].disable_adapters:
            return None
        routed = {
            name
            for layer in self.layers
            for name, one in layer.adapters.items()
            if getattr(one.config, "intuition", False)
        }
        names = [name for name in dict.fromkeys(rows or self.layers[0].active_adapters) if name in routed]
        if not any(name in self.held for name in names):
            return None
        if cached and (kept := self.caches.recall(inputs)) is not None:
            return kept
        return reads(self.held, names, rows, inputs, self.model)


@dataclass
class CallHooks:
    """`begin` before and `end` after the forward of a model, or of a model inside the adapted one.

    Attributes:
        adapted: The adapted model.
        outermost: Whether this is the adapted model itself.
        names: Names of the positional arguments of the forward.
    """

    adapted: Adapted
    outermost: bool
    names: tuple[str, ...]

    def begin(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Open a Call; takes `intuition` and `adapter_names`, which the model itself does not know.

        Raises:
            ValueError: For an intuition or adapter names that do not fit the samples or the model.
        """
        frame = None if torch.compiler.is_compiling() else sys._getframe(1)
        call, outer = Call(opened_by=self, frame=frame, with_grad=torch.is_grad_enabled()), current()
        OPEN.calls.append(call)  # before anything is refused: `end` takes it off in any case
        known = {name: value for name, value in kwargs.items() if name not in ("intuition", "adapter_names")}
        inputs = dict(zip(self.names, args)) | known
        session = outer if outer is not None and outer.opened_by is self.adapted else None
        inside = not self.outermost and outer is not None and isinstance(outer.opened_by, CallHooks)
        if inside and outer.opened_by.adapted is self.adapted:
            OPEN.calls[-1] = part_of(outer, call, inputs, module)
            return args, known
        if not self.outermost and not torch.compiler.is_compiling():
            self._refuse_alone(kwargs)
        call.samples, call.tokens = shape_of(inputs)
        if "decoder_input_ids" in self.names:
            call.token_mask = call.target_mask = target_mask(inputs, module)
        else:
            call.token_mask = mask_of(inputs, "attention_mask", call.tokens)
            call.alone, call.shortened = is_alone(inputs, call.token_mask), shortened(module)
        names = kwargs.get("adapter_names")
        call.adapter_names = adapter_of_rows(call, names, session, self.adapted.layers, module.training)
        if call.adapter_names is not None:
            give_rows_their_modules(self.adapted.model)
        call.intuition = self._intuition(call, kwargs.get("intuition"), session, inputs)
        if module.training and (not torch.compiler.is_compiling() or self.adapted.balances_checkpoints):
            keep_calls(self.adapted.blocks)
        return args, known

    def end(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        """Close the Call; its balance losses join the output of the outermost model.

        Raises:
            ValueError: If the model computed with the weight of an adapted layer and did not call the layer.
        """
        call = OPEN.calls.pop()
        while call.opened_by is not self:  # left behind by an interrupt
            call = OPEN.calls.pop()
        call.frame = None  # which holds the arguments; a checkpoint may keep the Call
        if output is None or call.shared:
            return None
        if call.read:
            refuse_bypassed(call, self.adapted.layers)
        if call.intuition is not None and self.adapted.held:
            self.adapted.caches.keep(output, call.intuition)
        labeled = kwargs.get("labels") is not None or dict(zip(self.names, args)).get("labels") is not None
        return hand_over(call, output, module, kwargs, labeled, self.adapted)

    def _refuse_alone(self, kwargs: dict[str, Any]) -> None:
        """Raise ValueError if the forward of the whole model was called by itself and what its hooks do would be lost."""
        unread = self.adapted.held and kwargs.get("intuition") is None  # a part does not see the labels
        lost = unread or kwargs.get("adapter_names") is not None or self.adapted.balanced
        if lost and called_alone() is self.adapted.model:
            raise ValueError(ALONE.format(type(self.adapted.model).__name__))

    def _intuition(self, call: Call, given: Any, session: Call | None, inputs: dict[str, Any]) -> Tensor | None:
        if given is None and session is not None:
            given = session.intuition
        if given is None:
            given = self.adapted.read(inputs, call.adapter_names, cached=True)
        if given is None:
            return None
        scores = checked_intuition(given, self.adapted)
        if call.samples in (None, len(scores)):
            return scores
        if session is not None and len(scores) and call.samples % len(scores) == 0:  # beams are next to each other
            return scores.repeat_interleave(call.samples // len(scores), 0)
        raise ValueError(
            f"intuition has {len(scores)} rows but the batch has {call.samples} samples; pass one row per sample"
        )


def refuse_bypassed(call: Call, layers: list[AdapterLayer]) -> None:
    """Raise ValueError if the weight of a layer was read in a pass that did not call it, so its adapters did nothing."""
    for layer in layers:
        used = layer.active_adapters if call.adapter_names is None else call.adapter_names
        has_adapter = not layer.disable_adapters and any(name in layer.adapters for name in used)
        if layer.key in call.read and layer.key not in call.ran and has_adapter:
            raise ValueError(
                f"layer {layer.key} was not called, because the model reads its weight instead, so its adapter did "
                "nothing; leave it out of target_modules, or, for torch.nn.TransformerEncoderLayer, call "
                "torch.backends.mha.set_fastpath_enabled(False)"
            )


def part_of(outer: Call, call: Call, inputs: dict[str, Any], module: nn.Module) -> Call:
    """The Call of a model inside the model: who opened it and its sequence are its own, all else is the whole's."""
    samples, tokens = shape_of(inputs)
    given, states = inputs.get("attention_mask"), inputs.get("encoder_hidden_states")
    encoded = (states, mask_of(inputs, "encoder_attention_mask", None)) if isinstance(states, Tensor) else None
    # a mask that the outer model has prepared (four dimensions, or one for each kind of layer) is that of its tokens
    prepared = given is not None and not (isinstance(given, Tensor) and given.dim() == 2)
    mask = outer.token_mask if prepared else mask_of(inputs, "attention_mask", tokens)
    if given is None and encoded is not None:  # a decoder
        mask = outer.target_mask
        if mask is None or mask.shape != (samples, tokens):
            mask = without_padding(inputs.get("input_ids"), module)
    own = {"opened_by": call.opened_by, "frame": call.frame, "samples": samples, "tokens": tokens}
    own |= {"alone": encoded is None and is_alone(inputs, mask), "shortened": shortened(module)}
    return replace(outer, shared=True, token_mask=mask, encoded=encoded, **own)


def checked_intuition(given: Any, adapted: Adapted) -> Tensor:
    """Scores (samples, clusters) as a tensor.

    Raises:
        ValueError: If they are not such a table, or no adapter of the model routes by intuition.
    """
    if not adapted.routes_by_intuition:
        raise ValueError(
            "intuition was passed, but no adapter of this model routes by it; leave it out, or use "
            "TRexConfig(intuition=True)"
        )
    try:
        scores = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"intuition is a {type(given).__name__}; pass a tensor or an array (samples, clusters)"
        ) from error
    if scores.dim() != 2:
        raise ValueError(f"intuition has the shape {tuple(scores.shape)}; pass (samples, clusters)")
    return scores


@dataclass
class Generate:
    """`model.generate` with `intuition` and `adapter_names`, one per prompt; on the model in place of the method."""

    adapted: Adapted

    def __call__(self, *args: Any, intuition: Any = None, adapter_names: list[str] | None = None, **kwargs: Any) -> Any:
        model, outer = self.adapted.model, current()
        session = Call(opened_by=self.adapted, generating=True, adapter_names=adapter_names)
        if adapter_names is None and outer is not None and outer.opened_by is self.adapted:
            session.adapter_names = outer.adapter_names
        if intuition is not None:
            session.intuition = checked_intuition(intuition, self.adapted)
        else:
            session.intuition = self._read(dict(zip(("inputs",), args)) | kwargs, session.adapter_names)
        with opened(session):
            return type(model).generate(model, *args, **kwargs)

    def _read(self, given: dict[str, Any], rows: list[str] | None) -> Tensor | None:
        ids = given.get("input_ids") if given.get("input_ids") is not None else given.get("inputs")
        mask = given.get("attention_mask")
        # transformers' own rule: with a mask that is longer than the ids, these are what a cache does not hold yet
        cached = isinstance(mask, Tensor) and isinstance(ids, Tensor) and mask.shape[-1] > ids.shape[-1]
        return self.adapted.read(given | {"input_ids": ids}, rows, cached)


def watch(model: nn.Module) -> Adapted:
    """Put the hooks on a model and on every transformers model inside it; once is enough.

    Returns:
        What the hooks share.
    """
    if (whole := part_of_adapted(model)) is not None:
        whole.look()
        return whole
    adapted = adapted_of(model) or Adapted(model)
    adapted.look()
    for inner in model.modules():
        if inner is not model and not isinstance(inner, PreTrainedModel):
            continue
        unwatch(inner)  # a part that was adapted before on its own is now part of the whole
        hooks = CallHooks(adapted, inner is model, argument_names(inner))
        inner.register_forward_pre_hook(hooks.begin, with_kwargs=True)
        inner.register_forward_hook(hooks.end, with_kwargs=True, always_call=True)
    if hasattr(type(model), "generate"):
        model.generate = Generate(adapted)
    return adapted


def unwatch(model: nn.Module) -> None:
    """Take the hooks of a model off again."""
    for hooks in (model._forward_pre_hooks, model._forward_hooks):
        for key, hook in list(hooks.items()):
            if isinstance(getattr(hook, "__self__", None), CallHooks):
                del hooks[key]
                for options in (
                    model._forward_pre_hooks_with_kwargs,
                    model._forward_hooks_with_kwargs,
                    model._forward_hooks_always_called,
                ):
                    options.pop(key, None)
    if isinstance(model.__dict__.get("generate"), Generate):
        del model.generate


def hooks_of(model: nn.Module) -> CallHooks | None:
    owners = (getattr(hook, "__self__", None) for hook in model._forward_pre_hooks.values())
    return next((owner for owner in owners if isinstance(owner, CallHooks)), None)


def adapted_of(model: nn.Module) -> Adapted | None:
    """What the hooks of a model share; None if it has none, or those of a larger model."""
    hooks = hooks_of(model)
    return hooks.adapted if hooks is not None and hooks.outermost else None


def part_of_adapted(model: nn.Module) -> Adapted | None:
    """The larger model that has hooks on this one; None if there is none."""
    hooks = hooks_of(model)
    return hooks.adapted if hooks is not None and not hooks.outermost else None


def argument_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the positional arguments of a model's forward, in their order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(type(model).forward).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)[1:]
