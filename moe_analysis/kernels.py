"""Notebooks executed in a kernel of the project's own Python."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .extras import extra

# what a reader's restart does, without the ten seconds that importing torch, transformers and PEFT takes;
# %reset takes __spec__ with it, which processes that are spawned look for; figures and widgets would stay alive;
# what is left are imports, which no later search for garbage has to look through
RESET = """%reset -f
__spec__ = None
import ipywidgets, matplotlib.pyplot
ipywidgets.Widget.close_all(); matplotlib.pyplot.close('all')
import gc; gc.collect(); gc.freeze()
del ipywidgets, matplotlib, gc"""


WARNING = re.compile(r"^.*: SuiteWarning: (.*)$", re.MULTILINE)  # as Python writes one to stderr


class NotebookError(RuntimeError):
    """A notebook stopped; the message holds its name, the cell and the traceback."""


class RowsWarning(UserWarning):
    """A SuiteWarning that a notebook's cell was given."""


class Kernel:
    """One kernel that executes notebooks in turn, each in an empty namespace; a context manager that ends it."""

    def __init__(self) -> None:
        self.client: Any = None

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: Any) -> None:
        client, self.client = self.client, None
        if client is not None:
            client._cleanup_kernel()

    def stop(self) -> None:
        """End the kernel and every process it started, now, whatever they do; may be called from any thread.

        What executes a notebook in it then raises NotebookError.
        """
        provisioner = getattr(getattr(self.client, "km", None), "provisioner", None)
        group = getattr(provisioner, "pgid", None)
        if group and group != os.getpgrp():  # a kernel leads a group of its own
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def execute(self, notebook: Path, on_cell: Callable[[int, int], Any] = lambda cell, cells: None) -> Any:
        """Run a notebook top to bottom, in the current folder, and return it with outputs.

        on_cell(number, cells) is called before every cell. Raises NotebookError with the cell and its traceback.
        """
        with extra("notebooks"):
            import nbformat
            from nbclient.exceptions import CellExecutionError, DeadKernelError

        document = nbformat.read(notebook, as_version=4)
        try:
            if self.client is not None:
                self._run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(RESET)]), None)
            self._run(document, lambda cell, cell_index: on_cell(cell_index + 1, len(document.cells)))
        except CellExecutionError as error:
            raise NotebookError(f"{notebook.name} stopped at {failed_cell(document)}:\n{error}") from error
        except DeadKernelError as error:
            raise NotebookError(f"{notebook.name}: the kernel died (out of memory?): {error}") from error
        return document

    def _run(self, document: Any, on_cell: Callable[..., Any] | None) -> None:
        with extra("notebooks"):
            from nbclient import NotebookClient

        client = NotebookClient(
            document,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(Path.cwd())}},
            kernel_manager_class=own_kernel_manager(),
            extra_arguments=["--log-level=ERROR"],
            on_cell_start=on_cell,
        )
        if self.client is not None:
            client.km, client.kc = self.client.km, self.client.kc
        self.client = client
        client.execute(cleanup_kc=False)


def execute(notebook: Path, on_cell: Callable[[int, int], Any] = lambda cell, cells: None) -> Any:
    """Run a notebook in a fresh kernel that ends with it; see `Kernel.execute`."""
    with Kernel() as kernel:
        return kernel.execute(notebook, on_cell)


def own_kernel_manager() -> type:
    """A kernel manager whose "python3" is this very interpreter, whatever kernels the user has installed."""
    with extra("notebooks"):
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from traitlets import default

    class OwnKernelManager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _own_kernel_only(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)

    return OwnKernelManager


def suite_warnings(document: Any) -> list[str]:
    """What the cells of an executed notebook said of rows that blur a measurement or cannot be used, each once."""
    outputs = (output for cell in document.cells for output in cell.get("outputs", ()))
    text = "".join(output["text"] for output in outputs if output.get("name") == "stderr")
    return list(dict.fromkeys(WARNING.findall(text)))


def failed_cell(document: Any) -> str:
    for number, cell in enumerate(document.cells, start=1):
        if any(output.get("output_type") == "error" for output in cell.get("outputs", ())):
            return f"cell {number} of {len(document.cells)}"
    return "an unknown cell"
