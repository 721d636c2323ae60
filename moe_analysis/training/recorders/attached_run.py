"""A recorded loop on disk, and whether a folder can take another one's record."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from ...atomic import write_whole
from ..files import ATTACHED as ABOUT
from ..files import RunError, json_text, read_json
from .recorder import Recorder
from .store import RecordError, open_records

RECORDS = "records.zarr"


@dataclass(frozen=True)
class AttachedConfig:
    """What the analyses read of a run's configuration.

    name: the method. system: its adapter. optimizer: lower-case name, None where it is unknown, which the references
    for smoothness take for one without momentum. every: updates between two records.
    """

    name: str
    seed: int
    system: str
    optimizer: str | None
    every: int


class AttachedRun:
    """A recorded loop, which the analyses of records take as they take a run: id, config, records, history.

    What `attach` returns is one; `AttachedRun.load` opens the folder of a loop that is over, or still runs.

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
        """One line per record: step (that the update made, from 1), split ("train"), loss (NaN where none was logged),
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
        raise RunError(f"{path} is the folder of a run that ma.train made; pass another to recorder")
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
