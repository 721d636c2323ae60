"""`figures`: execute the notebooks in the project's own Python and say which paper items they made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from .presets import PROJECT

NOTEBOOKS = PROJECT / "notebooks"
# a notebook that reads another's runs executes after it; all others may execute side by side
FOLLOWS = {"03_subspace_rank": "02_router_trajectories"}


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
    Item("trex_lemma41", "T-REX Lemma 4.1: the span of the updates", "03_subspace_rank"),
    Item("trex_lemma41_trained", "T-REX Lemma 4.1: what trained models use", "03_subspace_rank"),
    Item("trex_theorem42", "T-REX Theorem 4.2, our reading", "03_subspace_rank"),
    Item("trex_theorem43", "T-REX Theorem 4.3, our reading", "03_subspace_rank"),
    Item("gr_fig1", "gR Fig. 1: the manifold of a gated expert", "04_riemannian"),
    Item("gr_fig2", "gR Fig. 2: RSGD and gRSGD", "04_riemannian"),
    Item("gr_fig3", "gR Fig. 3: eight optimisers", "04_riemannian"),
    Item("gr_exponent", "Beyond gR: exponent of the gate against its entropy", "04_riemannian"),
    Item("gr_confound", "Beyond gR: gate rescaling against a larger learning rate", "04_riemannian"),
    Item("gr_anatomy", "Beyond gR: conditioning, likeness and load of the experts", "04_riemannian"),
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
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    document = nbformat.read(notebook, as_version=4)
    cells = len(document.cells)
    client = NotebookClient(
        document, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(Path.cwd())}},
        kernel_manager_class=own_kernel_manager(), extra_arguments=["--log-level=ERROR"],
        on_cell_start=lambda cell, cell_index: on_cell(cell_index + 1, cells),
    )  # fmt: skip
    try:
        return client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"{notebook.name} stopped at {failed_cell(document)}:\n{error}") from error
    except DeadKernelError as error:
        raise NotebookError(f"{notebook.name}: the kernel died (out of memory?): {error}") from error


def own_kernel_manager() -> type:
    """A kernel manager whose "python3" is this very interpreter, whatever kernels the user has installed."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class OwnKernelManager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _own_kernel_only(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)

    return OwnKernelManager


def failed_cell(document: Any) -> str:
    for number, cell in enumerate(document.cells, start=1):
        if any(output.get("output_type") == "error" for output in cell.get("outputs", ())):
            return f"cell {number} of {len(document.cells)}"
    return "an unknown cell"


def regenerate(
    items: Sequence[Item], values: dict[str, str | None], on_cell: Callable[[str, int, int], Any]
) -> list[Path]:
    """Execute every notebook of the items once; returns the PNG files they wrote.

    on_cell(notebook, cell, cells) is called before every cell. When a notebook fails, the one beside it stops at its
    next cell and the failure is raised.
    """
    folder = Path(values.get("MOE_ANALYSIS_FIGURES") or PROJECT / "figures")
    chains = chains_of(dict.fromkeys(item.notebook for item in items))
    cores = os.cpu_count() or 1
    beside = min(len(chains), cores)
    # kernels that compute side by side share the cores, or their threads only wait for each other; one training
    # process more than its share lets a kernel use the cores of one that is done
    counts = {"OMP_NUM_THREADS": cores // beside, "MOE_ANALYSIS_WORKERS": cores // beside + (beside > 1)}
    share = {name: os.environ.get(name, str(count)) for name, count in counts.items()}
    failed = Event()
    with environment({**share, **values}), ThreadPoolExecutor(beside) as pool:
        running = [pool.submit(execute_chain, chain, on_cell, failed) for chain in chains]
    for error in filter(None, (chain.exception() for chain in running)):
        if not isinstance(error, Stopped):
            raise error
    return [folder / f"{item.id}.png" for item in items]


def chains_of(names: Iterable[str]) -> list[list[str]]:
    """Notebooks in lists that are executed in order, each list beside the others."""
    chains: list[list[str]] = []
    for name in names:
        before = next((chain for chain in chains if FOLLOWS.get(name) in chain), None)
        if before is None:
            chains.append([name])
        else:
            before.append(name)
    return chains


class Stopped(Exception):
    """Raised between two cells because another notebook failed."""


def execute_chain(names: Sequence[str], on_cell: Callable[[str, int, int], Any], failed: Event) -> None:
    """Execute notebooks one after the other; sets `failed` when one fails and stops when it is set."""

    def before(name: str, cell: int, cells: int) -> None:
        if failed.is_set():
            raise Stopped(name)
        on_cell(name, cell, cells)

    try:
        for name in names:
            execute(NOTEBOOKS / f"{name}.ipynb", partial(before, name))
    except BaseException:
        failed.set()
        raise
