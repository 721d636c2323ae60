"""Recorded tensors on disk: zarr arrays that grow along `step`, appended in blocks and cut back on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

BLOCK = 50  # records a chunk, and records kept in memory before they are written


class RecordError(ValueError):
    """A record on disk that cannot be trusted; the message names the array and the remedy."""


class RecordStore:
    """One zarr group; every array has `step` first and names its dimensions, coordinates are arrays of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group = zarr.open_group(path, mode="a")
        self.buffer: list[tuple[int, dict[str, np.ndarray]]] = []

    def declare(self, name: str, dims: tuple[str, ...], shape: tuple[int, ...], coords: dict[str, list[str]]) -> None:
        """Create an array (step, *shape) that does not exist yet, with its labels."""
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

    def _create(self, name: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str, fill: float) -> None:
        chunks = (BLOCK, *(max(1, size) for size in shape))
        self.group.create_array(name, shape=(0, *shape), chunks=chunks, dtype=dtype, fill_value=fill,
                                dimension_names=dims)  # fmt: skip

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
        """Forget every record from `step` on, written or buffered, so that training can go on from there."""
        self.buffer = []
        if "step" not in self.group:
            return
        kept = int((self.group["step"][:] < step).sum())
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


def open_records(path: Path) -> xr.Dataset:
    """The lazy dataset of a record folder, after checking that no chunk is missing.

    Raises RecordError naming the array and what is missing of it.
    """
    if not (path / "zarr.json").exists():
        raise RecordError(f"{path} holds no record; train with record_every >= 1")
    try:
        group = zarr.open_group(path, mode="r")
        arrays = dict(group.arrays())
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise RecordError(f"{path} cannot be read as a zarr group ({error}); train the run again") from error
    records = arrays["step"].shape[0] if "step" in arrays else 0
    for name, array in arrays.items():
        missing = array.nchunks - array.nchunks_initialized
        if missing:
            raise RecordError(f"array {name} in {path} lacks {missing} of {array.nchunks} chunks, which would read as "
                              "NaN; restore the files, or delete the run's folder and train it again")  # fmt: skip
        if array.metadata.dimension_names[0] == "step" and array.shape[0] < records:
            raise RecordError(f"array {name} in {path} has {array.shape[0]} of {records} records; delete the run and "
                              "train it again")  # fmt: skip
    data, coords = {}, {}
    for name, array in sorted(arrays.items()):
        dims = array.metadata.dimension_names
        if labels := array.attrs.get("labels"):
            coords[name] = (dims, np.array(labels))
        elif name == "step":
            coords[name] = (dims, array[:])
        else:
            # a flush that was cut off leaves arrays longer than the step axis
            data[name] = (dims, da.from_zarr(array)[:records])
    return xr.Dataset(data, coords)
