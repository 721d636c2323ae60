"""`figures`: execute the notebooks in the project's own Python and say which paper items they made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .presets import PROJECT

NOTEBOOKS = PROJECT / "notebooks"


class NotebookError(RuntimeError):
    """A notebook stopped; the message holds its name, the cell and the traceback."""


@dataclass(frozen=True)
class Item:
    """One figure of a paper: its id, what it shows, and the notebook that makes it."""

    id: str
    title: str
    notebook: str


ITEMS = (
    Item("trex_fig4", "T-REX Fig. 4: semantic map of 20 data sets", "01_semantic_clusters"),
    Item("trex_fig2", "T-REX Fig. 2: trajectories of the router weights", "02_router_trajectories"),
    Item("trex_fig1", "T-REX Fig. 1: LoRA, LoRA-MoE and T-REX", "03_subspace_rank"),
)


def choose(only: Sequence[str]) -> list[Item]:
    """The items named in `only` (ids or notebook names); all of them when it is empty."""
    known = {item.id for item in ITEMS} | {item.notebook for item in ITEMS}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"only = {', '.join(unknown)} is unknown; choose from {', '.join(item.id for item in ITEMS)}")
    return [item for item in ITEMS if not only or item.id in only or item.notebook in only]


@contextmanager
def environment(values: dict[str, str | None]) -> Iterator[None]:
    """Set environment variables for the kernels that start inside; None leaves a variable as it is."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def execute(notebook: Path, on_cell: Callable[[int, int], Any] = lambda cell, cells: None) -> Any:
    """Run a notebook top to bottom in a fresh kernel of this Python, in the current folder, and return it with outputs.

    on_cell(number, cells) is called before every cell. Raises NotebookError with the cell and its traceback.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    document = nbformat.read(notebook, as_version=4)
    cells = len(document.cells)
    # without user or system kernels "python3" is always this very interpreter
    specs = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs, transport="ipc")
    client = NotebookClient(
        document, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(Path.cwd())}},
        on_cell_start=lambda cell, cell_index: on_cell(cell_index + 1, cells),
        km=kernel,
    )  # fmt: skip
    try:
        return client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"{notebook.name} stopped at {failed_cell(document)}:\n{error}") from error
    except DeadKernelError as error:
        raise NotebookError(f"{notebook.name}: the kernel died (out of memory?): {error}") from error
    finally:
        if kernel.has_kernel:  # a kernel manager of one's own is not shut down by the client
            run_sync(kernel.shutdown_kernel)(now=True)


def failed_cell(document: Any) -> str:
    for number, cell in enumerate(document.cells, start=1):
        if any(output.get("output_type") == "error" for output in cell.get("outputs", ())):
            return f"cell {number} of {len(document.cells)}"
    return "an unknown cell"


def regenerate(
    items: Sequence[Item], values: dict[str, str | None], on_cell: Callable[[str, int, int], Any]
) -> list[Path]:
    """Execute every notebook of the items once; returns the PNG files they wrote."""
    folder = Path(values.get("MOE_ANALYSIS_FIGURES") or PROJECT / "figures")
    with environment(values):
        for name in dict.fromkeys(item.notebook for item in items):
            execute(NOTEBOOKS / f"{name}.ipynb", partial(on_cell, name))
    return [folder / f"{item.id}.png" for item in items]
