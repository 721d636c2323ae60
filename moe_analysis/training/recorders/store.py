"""Recorded tensors on disk: zarr arrays that grow along `step`, appended in blocks and cut back on resume."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

from ...tasks.rows import shorten

BLOCK = 50  # records a chunk, and records kept in memory before they are written
STEP = {"long_name": "updates made before; history step - 1", "units": "updates"}
NAMES = {  # array -> what xarray writes at an axis
    "router_weight": "router weight before the update",
    "router_grad": "gradient of the router, after clipping",
    "gate_entropy": "entropy of a token's gates, 1 for equal gates",
    "gate_load": "share of tokens that use the expert",
    "gate_top1": "share of tokens that prefer the expert",
    "gate_importance": "mean gate of the expert",
    "loss": "training loss as logged",
}
RESTORE = "restore the files, or delete the run's folder and train it again"


class RecordError(ValueError):
    """A record on disk that cannot be trusted; the message names the array and the remedy."""


class RecordStore:
    """One zarr group; every array has `step` first and names its dimensions, coordinates are arrays of their own.

    Args:
        path: Of the group.
        kept: The steps that it must have records of, where a run resumes; None where it may have any or none.

    Raises:
        RecordError: If the group, or a record of one of these steps, is missing or damaged.
    """

    def __init__(self, path: Path, kept: Sequence[int] | None = None) -> None:
        self.path, self.kept = path, kept
        if kept is not None:
            check_kept(path, kept)
        self.group = zarr.open_group(path, mode="a")
        self.buffer: list[tuple[int, dict[str, np.ndarray]]] = []

    def declare(self, name: str, dims: tuple[str, ...], shape: tuple[int, ...], coords: dict[str, list[str]]) -> None:
        """Create an array (step, *shape) that does not exist yet, with its labels; where a run resumes, raise
        RecordError for one that is lost or another one."""
        if self.kept is not None:
            self._check_declared(name, shape, coords)
            return
        for dim, labels in coords.items():
            if dim not in self.group:
                # a label is text of any length, which is what a zarr attribute holds best
                axis = self.group.create_array(dim, shape=(len(labels),), dtype="int32", dimension_names=(dim,))
                axis[:] = np.arange(len(labels))
                axis.attrs["labels"] = labels
        if name not in self.group:
            self._create(name, shape, ("step", *dims), "float32", np.nan)
        if "step" not in self.group:
            self._create("step", (), ("step",), "int64", -1)

    def _check_declared(self, name: str, shape: tuple[int, ...], coords: dict[str, list[str]]) -> None:
        for one in (name, *coords):
            if one not in self.group:
                raise RecordError(f"array {one} in {self.path} is missing; {RESTORE}")
        array: Any = self.group[name]
        if array.shape[1:] != shape:
            raise RecordError(f"array {name} in {self.path} has the shape {array.shape[1:]}, not {shape}; {RESTORE}")
        for dim, labels in coords.items():
            if (found := self.group[dim].attrs.get("labels")) != labels:
                raise RecordError(f"array {dim} in {self.path} has the labels {shorten(found)}; {RESTORE}")

    def _create(self, name: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str, fill: float) -> None:
        chunks = (BLOCK, *(max(1, size) for size in shape))
        self.group.create_array(
            name,
            shape=(0, *shape),
            chunks=chunks,
            dtype=dtype,
            fill_value=fill,
            dimension_names=dims,
            compressors=ZstdCodec(checksum=True),
        )

    def append(self, step: int, values: dict[str, np.ndarray]) -> None:
        self.buffer.append((step, values))
        if len(self.buffer) >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered. The step axis grows last: a record counts once its step is there."""
        if not self.buffer:
            return
        start = self.group["step"].shape[0]
        stop = start + len(self.buffer)
        columns = {name: np.stack([values[name] for _, values in self.buffer]) for name in self.buffer[0][1]}
        columns["step"] = np.array([step for step, _ in self.buffer])
        # zarr leaves out chunks of nothing but the fill value, NaN, and they would count as lost
        with zarr.config.set({"array.write_empty_chunks": True}):
            for name, values in columns.items():
                array: Any = self.group[name]
                array.resize((stop, *array.shape[1:]))
                array[start:stop] = values
        self.buffer = []

    def cut(self, step: int) -> None:
        """Forget every record from `step` on, written or buffered, so that training can resume from there."""
        self.buffer = []
        if "step" not in self.group:
            return
        steps = self.group["step"][:]
        kept = int(((steps >= 0) & (steps < step)).sum())  # -1 where a flush was cut off before its steps
        for _, array in self.group.arrays():
            if array.metadata.dimension_names[0] == "step":
                array.resize((kept, *array.shape[1:]))


class NoStore:
    """A store that keeps nothing: of several processes that train one run, only the first writes its records."""

    def declare(self, *_: Any) -> None:
        pass

    append = cut = declare

    def flush(self) -> None:
        pass


def open_records(path: str | Path) -> xr.Dataset:
    """The lazy dataset of a record, from a folder that contains records.zarr, or from records.zarr itself.

    Checks that every chunk exists; RecordError names the array and what is wrong with it. A damaged chunk is found, and
    named in the same way, when its values are read.

    >>> records = ma.open_records(run.path)
    >>> dict(records["router_grad"].sizes)
    {'step': 4, 'module': 4, 'expert': 8, 'feature': 128}
    """
    path = Path(path)
    with damage_named(path):
        if (path / "records.zarr").is_dir():
            path = path / "records.zarr"
        if not (path / "zarr.json").is_file():
            raise RecordError(f"{path} has no record; train with record_every >= 1")
        return dataset(path, sound_arrays(path))


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Whatever is raised while a group is read becomes a RecordError that names it."""
    try:
        yield
    except RecordError:
        raise
    except Exception as error:  # zarr's metadata, its codecs and xarray each fail in their own way on damaged files
        raise RecordError(
            f"{path} cannot be read as a zarr group ({shorten(str(error), 200)}); restore its files, or "
            "train the run again"
        ) from error


def check_kept(path: Path, steps: Sequence[int]) -> None:
    """Raise RecordError unless every array of a group has its records of these steps, and perhaps of later ones.

    Of the values only the last block is read, to which the next records are added: a record may be larger than memory.
    """
    with damage_named(path):
        if not (path / "zarr.json").is_file():
            raise RecordError(f"{path} has lost its zarr.json; {RESTORE}")
        arrays = sound_arrays(path, len(steps))
        if not arrays:
            raise RecordError(f"{path} has no arrays; {RESTORE}")
        if not np.array_equal(Values(path, "step", arrays["step"])[: len(steps)], steps):
            raise RecordError(f"array step in {path} has not the steps before {steps[-1] + 1}; {RESTORE}")
        last = slice(len(steps) - 1 - (len(steps) - 1) % BLOCK, len(steps))
        for name, array in arrays.items():
            if "labels" not in array.attrs:
                _ = Values(path, name, array)[last]


def sound_arrays(path: Path, records: int | None = None) -> dict[str, Any]:
    """The arrays of a group by name, each with the dimensions, the type and all the chunks that `RecordStore` wrote.

    Args:
        path: Of the group.
        records: How many records must be there; None: as many as there are steps.
    """
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not (folder / "zarr.json").is_file():  # which zarr would leave out, or wait for a pipe
            raise RecordError(f"array {folder.name} in {path} lacks its zarr.json; {RESTORE}")
    arrays = dict(sorted(zarr.open_group(path, mode="r").arrays()))  # else in the order of the disk
    if arrays and "step" not in arrays:
        raise RecordError(f"array step in {path} is missing, so the number of records is unknown; {RESTORE}")
    if records is None:
        records = arrays["step"].shape[0] if arrays else 0
    for name, array in arrays.items():
        check_layout(path, name, array)
        if "labels" in array.attrs:
            continue  # its numbers say nothing, and those of a single module, a 0, zarr leaves out
        if array.shape[0] < records:
            raise RecordError(f"array {name} in {path} has {array.shape[0]} of {records} records; {RESTORE}")
        missing, chunks = missing_chunks(path / name, array, records)
        if missing:
            raise RecordError(
                f"array {name} in {path} lacks {missing} of {chunks} chunks, which would read as NaN; {RESTORE}"
            )
    return arrays


def check_layout(path: Path, name: str, array: Any) -> None:
    """Raise RecordError for dimensions, labels or a type that no `RecordStore` writes."""
    dims, labels = array.metadata.dimension_names or (), array.attrs.get("labels")
    if "labels" in array.attrs:
        texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        sound = texts and dims == (name,) and array.shape == (len(labels),)
    elif name == "step":
        sound = dims == ("step",) and array.dtype == np.int64
    else:
        sound = len(dims) == array.ndim and dims[:1] == ("step",) and array.dtype == np.float32
    if not sound:
        raise RecordError(
            f"array {name} in {path} has the dimensions {shorten(dims)}, shape {shorten(array.shape)} "
            f"and type {array.dtype}, which no record has; {RESTORE}"
        )


def missing_chunks(folder: Path, array: Any, records: int) -> tuple[int, int]:
    """(missing, all) chunks that the first `records` of an array take.

    A flush that was cut off may have left an array longer than the step axis, without the chunks to fill it.
    """
    grid = [-(-records // array.chunks[0]), *array.cdata_shape[1:]]
    chunks = math.prod(grid)
    there = sum(path.is_file() for path in folder.rglob("*")) - 1
    if there < chunks:  # counted first: damaged metadata may claim more chunks than anybody could look for
        return chunks - there, chunks
    keys = (array.metadata.encode_chunk_key(place) for place in product(*map(range, grid)))
    return sum(not (folder / key).is_file() for key in keys), chunks


def dataset(path: Path, arrays: dict[str, Any]) -> xr.Dataset:
    import dask.array as da  # who writes records never reads them: half a second less in every process that trains

    data: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    records = arrays["step"].shape[0] if arrays else 0
    for name, array in sorted(arrays.items()):
        dims, values = array.metadata.dimension_names, Values(path, name, array)
        if labels := array.attrs.get("labels"):
            coords[name] = (dims, np.array(labels))
        elif name == "step":
            steps = coords[name] = (dims, values[:], STEP)
            if (np.diff(steps[1]) <= 0).any():
                raise RecordError(f"array step in {path} does not increase from record to record; {RESTORE}")
        else:
            # a flush that was cut off leaves arrays longer than the step axis
            told = {"long_name": NAMES[kind]} if (kind := re.sub(r"_\d+$", "", name)) in NAMES else {}
            data[name] = (dims, da.from_array(values, chunks=array.chunks)[:records], told)
    return xr.Dataset(data, coords)


@dataclass(frozen=True, eq=False)
class Values:
    """The values of an array for dask, which come when they are asked for; a damaged chunk is a RecordError then."""

    path: Path
    name: str
    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    def __getitem__(self, place: Any) -> np.ndarray:
        try:
            return np.asarray(self.array[place])
        except Exception as error:  # every codec fails in its own way
            raise RecordError(
                f"array {self.name} in {self.path} has a chunk that cannot be read "
                f"({shorten(str(error), 200)}); {RESTORE}"
            ) from error
