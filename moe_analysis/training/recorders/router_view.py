"""A router of somebody else's model as recorders see an adapter of ours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ...adapters import RoutingContext


class SeenRouting:
    """The routing of one forward pass. Its gates are computed when somebody asks for them."""

    balance_loss = None

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self.compute = compute

    @cached_property
    def gates(self) -> Tensor:
        return self.compute()


class RouterView(ABC):
    """One router of somebody else's, as recorders see an adapter.

    Args:
        root: The model that is called, whose batches tell which tokens are real.
        module: The module whose forward pass shows the gates.
        num_gates: Experts.
        top_k: Experts of a token; None where the router does not tell.
        system: The kind of mixture in lower case, such as "mixtral".
        decodes: Whether its tokens are those of a decoder that has an encoder.
    """

    def __init__(
        self, root: Any, module: Any, num_gates: int, top_k: int | None, system: str, decodes: bool = False
    ) -> None:
        self.root, self.module, self.decodes = root, module, decodes
        self.num_gates, self.top_k, self.system = num_gates, top_k, system

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.module).__name__}, num_gates={self.num_gates}, top_k={self.top_k})"

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The router's matrix (experts, in); its `grad` is that of the last backward pass."""

    @abstractmethod
    def gates(self, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Tensor:
        """(tokens, experts) of a forward pass of `module`, the tokens of its batch flattened."""

    @property
    def router(self) -> RouterView:
        return self

    @property
    def config(self) -> Any:
        return getattr(self.root, "config", None)

    @property
    def training(self) -> bool:
        return self.module.training

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the whole model: a loop may train any part of it."""
        return self.root.parameters()

    def router_parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()

    def register_forward_hook(self, hook: Callable[..., None], with_kwargs: bool = False) -> Handles:
        """`hook(view, (input, RoutingContext), [options,] (None, routing))` after every forward pass, as for a module.

        A hook sees the real tokens of the batch by the context's mask, where the model was called with one. Copies of
        the model bring hooks along, which then do nothing.
        """
        masks: dict[bool, Tensor | None] = {}

        def see_batch(model: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            masks[True], masks[False] = decoder_mask(options), mask_of_batch(options.get("attention_mask"))

        def see_routing(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            if module is self.module:
                told = (self, (args[0] if args else None, RoutingContext(token_mask=masks.get(self.decodes))))
                routing = SeenRouting(lambda: self.gates(args, options, output))
                hook(*told, *([options] if with_kwargs else []), (None, routing))

        return Handles(
            self.root.register_forward_pre_hook(see_batch, with_kwargs=True),
            self.module.register_forward_hook(see_routing, with_kwargs=True),
        )


class Handles:
    """Hooks that are taken off together."""

    def __init__(self, *handles: Any) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def short_name(name: str) -> str:
    """The name of a module without what PEFT and a head put around it, as `adapter_modules` gives names."""
    for around in ("base_model.", "lora_model.", "model.", "model."):  # PeftModel, X-LoRA's tuner, the head
        name = name.removeprefix(around)
    parts = name.split(".")
    if "modules_to_save" in parts:
        at = parts.index("modules_to_save")
        del parts[at : at + 2]  # with the adapter's name
    return ".".join(part for part in parts if part != "original_module")


def mask_of_batch(mask: Any) -> Tensor | None:
    """A mask (batch, sequence) of real tokens; None for what is of another form."""
    return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


def decoder_mask(options: dict[str, Any]) -> Tensor | None:
    """Real tokens (batch, sequence) of a decoder behind an encoder: by its mask, else those with a label."""
    if options.get("decoder_attention_mask") is not None:
        return mask_of_batch(options["decoder_attention_mask"])
    labels = options.get("labels")
    return mask_of_batch(labels.ne(-100)) if isinstance(labels, Tensor) else None
