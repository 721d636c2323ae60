"""What an installed moe_analysis must do in an empty folder; run there, with the Python it is installed in.

The names that a user starts with, the first lesson as in Colab (a notebook alone, no clone), two figures, a table of
results, the theorems; and nothing may be written beside the package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path


def files_of(package: Path) -> set[Path]:
    return {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def run_notebook(name: str) -> None:
    """A copy of one that comes with the package, executed where this program stands."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(name, as_version=4)
    NotebookClient(notebook, kernel_name="python3", timeout=600).execute()
    shown = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert {"text/html", "application/vnd.plotly.v1+json"} <= shown, f"{name} shows only {sorted(shown)}"


def main() -> None:
    import moe_analysis as ma

    package = Path(ma.__file__).parent
    assert package.is_relative_to(sys.prefix), f"{package} is not what was installed into {sys.prefix}"
    assert metadata.version("moe_analysis") == ma.__version__
    before = files_of(package)
    assert not any(Path.cwd().iterdir()), f"{Path.cwd()} is not empty"
    for name in sys.argv[1:]:  # what extras bring
        import_module(name)

    frame = ma.load_suite("embedded")
    assert frame["dataset"].nunique() > 20
    model, tokenizer = ma.load_backbone("compact")
    ids = tokenizer(frame["prompt"][0], return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.shape[:2] == ids.shape

    shutil.copy(package / "notebooks" / "00_start.ipynb", ".")
    run_notebook("00_start.ipynb")

    program = Path(sys.executable).with_name("moe-analysis")
    items = ("trex_fig2", "own_adapter")  # the second one's notebook writes an adapter and reads what clones have
    only = [part for item in items for part in ("--only", item)]
    subprocess.run([program, "figures", *only, "--preset", "tiny"], check=True)
    made = {f"{item}.{kind}" for item in items for kind in ("png", "pdf", "html", "json")}
    assert made <= {path.name for path in Path("figures/tiny").iterdir()}
    assert Path("figures/index.html").is_file() and any(Path("runs").iterdir())
    told = subprocess.run([program, "results", "show", "compact"], check=True, capture_output=True, text=True)
    assert "tuning" in told.stdout and "is not there" not in told.stderr, told.stderr
    subprocess.run([program, "verify"], check=True, stdout=subprocess.DEVNULL)
    assert files_of(package) == before, f"written beside the package: {files_of(package) ^ before}"


if __name__ == "__main__":
    main()
