"""SGD and AdamW on Riemannian-preconditioned gradients of low-rank factors.

Source: A Stronger Mixture of Low-Rank Experts for Fine-Tuning Foundation Models, section 2.2 of the reference, after
Zhang & Pilanci (2024). All expert pairs of all layers that share a shape are factorized in one call.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..adapters.field_types import fits
from .groups import parameter_groups
from .pairs import FactorPair, factor_pairs
from .preconditioner import SMALL, damped_inverse, gram, product_type, wide
from .settings import check_number, check_setting, shared


class FallbackWarning(UserWarning):
    """A Gram matrix could not be factorized, and its factor took a plain gradient step.

    >>> issubclass(FallbackWarning, UserWarning)
    True
    """


class Riemannian(torch.optim.Optimizer):
    """What both optimizers share: the pairs, the preconditioned gradients, the count of fallbacks.

    Args:
        update: "simultaneous" takes both preconditioners from the factors before the step (the paper), "sequential"
            takes B's from the A already updated (the authors' AdamW).
        precondition: False leaves the gradients unchanged. This gives the paper's control, the same optimizer without
            the metric.
        own: What a subclass adds to every group. Its options are named in its signature, so an unknown one is refused.

    Parameters outside the pairs, such as the router's, take the plain step.
    """

    SHARED: tuple[str, ...] = ("damping", "update", "precondition")
    takes_sparse = True  # gradients of parameters outside the pairs
    damping, update, precondition = shared("damping"), shared("update"), shared("precondition")

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        router_lr: float | None = None,
        *,
        damping: float,
        update: str,
        precondition: bool,
        weight_decay: float,
        own: Mapping[str, Any],
    ) -> None:
        rates: dict[str, Any] = {
            "lr": lr,
            "router_lr": 0.0 if router_lr is None else router_lr,
            "weight_decay": weight_decay,
        }
        for name, value in rates.items():
            check_number(name, value)
            if value < 0:
                raise ValueError(f"{name} = {value} must be a number of at least 0")
        settings: dict[str, Any] = {"damping": damping, "update": update, "precondition": precondition}
        for name in self.SHARED:
            check_setting(name, {**settings, **own}[name])
        self.fallbacks = 0  # Gram matrices that had no Cholesky factor, over all steps
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"model = {type(model).__name__} is not a torch module; pass the model itself, because its layers define "
                "which of its parameters are the two factors of an expert"
            )
        self.model = model
        self.pairs: list[FactorPair] = []
        self.stacks: dict[Any, list[FactorPair]] = defaultdict(list)
        self._stack(factor_pairs(model))
        groups = parameter_groups(model, lr, router_lr, weight_decay)
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, **settings, **own})

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.SHARED}

    def _stack(self, pairs: Sequence[FactorPair]) -> None:
        self.pairs.extend(pairs)
        for pair in pairs:
            self.stacks[pair.shape, pair.A.dtype, pair.A.device].append(pair)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """A group more, as torch has it; the pairs of an adapter that the model got since are pairs here too.

        Raises:
            ValueError: For a value of damping, update or another setting that differs from that of the other groups.
        """
        for name, present in self._settings().items() if self.param_groups else ():
            if param_group.setdefault(name, present) != present:
                raise ValueError(
                    f"{name} = {param_group[name]!r} of the new group is not {present!r} as in the other groups; leave it "
                    f"out, or set optimizer.{name} for all of them"
                )
        super().add_param_group(param_group)
        added = set(self.param_groups[-1]["params"])
        if added.isdisjoint(self.model.parameters()):
            return
        known = {factor for pair in self.pairs for factor in (pair.A, pair.B)}
        found = [pair for pair in factor_pairs(self.model) if pair.A not in known]
        self._stack([pair for pair in found if pair.A in added or pair.B in added])

    def __getstate__(self) -> dict[str, Any]:
        """All that a copy or a pickle needs; torch's own includes only groups and states."""
        own = ("fallbacks", "model", "pairs", "stacks")
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step.

        Raises:
            FloatingPointError: When a factor is not finite; nothing has changed then. Under sequential updates also when
                this step itself makes an A that is not finite, as by such a gradient; some factors have moved then.
            ValueError: When damping, update or another setting of all groups differs between them, and for a sparse
                gradient that the optimizer does not take.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._settings()  # refuses groups that differ, before anything changes
        groups = {p: group for group in self.param_groups for p in group["params"] if p.grad is not None}
        self._check_layout(groups)
        plain = dict(groups)
        if self.precondition:
            grams = [self._grams(stack) for stack in self.stacks.values()]  # all are checked before anything changes
            for stack, (of_b, of_a) in zip(self.stacks.values(), grams):
                self._step_stack(stack, of_b, of_a, groups)
            for pair in self.pairs:
                plain.pop(pair.A, None)
                plain.pop(pair.B, None)
        for parameter, group in plain.items():
            self._apply(parameter, wide(cast(Tensor, parameter.grad)), group)
        return loss

    def _check_layout(self, groups: Mapping[Tensor, Any]) -> None:
        """Refuse sparse gradients where the optimizer's own operations take none."""
        sparse = [] if self.takes_sparse else [p for p in groups if cast(Tensor, p.grad).is_sparse]
        if sparse:
            name = next((name for name, p in self.model.named_parameters() if p is sparse[0]), "a parameter")
            raise ValueError(
                f"{name} has a sparse gradient, which {type(self).__name__} does not take; build its layer with "
                "sparse=False, or use RiemannianSGD"
            )

    def _grams(self, stack: list[FactorPair]) -> tuple[Tensor, Tensor]:
        """The Gram matrices of a stack's B and A, (ΣE, r, r) each, all of them finite."""
        of_b = gram([pair.up(pair.B) for pair in stack], transposed=True)
        of_a = gram([pair.down(pair.A) for pair in stack], transposed=False)
        self._check_finite(stack, torch.cat([of_b, of_a]), "BA")
        return of_b, of_a

    def _check_finite(self, stack: list[FactorPair], grams: Tensor, factors: str) -> None:
        """Name a factor whose Gram matrix is not finite."""
        finite = grams.isfinite().flatten(1).all(1)
        if not finite.all():
            owners = [
                f"{factor} of {pair.name}, expert {expert}"
                for factor in factors
                for pair in stack
                for expert in range(len(pair.down(pair.A)))
            ]
            bad = [owner for owner, good in zip(owners, finite.tolist()) if not good]
            raise FloatingPointError(
                f"{len(bad)} factors are not finite, the first is {bad[0]}: training has "
                "diverged; lower lr or raise damping"
            )

    def _invert(self, grams: Tensor) -> Tensor:
        """Damped inverses; counts those that failed."""
        inverse, failed = damped_inverse(grams, self.damping)
        if count := int(failed.sum()):
            told = len(str(self.fallbacks)) if self.fallbacks else 0
            self.fallbacks += count
            if len(str(self.fallbacks)) > told:  # the first, then at every tenfold: a run can have thousands
                message = (
                    f"{count} of {len(grams)} Gram matrices are not positive definite at damping = "
                    f"{self.damping}; their factors take a plain step ({self.fallbacks} so far)"
                )
                warnings.warn(message, FallbackWarning, stacklevel=3)
        return inverse

    def _step_stack(self, stack: list[FactorPair], of_b: Tensor, of_a: Tensor, groups: dict[Tensor, Any]) -> None:
        """Steps of one stack, by the Gram matrices of its B and A; one factorization gives both if neither waits."""
        experts = [len(pair.down(pair.A)) for pair in stack]
        sequential = self.update == "sequential"
        inverse = self._invert(of_b if sequential else torch.cat([of_b, of_a]))
        for_a, for_b = inverse[: len(of_b)], inverse[len(of_b) :]
        self._step_factors(stack, for_a.split(experts), groups, from_left=True)
        if sequential:
            of_a = gram([pair.down(pair.A) for pair in stack], transposed=False)
            self._check_finite(stack, of_a, "A")
            for_b = self._invert(of_a)
        self._step_factors(stack, for_b.split(experts), groups, from_left=False)

    def _step_factors(
        self, stack: list[FactorPair], inverses: Sequence[Tensor], groups: dict[Tensor, Any], from_left: bool
    ) -> None:
        """Steps of one stack's A (inverse from the left) or B; one buffer serves all, as fresh memory costs most."""
        buffer = torch.empty(0)
        for pair, inverse in zip(stack, inverses):
            factor, by_expert = (pair.A, pair.down) if from_left else (pair.B, pair.up)
            if factor in groups:
                dtype = product_type(inverse, cast(Tensor, factor.grad))
                gradient, inverse = cast(Tensor, factor.grad).to(dtype), inverse.to(dtype)
                if (buffer.shape, buffer.dtype) != (gradient.shape, dtype):
                    buffer = torch.empty_like(gradient)
                product = (inverse, by_expert(gradient)) if from_left else (by_expert(gradient), inverse)
                torch.bmm(*product, out=by_expert(buffer))
                # as wide as the factor or wider: a direction of up to 1/δ times the gradient is ∞ in float16
                self._apply(factor, buffer.to(torch.promote_types(factor.dtype, SMALL)), groups[factor])

    def _apply(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Move one parameter along a gradient, in place; the gradient is float32 or float64."""
        raise TypeError(f"{type(self).__name__} must define _apply")

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "fallbacks": self.fallbacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore states, fallbacks and all settings, as torch does; those that an older checkpoint lacks stay.

        Raises:
            ValueError: For groups that do not fit, and for a damping or update that makes no optimizer.
        """
        groups = [{**self._settings(), **group} for group in state_dict["param_groups"]]
        for group in groups:
            for name in self.SHARED:
                check_setting(name, group[name])
        super().load_state_dict({**state_dict, "param_groups": groups})
        self.fallbacks = state_dict.get("fallbacks", 0)
        saved = (number for group in groups for number in group["params"])
        for number, parameter in zip(saved, (p for group in self.param_groups for p in group["params"]), strict=True):
            if parameter.dtype not in (torch.float32, torch.float64):  # torch has cast its moments to this half type
                for name, value in state_dict["state"].get(number, {}).items():
                    if isinstance(value, Tensor):
                        self.state[parameter][name] = wide(value).to(parameter.device)


class RiemannianSGD(Riemannian):
    """W ← W − lr·d on the preconditioned gradients d; weight decay is decoupled (W ← (1 − lr·decay) W first).

    Raises:
        ValueError: For a negative learning rate or decay, a damping that is not positive, an unknown update, and a
            model without pairs of factors.
        TypeError: For an option that it does not have, such as torch's momentum or maximize.

    Example:
        >>> optimizer = RiemannianSGD(model, lr=0.02, router_lr=2e-5)
        >>> model(**batch).loss.backward()
        >>> before = model(**batch).loss.item()
        >>> optimizer.step()
        >>> model(**batch).loss.item() < before, optimizer.fallbacks
        (True, 0)
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        router_lr: float | None = None,
        *,
        damping: float = 1e-6,
        update: str = "simultaneous",
        precondition: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            model,
            lr,
            router_lr,
            damping=damping,
            update=update,
            precondition=precondition,
            weight_decay=weight_decay,
            own={},
        )

    def _apply(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(gradient, alpha=-group["lr"])


class RiemannianAdamW(Riemannian):
    """AdamW on the preconditioned gradients, with the conventions of the authors' `AdamWr`.

    betas, eps: of the moments of the preconditioned gradient; eps stands outside the square root. correct_bias=False,
    the authors' default, leaves out the bias correction of the moments. Moments of half types are float32.

    Raises:
        ValueError: For betas outside [0, 1), an eps that is not positive, and as `RiemannianSGD` for the rest.
        TypeError: For an option that it does not have, such as torch's amsgrad or maximize.

    Example:
        >>> optimizer = RiemannianAdamW(model, lr=5e-4, router_lr=1e-6, damping=1e-6)
        >>> model(**batch).loss.backward()
        >>> optimizer.step()
        >>> len(optimizer.pairs), len(optimizer.stacks)  # pairs, and shapes that are factorized together
        (4, 1)
    """

    SHARED = (*Riemannian.SHARED, "correct_bias")
    takes_sparse = False
    correct_bias = shared("correct_bias")

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        router_lr: float | None = None,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        correct_bias: bool = False,
        damping: float = 1e-6,
        update: str = "simultaneous",
        precondition: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        if not (isinstance(betas, tuple | list) and len(betas) == 2 and all(fits(beta, float) for beta in betas)):
            raise ValueError(f"betas = {betas!r} must be two numbers")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas = {betas} must be in [0, 1)")
        check_number("eps", eps)
        if not eps > 0:
            raise ValueError(f"eps = {eps} must be positive")
        super().__init__(
            model,
            lr,
            router_lr,
            damping=damping,
            update=update,
            precondition=precondition,
            weight_decay=weight_decay,
            own={"betas": betas, "eps": eps, "correct_bias": correct_bias},
        )

    def _apply(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = (
                torch.zeros_like(parameter, dtype=gradient.dtype) for _ in range(2)
            )
        state["step"] += 1
        (first, second), mean, square = group["betas"], state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        size = group["lr"]
        if group["correct_bias"]:
            size *= math.sqrt(1 - second ** state["step"]) / (1 - first ** state["step"])
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-size)
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
