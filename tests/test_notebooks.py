"""Every notebook, top to bottom in an empty namespace, on the tiny preset; what else a notebook's cells show; and what
`figures` says when one fails.

They share one kernel and one training process, as those do that `figures` executes: to import torch, transformers and
PEFT takes longer than most of them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from PIL import Image

import moe_analysis as ma
from moe_analysis import figures
from moe_analysis.drawing.save import VERDICTS
from moe_analysis.figures import ITEMS, NOTEBOOKS, choose, environment
from moe_analysis.kernels import Kernel, NotebookError, RowsWarning, execute
from moe_analysis.tasks.cache import cache_folder
from tests.drawing.page_texts import untrue

# the first cells of the kernel, which import what all others use
SILENT = (
    'import moe_analysis as ma\nimport peft\nmodel, tokenizer = ma.load_backbone("compact");',
    'model = peft.get_peft_model(model, ma.MoeLoraConfig(target_modules=["q_proj"]));',
)
TRAINED = (
    """import json
import moe_analysis as ma
config = ma.TrainConfig.from_dict(json.loads({config!r}))
run = ma.train(config, {out!r})""",
    """from dataclasses import replace
from moe_analysis.training.sweep.running import sweep
done = sweep([replace(config, seed=seed) for seed in (1, 2)], {out!r}, workers=1)""",
    "quiet = ma.train(replace(config, seed=3), {out!r}, progress=False)",
)
SAMPLED = r"\bseeds?\b|\b[Ee]xact\b|\brounds\b|random weights"  # what the note below each picture says
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs, figures and embeddings of their own, shared by the notebooks as they are by a user's."""
    base = tmp_path_factory.mktemp("figures")
    places = {f"MOE_ANALYSIS_{name}": str(base / name.lower()) for name in ("RUNS", "FIGURES", "CACHE")}
    # a packaged model is converted once for this user, which takes longer than any notebook
    (base / "cache").mkdir()
    converted = cache_folder() / "backbones"
    converted.mkdir(parents=True, exist_ok=True)
    (base / "cache" / "backbones").symlink_to(converted, target_is_directory=True)
    return {
        "MOE_ANALYSIS_PRESET": "tiny",
        "MOE_ANALYSIS_SUITE": "embedded",
        "MOE_ANALYSIS_WORKERS": "1",
        **places,
    }


@pytest.fixture(scope="module")
def begun(
    folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Kernel, nbformat.NotebookNode]]:
    """The kernel, and what its first cells showed."""
    with environment(folders), Kernel() as kernel:
        yield kernel, kernel.execute(written(tmp_path_factory.mktemp("first") / "silent.ipynb", *SILENT))


@pytest.fixture
def kernel(begun: tuple[Kernel, nbformat.NotebookNode]) -> Kernel:
    return begun[0]


def written(path: Path, *sources: str) -> Path:
    """A notebook of these cells, in this file."""
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    return path


def raw_results(notebook: nbformat.NotebookNode) -> list[str]:
    """Results of cells that are shown as bare text: a path, a number, the repr of an object."""
    results = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type in ("execute_result", "display_data")
    ]
    return [data["text/plain"] for data in results if set(data) == {"text/plain"}]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_top_to_bottom_and_writes_its_figures(name: str, kernel: Kernel, folders) -> None:
    place = Path(folders["MOE_ANALYSIS_FIGURES"])
    before = set(place.glob("*.html"))  # of other notebooks, which their own test looks at
    executed = kernel.execute(NOTEBOOKS / f"{name}.ipynb")
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert any(output.output_type == "display_data" for output in outputs), "a notebook that shows nothing"
    assert raw_results(executed) == []
    for item in (item for item in ITEMS if item.notebook == name):
        written = {suffix: place / f"{item.id}.{suffix}" for suffix in ("png", "html", "json")}
        assert re.search(SAMPLED, Image.open(written["png"]).text["Description"]), "a picture without its seeds"
        assert "plotly" in written["html"].read_text()
        numbers = json.loads(written["json"].read_text())
        assert numbers["item"] == item.id and numbers["numbers"]
        # the claims of a part are those of the whole; an item that checks nothing only shows
        assert numbers["claims"] or item.part_of or not item.checks
        assert {claim["verdict"] for claim in numbers["claims"]} <= set(VERDICTS)
    pages = set(place.glob("*.html")) - before
    told = {path.stem: untrue(path.read_text(encoding="utf-8")) for path in pages if 'id="figure"' in path.read_text()}
    assert {name: faults for name, faults in told.items() if faults} == {}, "a text about another drawing"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_finds_its_modules_though_no_other_imported_them(name: str) -> None:
    """Of `ma.studies.routing.tokens` both parents must offer their part before anybody has imported it."""
    cells = [cell.source for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
    lines = "\n".join(cells).splitlines()
    ours = "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)
    assert modules_only_reached(ours) == []


def test_a_module_that_its_parent_does_not_offer_is_told_of() -> None:
    assert modules_only_reached("ma.kernels.execute(ma.studies.routing.tokens)") == ["ma.kernels", "ma.kernels.execute"]


def modules_only_reached(source: str) -> list[str]:
    """Modules below `ma` that a source reaches by their dotted names and that their parents do not say they have."""
    chains = {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    silent = []
    for chain in sorted(chain for chain in chains if re.fullmatch(r"ma(\.\w+)+", chain)):
        parent, found = None, ma
        for part in chain.split(".")[1:]:
            parent, found = found, getattr(found, part)
            if isinstance(found, ModuleType) and part not in vars(parent).get("__dir__", list)():
                silent.append(chain)
    return silent


def test_a_path_and_a_repr_are_found_and_a_table_and_a_silent_cell_are_not(kernel: Kernel, tmp_path: Path) -> None:
    sources = (
        "from pathlib import Path; Path('a')",
        "object()",
        "from collections import Counter; Counter('aab')",
        "from IPython.display import HTML; HTML('<b>fine</b>')",
        "print('fine')",
        "Path('a');",
        "x = 1",
    )
    found = raw_results(kernel.execute(written(tmp_path / "raw.ipynb", *sources)))
    assert found[0] == "PosixPath('a')" and found[1].startswith("<object") and found[2] == "Counter({'a': 2, 'b': 1})"
    assert len(found) == 3


def test_cells_that_import_load_and_adapt_a_model_show_nothing_that_nobody_asked_for(begun) -> None:
    assert [cell.outputs for cell in begun[1].cells] == [[], []]


def test_a_notebook_shows_a_card_that_ends_as_the_run_did(kernel: Kernel, config, tmp_path: Path) -> None:
    given = {"config": json.dumps(config(steps=3).to_dict()), "out": str(tmp_path / "runs")}
    document = kernel.execute(written(tmp_path / "one.ipynb", *(cell.format(**given) for cell in TRAINED)))
    train, several, quiet = ([out for out in cell.outputs if "data" in out] for cell in document.cells)
    assert len(train) == len(several) == 1 and quiet == []
    page, line = train[0]["data"]["text/html"], train[0]["data"]["text/plain"]
    assert 'class="badge yes">finished<' in page and "step 3 of 3 in " in page and "gate entropy" in page
    assert line.startswith("moelora-") and "step 3 of 3" in line
    assert "2 finished of 2" in several[0]["data"]["text/html"]
    assert not [out for cell in document.cells for out in cell.outputs if out.output_type == "stream"]


def test_every_item_has_its_notebook() -> None:
    assert {item.notebook for item in ITEMS} <= set(NAMES)
    assert [item.id for item in choose(["trex_fig2"])] == ["trex_fig2"]
    with pytest.raises(ValueError, match="only = trex_fg2 is unknown; did you mean trex_fig2"):
        choose(["trex_fg2"])
    with pytest.raises(ValueError, match="only = nothing is unknown; choose from trex_fig"):
        choose(["nothing"])


def test_a_failing_notebook_stops_the_one_beside_it_and_is_the_error(tmp_path: Path, monkeypatch) -> None:
    for name, cells in (("slow", ["import time; time.sleep(0.5)"] * 60), ("broken", ["1 / 0"])):
        written(tmp_path / f"{name}.ipynb", *cells)
    monkeypatch.setattr(figures, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(figures.os, "cpu_count", lambda: 2)
    seen = []
    items = [figures.Item("a", "", "", notebook="slow"), figures.Item("b", "", "", notebook="broken")]
    with pytest.raises(NotebookError, match="broken.ipynb stopped at cell 1 of 1"):
        figures.regenerate(items, {}, lambda *cell: seen.append(cell))
    assert ("slow", 60, 60) not in seen


def test_what_notebooks_are_warned_of_about_their_rows_is_said_again(tmp_path: Path, monkeypatch) -> None:
    warn = (
        "import warnings; from moe_analysis.tasks import SuiteWarning\n"
        "for text in ('2 of piqa', '2 of piqa', '1 of mbpp'): warnings.warn(text, SuiteWarning)\n"
        "warnings.warn('of a library')"
    )
    written(tmp_path / "rows.ipynb", warn)
    monkeypatch.setattr(figures, "NOTEBOOKS", tmp_path)
    with pytest.warns(RowsWarning) as said:
        figures.regenerate([figures.Item("a", "", "", notebook="rows")], {}, lambda *cell: None)
    assert [str(one.message) for one in said] == ["2 of piqa", "1 of mbpp"]


def test_a_notebook_follows_the_one_whose_runs_it_reads_and_no_other() -> None:
    names = ["01_semantic_clusters", "02_router_trajectories", "03_subspace_rank"]
    assert figures.chains_of(names) == [names[:1], names[1:]]
    assert figures.chains_of(names[2:]) == [names[2:]]


def test_a_failing_cell_is_named_with_its_traceback(tmp_path: Path) -> None:
    written(tmp_path / "broken.ipynb", "x = 1", "x / 0")
    seen = []
    with pytest.raises(NotebookError, match=r"broken.ipynb stopped at cell 2 of 2(?s:.*)ZeroDivisionError"):
        execute(tmp_path / "broken.ipynb", lambda cell, cells: seen.append((cell, cells)))
    assert seen == [(1, 2), (2, 2)]


def test_a_kernel_gives_each_notebook_an_empty_namespace(kernel: Kernel, tmp_path: Path) -> None:
    spawn = "import multiprocessing as m; p = m.get_context('spawn').Process(target=int); p.start(); p.join()"
    look = f"print('left' in globals())\n{spawn}; print(p.exitcode)"
    for name, source in (("first", "left = 1"), ("second", look)):
        written(tmp_path / f"{name}.ipynb", source)
    kernel.execute(tmp_path / "first.ipynb")
    process = kernel.client.km.provisioner.pid
    second = kernel.execute(tmp_path / "second.ipynb")
    assert kernel.client.km.provisioner.pid == process
    assert "".join(output.text for output in second.cells[0].outputs) == "False\n0\n"
