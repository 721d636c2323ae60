"""`figures`: execute the notebooks in the project's own Python and say which paper items they made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from .kernels import Kernel, RowsWarning, suite_warnings
from .papers import ITEMS as INDEX
from .papers import Item
from .places import computed_figures, shipped

NOTEBOOKS = shipped("notebooks")
# a notebook that reads another's runs executes after it; all others may execute side by side
FOLLOWS = {
    "03_subspace_rank": "02_router_trajectories",
    "08_efficiency": "07_generalization",
    "09_routing_anatomy": "07_generalization",
    "10_bring_your_own": "07_generalization",
}


ITEMS = tuple(item for item in INDEX if item.study and item.notebook)  # others read what a campaign stores


def choose(only: Sequence[str]) -> list[Item]:
    """The items named in `only` (ids or notebook names); all of them when it is empty."""
    known = sorted({item.id for item in ITEMS} | {item.notebook for item in ITEMS})
    if unknown := [name for name in only if name not in known]:
        near = dict.fromkeys(match for name in unknown for match in get_close_matches(name, known, 3))
        remedy = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(item.id for item in ITEMS)}"
        raise ValueError(f"only = {', '.join(unknown)} is unknown; {remedy}")
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


def regenerate(
    items: Sequence[Item],
    values: dict[str, str | None],
    on_cell: Callable[[str, int, int], Any],
    on_end: Callable[[str], Any] = lambda notebook: None,
) -> list[Path]:
    """Execute every notebook of the items once; returns the PNG files they wrote.

    on_cell(notebook, cell, cells) is called before every cell, on_end(notebook) after the last one, both in the thread
    of the kernel. When a notebook fails, the one running next to it stops at its next cell and the failure is raised. An
    interrupt ends all kernels at once, and with them what they train.
    """
    folder = Path(values.get("MOE_ANALYSIS_FIGURES") or computed_figures(values.get("MOE_ANALYSIS_PRESET")))
    chains = chains_of(dict.fromkeys(item.notebook for item in items))
    cores = os.cpu_count() or 1
    beside = min(len(chains), cores)
    # kernels that compute side by side share the cores, or their threads only wait for each other; one training
    # process more than its share lets a kernel use the cores of one that is done
    counts = {"OMP_NUM_THREADS": cores // beside, "MOE_ANALYSIS_WORKERS": cores // beside + (beside > 1)}
    share = {name: os.environ.get(name, str(count)) for name, count in counts.items()}
    failed, kernels = Event(), [Kernel() for _ in range(beside)]
    with environment({**share, **values}), ThreadPoolExecutor(beside) as pool:
        running = [pool.submit(execute_chains, kernel, chains, on_cell, on_end, failed) for kernel in kernels]
        try:
            wait(running)
        except BaseException:
            failed.set()
            for kernel in kernels:  # the terminal's Ctrl-C does not reach them
                kernel.stop()
            raise
    for error in filter(None, (chain.exception() for chain in running)):
        if not isinstance(error, Stopped):
            raise error
    return [folder / f"{item.id}.png" for item in items]


def chains_of(names: Iterable[str]) -> list[list[str]]:
    """Notebooks in lists; each list is executed in order, and the lists run at the same time."""
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


def execute_chains(
    kernel: Kernel,
    chains: list[list[str]],
    on_cell: Callable[[str, int, int], Any],
    on_end: Callable[[str], Any],
    failed: Event,
) -> None:
    """Execute chains in one kernel until there is none left; others take from the same list.

    Sets `failed` when a notebook fails and stops when it is set. What a notebook is warned of about its rows is said
    here again: its cells are not shown.
    """

    def before(name: str, cell: int, cells: int) -> None:
        if failed.is_set():
            raise Stopped(name)
        on_cell(name, cell, cells)

    try:
        with kernel:
            while chain := take(chains):
                for name in chain:
                    document = kernel.execute(NOTEBOOKS / f"{name}.ipynb", partial(before, name))
                    for message in suite_warnings(document):
                        warnings.warn(message, RowsWarning, stacklevel=1)
                    on_end(name)
    except BaseException:
        failed.set()
        raise


def take(chains: list[list[str]]) -> list[str]:
    """The first chain, which no other worker can take again; an empty one when there is none."""
    try:
        return chains.pop(0)
    except IndexError:
        return []
