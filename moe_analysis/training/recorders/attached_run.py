"""A recorded loop: its folder, the recorder that fills it, and what can be recorded in a model and a loop."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
import zarr
from torch import Tensor, nn
from torch.optim import Optimizer

from ...adapters import REGISTRY, Adapter
from ...atomic import write_whole
from ...peft_bridge import AdapterLayer, adapter_modules
from ..files import ATTACHED as ABOUT
from ..files import RunError, json_text, read_json
from .foreign_routers import READ, foreign_routers
from .recorder import Layout, Recorder, router_weight
from .store import RecordError, open_records

RECORDS = "records.zarr"
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
REMEDY = (
    "wrap it with peft.get_peft_model(model, ma.TRexConfig(...)), build it of modules from ma.adapters, or pass a "
    f"mixture of experts ({READ})"
)


@dataclass(frozen=True)
class AttachedConfig:
    """What the analyses read of a run's configuration.

    name: the method. system: its adapter. optimizer: lower-case name, None if it is unknown, which the references
    for smoothness take for one without momentum. every: updates between two records.
    """

    name: str
    seed: int
    system: str
    optimizer: str | None
    every: int


class AttachedRun:
    """A recorded loop: id, config, records and history, as a run has them, but no model, suite or test scores.

    The analyses that read records alone accept it like a run: `router_paths` and `path_axes`, `smoothness` and
    `gradient_noise`, `gate_entropy`, `load_balance`, `loss_curves` (the manual's page "Your own loop" shows where they
    are). The figures of `ma.papers` need a run of `ma.train`, and refuse a loop.
    `attach` returns one; `AttachedRun.load` opens the folder of a loop that has ended or still runs.

    >>> optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    >>> with ma.attach(model, folder / "earlier", optimizer, name="LoRA-MoE"):
    ...     model(**batch).loss.backward()
    ...     optimizer.step()
    >>> run = ma.AttachedRun.load(folder / "earlier")
    >>> run.config.name, len(run.history), "router_grad" in run.records
    ('LoRA-MoE', 1, True)
    """

    def __init__(self, path: Path, config: AttachedConfig) -> None:
        self.path, self.config = path, config

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path}: {self.config.name}, seed {self.config.seed})"

    def _repr_html_(self) -> str:
        from ..run_card import attached_html

        return attached_html(self)

    @classmethod
    def load(cls, path: str | Path) -> AttachedRun:
        """Read a folder that `attach` wrote; raises RunError naming the file that is missing or corrupt."""
        return AttachedRun(Path(path), described(Path(path))[0])

    def describe(self, updates: int) -> None:
        """Write attached.json: the configuration, and how many updates the model has seen."""
        write_whole(self.path / ABOUT, json_text({"config": asdict(self.config), "updates": updates}))

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def records(self) -> xr.Dataset:
        """As `Run.records`, and loss (step,): the training loss that was logged, in the loop's units. Lazy."""
        return open_records(self.path)

    @property
    def history(self) -> pd.DataFrame:
        """One line per record: step (that the update made, from 1), split ("train"), loss (NaN if none was logged),
        balance_loss (NaN: it is unknown which part of the loss it is)."""
        records = self.records
        return pd.DataFrame(
            {
                "step": records["step"].values + 1,
                "split": "train",
                "loss": records["loss"].values.astype(float),
                "balance_loss": np.nan,
            }
        )


def first_step(path: Path, recorder: Recorder, resume: bool, at_step: int | None) -> int:
    """Updates before the first one to be recorded; checks that the folder can take the record, and changes nothing.

    Raises RunError for the folder of a run, a record that is there without `resume`, and one of another model.
    """
    if (path / "config.json").exists():
        raise RunError(f"{path} is the folder of a run that ma.train made; pass another folder to recorder")
    steps, found = recorded_arrays(path / RECORDS)
    if not len(steps):
        shutil.rmtree(path / RECORDS, ignore_errors=True)  # of a loop that never came to an update
        return at_step or 0
    if not resume:
        raise RunError(
            f"{path} holds {len(steps)} records, the last of step {steps[-1]}; pass resume=True to continue it, "
            "with at_step=… for a model that was loaded from an earlier step, or another folder"
        )
    wanted = {name: (shape, *recorder.labels(dims).values()) for name, (dims, shape) in recorder.layout().items()}
    if found != wanted:
        other = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        raise RunError(
            f"{path} records other modules or routers than this model has, as {other[0]} shows; pass another folder"
        )
    if at_step is not None:
        return at_step
    # a loop that was killed may have written records since it last said how far it was
    return max(described(path)[1], int(steps[-1]) + 1)


def described(path: Path) -> tuple[AttachedConfig, int]:
    """What attached.json says: the configuration, and the updates that the model had seen."""
    values: Any = read_json(path / ABOUT, "attach to another folder")
    try:
        return AttachedConfig(**values["config"]), int(values["updates"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path / ABOUT} describes no attached record ({type(error).__name__}: {error}); attach to another folder"
        ) from error


def recorded_arrays(path: Path) -> tuple[np.ndarray, dict[str, tuple]]:
    """(steps, {array: (sizes beside step, labels of its modules where it has any)}) of a record; empty without one."""
    found: dict[str, tuple] = {}
    if not (path / "zarr.json").exists():
        return np.zeros(0, dtype=int), found
    try:
        arrays: dict[str, Any] = dict(zarr.open_group(path, mode="r").arrays())
        for name, array in arrays.items():
            first, *dims = array.metadata.dimension_names
            if first == "step" and name != "step":
                found[name] = (tuple(array.shape[1:]), *(list(arrays[dim].attrs["labels"]) for dim in dims[:1]))
        return np.asarray(arrays["step"][:]), found
    except Exception as error:  # zarr's metadata and its codecs each fail in their own way on damaged files
        raise RecordError(f"{path} cannot be read as a record ({error}); delete it, or pass another folder") from error


class LoopRecorder(Recorder):
    """A `Recorder` whose forward hooks also keep the weights that an update starts from.

    A loop that calls `step()` is read after its update: `starts` holds the weights from before. Hooks on the
    optimizer make that needless, and `starts` is None.
    """

    def __init__(self, model: nn.Module, path: Path, every: int) -> None:
        super().__init__(model, path, every)
        self.adapters = routed_adapters(model)
        self.starts: dict[str, Tensor] | None = {}

    def layout(self) -> Layout:
        return super().layout() | {"loss": ((), ())}

    def kept(self, step: int) -> None:
        """A loop may begin at any step, and `first_step` has looked at what is there."""

    def watches(self, name: str, adapter: nn.Module) -> bool:
        """Whether a backward pass can follow: loops train in evaluation mode too, and a copy of a model brings the
        hooks of the original with it."""
        watched = self.active and torch.is_grad_enabled() and adapter is self.adapters[name]
        weight = router_weight(adapter)
        if watched and weight is not None and self.starts is not None and name not in self.starts:
            self.starts[name] = weight.detach().clone()
        return watched

    def weights_before(self) -> dict[str, np.ndarray]:
        """router_weight as the forward pass had it; as it is now where a module did not run."""
        starts = self.starts or {}
        return self._stacks("router_weight", lambda name, weight: starts.get(name, weight.detach()))

    def forget(self) -> None:
        """Let go of what belongs to an update that is over."""
        self.gates = {}
        self.starts = None if self.starts is None else {}


def routed_adapters(model: nn.Module) -> dict[str, Any]:
    """The active adapters of a PEFT model, and the modules of `ma.adapters` in any other, by name.

    The own routers of a model without our adapters, as `foreign_routers` sees them. Raises ValueError for a model
    that has none either, and for parameters that are spread over processes.
    """
    check_whole(model)
    bare = bare_model(model)
    found = dict(adapter_modules(bare))
    layers = [layer for layer in bare.modules() if isinstance(layer, AdapterLayer)]
    inside = {id(part) for layer in layers for part in layer.modules()}
    pure = {
        name or type(part).__name__: part
        for name, part in bare.named_modules()
        if isinstance(part, Adapter) and id(part) not in inside
    }
    if not (found or pure or layers) and (foreign := foreign_routers(bare)):
        return foreign
    if not (found or pure):
        why = "has adapters but none is active; call model.set_adapter(...)"
        raise ValueError(f"{type(bare).__name__} {why if layers else f'has no routed adapter to record; {REMEDY}'}")
    return found | pure


def bare_model(model: Any) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile."""
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, WRAPPERS) else model._orig_mod
    return model


def bare_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer inside those of accelerate and Lightning; ValueError if it is not an optimizer."""
    inner = optimizer
    while not isinstance(inner, Optimizer) or hasattr(inner, "optimizer"):
        if not hasattr(inner, "optimizer"):
            raise ValueError(f"optimizer = {optimizer!r} is not a torch optimizer; pass the one that the loop uses")
        inner = inner.optimizer
    return inner


def check_whole(model: nn.Module) -> None:
    """Raise ValueError if a process holds a part of each parameter, as under FullyShardedDataParallel."""
    sharded = any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules())
    if sharded or any(hasattr(parameter, "placements") for parameter in model.parameters()):
        raise ValueError(
            "the model's parameters are sharded over processes, so that none of them sees a whole router; "
            "train with DistributedDataParallel to record it"
        )


def holder(adapters: dict[str, Any], optimizers: Sequence[Any]) -> Optimizer:
    """The one optimizer that updates the routers, out of its wrappers; ValueError where none does, or several do."""
    plain = {id(one): one for one in map(bare_optimizer, optimizers)}.values()
    routers = {id(p) for adapter in adapters.values() for p in adapter.router_parameters()}
    every = {id(p) for adapter in adapters.values() for p in adapter.parameters()}
    for wanted in (routers, every):  # a loop may train the experts alone
        found = [one for one in plain if any(id(p) in wanted for group in one.param_groups for p in group["params"])]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{len(found)} optimizers contain routers of the model, but a record has one step for all; "
                "attach without an optimizer and call handle.step()"
            )
    kinds = ", ".join(type(one).__name__ for one in plain)
    raise ValueError(
        f"optimizer = {kinds} contains no parameter of the model's adapters or routers; build it from the parameters "
        "that the model has after get_peft_model"
    )


def passed_over(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether a GradScaler left out this update: a gradient that is not finite would make the weights infinite or NaN."""
    moved = [(p, p.grad) for p in parameters if p.grad is not None and not p.grad.is_sparse]
    if nn.utils.get_total_norm([gradient for _, gradient in moved]).isfinite():
        return False
    broken = [p for p, gradient in moved if not gradient.isfinite().all()]
    return bool(broken) and all(bool(p.isfinite().all()) for p in broken)


def system_of(adapters: dict[str, Any]) -> str:
    """The name in the registry of the first adapter's class; the class's own name where it is not registered.

    Of a router that is not ours the mixture's name, such as "mixtral".
    """
    first = next(iter(adapters.values()))
    if hasattr(first, "system"):
        return first.system
    kind = type(first)
    return next((name for name, known in REGISTRY.items() if known is kind), kind.__name__.lower())
