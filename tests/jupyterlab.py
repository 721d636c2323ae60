"""A JupyterLab for tests: its notebooks, their one kernel, and the server."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = "01_semantic_clusters.ipynb"  # the one that computes least on the tiny preset
TRAINING, STEPS = "training.ipynb", 60
LOOKED = "looked"  # the file that lets the training go on from its middle
TRAIN = f"""import time
from pathlib import Path
import moe_analysis as ma
from moe_analysis.training.trainer import AdapterTrainer

whole_step = AdapterTrainer.training_step

def slow_step(trainer, *arguments, **named):
    time.sleep(0.05)  # the numbers of a panel are written once a second
    while trainer.state.global_step == {STEPS - 20} and not Path("{LOOKED}").exists():
        time.sleep(0.05)
    return whole_step(trainer, *arguments, **named)

AdapterTrainer.training_step = slow_step
adapter = ma.MoeLoraConfig(num_experts=8, top_k=2, target_modules=["q_proj", "v_proj"])
config = ma.TrainConfig(adapter=adapter, datasets=["add_small", "where_is"], steps={STEPS}, batch_size=8, eval_rows=2)
try:
    run = ma.train(config, "trained")
finally:
    AdapterTrainer.training_step = whole_step"""
# a model that takes no training, and its widget
SENTENCE = (
    """import peft, torch
import moe_analysis as ma
torch.manual_seed(0)
model, tokenizer = ma.load_backbone("compact")
config = ma.SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=[2, 2], target_modules=["up_proj"])
model = peft.get_peft_model(model, config)""",
    "ma.studies.routing.tokens(model, 'the red ball', tokenizer).widget()",
)
# the router of a made-up run
WALK = (
    """import numpy as np
from moe_analysis.studies.router_paths.explore import PathExplorer
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from tests.studies.fake_runs import MODULES, fake_run, walk
runs = [fake_run(walk(np.random.default_rng(0), 100, 6, 8, drift=0.5))]
axes = path_axes(runs, MODULES[0])
paths = router_paths(runs, MODULES[0], axes)""",
    "PathExplorer(runs, paths, axes)",
)
# a map of plain texts
TEXTS = [f"{kind} {number}" for kind in ("a red ball", "two cats run", "add a number") for number in range(5)]
MAP = (
    f"""import moe_analysis as ma
found = ma.papers.trex_fig4({TEXTS!r}, embedder="tfidf", method="pca")""",
    "found.widget()",
)
THREE, PLOTS = "three.ipynb", "plots.ipynb"  # written here: all three of these, and the two that plotly draws
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
TOKEN = "of-this-test-alone"
STARTS = 60  # seconds that the server may take on shared cores
# news and updates ask hosts that are not there; cells outside the window are else not in the page
PAGE = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
TRACKER = {"windowingMode": "none"}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab on a folder of notebooks."""

    url: str
    folder: Path

    def page(self, notebook: str, alone: bool = False) -> str:
        """In a workspace that nobody used: one that was used opens with its side bars. alone: no side bar at all."""
        workspace = f"{'doc' if alone else 'lab'}/workspaces/{secrets.token_hex(8)}"
        return f"{self.url}/{workspace}/tree/{notebook}?token={TOKEN}"

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/api/{path}", data, {"Authorization": f"token {TOKEN}"}, method=method)
        with urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def share_a_kernel(self) -> None:
        """Let all notebooks have one kernel, which imports torch, transformers and PEFT once."""
        kernel = self.ask(
            "kernels", "POST", {"name": KERNEL["kernelspec"]["name"], "path": NOTEBOOK}
        )  # in their folder
        for path in self.folder.glob("*.ipynb"):
            session = {"path": path.name, "name": path.name, "type": "notebook", "kernel": {"id": kernel["id"]}}
            self.ask("sessions", "POST", session)

    def answers(self) -> bool:
        try:
            return bool(self.ask("status"))
        except (URLError, OSError):
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def furnish(home: Path) -> dict[str, str]:
    """The environment of a server that reads and writes nothing outside `home`, with the notebooks in home/notebooks."""
    (home / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, home / "notebooks")
    written = {THREE: (*MAP, *WALK, *SENTENCE), PLOTS: (*MAP, *WALK), TRAINING: (TRAIN, "run.finished")}
    for name, sources in written.items():
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), home / "notebooks" / name)
    for path, content in (
        (home / "config" / "labconfig" / "page_config.json", PAGE),
        (home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings", TRACKER),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "MOE_ANALYSIS_RUNS": "runs",
        "MOE_ANALYSIS_FIGURES": "figures",
        "MOE_ANALYSIS_CACHE": "cache",
    }
    return {
        **os.environ,
        **{name: str(home / folder) for name, folder in folders.items()},
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),  # made-up runs are in tests/
        "MOE_ANALYSIS_PRESET": "tiny",
        "MOE_ANALYSIS_SUITE": "embedded",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    environment, port = furnish(home), free_port()
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        str(home / "notebooks"),
    ]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    lab = Lab(f"http://127.0.0.1:{port}", home / "notebooks")
    try:
        end = time.monotonic() + STARTS
        while not lab.answers():
            assert server.poll() is None and time.monotonic() < end, (home / "log").read_text()[-2000:]
            time.sleep(0.3)
        lab.share_a_kernel()
        yield lab
    finally:
        stop(lab, server)


def stop(lab: Lab, server: subprocess.Popen) -> None:
    """End the kernels, which live in process groups of their own, then the server's group."""
    if lab.answers():
        for kernel in lab.ask("kernels"):
            lab.ask(f"kernels/{kernel['id']}", "DELETE")
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(15)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
