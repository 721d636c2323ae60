"""What models return: where the loss is in it, and room for the balance loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput


def tensors_in(output: Any, place: str = "output") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a model's output, and how to reach each; the loss is left out."""
    if isinstance(output, Tensor):
        yield place, output
    elif isinstance(output, dict):
        for name, value in output.items():
            if name != "loss":
                yield from tensors_in(value, f"{place}[{name!r}]")
    elif isinstance(output, (tuple, list)):
        for number, value in enumerate(output):
            yield from tensors_in(value, f"{place}[{number}]")
    elif place == "output":  # an object, such as a dataclass
        for name, value in getattr(output, "__dict__", {}).items():
            if name != "loss":
                yield from tensors_in(value, f"{place}.{name}")


def floating(output: Any, trained: bool) -> tuple[str, Tensor] | None:
    """The first floating tensor and how to reach it; one with a gradient, if `trained` and there is one."""
    found = None
    for place, tensor in tensors_in(output):
        if tensor.is_floating_point():
            if tensor.requires_grad or not trained:
                return place, tensor
            found = found or (place, tensor)
    return found


def loss_of(output: Any, scalar_is_loss: bool) -> Tensor | None:
    """The loss in a model's output; a tuple has none where its labels were too few to compute one.

    A loss has labels of many names (`start_positions`, `return_loss`), so a tuple of transformers tells it by its form.
    """
    if isinstance(output, dict):
        loss = output.get("loss")
    elif isinstance(output, (tuple, list)) and "loss" not in getattr(output, "_fields", ()):
        loss = output[0] if output and scalar_is_loss else None
        loss = loss if isinstance(loss, Tensor) and loss.dim() == 0 else None
    else:
        loss = getattr(output, "loss", None)
    return loss if isinstance(loss, Tensor) else None


def with_loss(output: Any, loss: Tensor) -> Any:
    """The output with another loss in the place of its own.

    Raises:
        ValueError: If an object does not let its loss be set.
    """
    if isinstance(output, ModelOutput):
        output.loss = loss
    elif isinstance(output, dict):
        output["loss"] = loss
    elif hasattr(output, "_fields"):
        return output._replace(**{"loss" if "loss" in output._fields else output._fields[0]: loss})
    elif isinstance(output, (tuple, list)):
        return type(output)((loss, *output[1:]))
    else:
        try:
            object.__setattr__(output, "loss", loss)  # of a frozen dataclass too
        except AttributeError as error:
            raise ValueError(
                f"the balance loss cannot be added to the loss of a {type(output).__name__}, which cannot be set; make "
                "it an ordinary attribute, or set balance_coef=0"
            ) from error
    return output


def put_balance_loss(output: Any, balance: Tensor, training: bool, first: tuple[str, Tensor] | None) -> str | None:
    """Put the balance loss where a user finds it.

    Args:
        output: No ModelOutput.
        balance: The balance loss.
        training: Whether the model is in training mode; only then a dictionary has it, and a tensor in a tuple.
        first: The first floating tensor of the output and how to reach it.

    Returns:
        How the user reaches it; None if there is no place for it.
    """
    if isinstance(output, dict):
        if training:
            output["balance_loss"] = balance
        return 'output["balance_loss"]'
    if not isinstance(output, (tuple, list)):
        try:
            output.balance_loss = balance
            return "output.balance_loss"
        except AttributeError:  # frozen, or with slots
            pass
    if first is not None and training:
        first[1].balance_loss = balance  # type: ignore[attr-defined]
    return None if first is None else f"{first[0]}.balance_loss"
