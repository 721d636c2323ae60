"""The house as it was drawn: imports point one way, files stay short, notebooks hold no logic."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "moe_analysis"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# what a part of the package may import beside itself
ARROWS: dict[str, set[str]] = {
    "adapters": set(),
    "atomic": set(),
    "noise": set(),  # of other libraries
    "places": set(),  # where data, notebooks, figures and runs lie
    "extras": set(),
    "cards": set(),  # how objects look in a notebook
    "model_limits": set(),  # what a language model reads
    "tasks": {"noise", "places", "cards", "model_limits"},
    "packaged_backbone": {"tasks"},  # its folder of cached files
    "backbones": {"packaged_backbone", "noise", "places", "model_limits"},
    "base_name": {"backbones", "packaged_backbone"},
    "model_card": {"adapters", "base_name"},
    # tasks, backbones: T-REX reads prompts, with an embedder and a tokenizer
    "peft_bridge": {"adapters", "tasks", "backbones", "base_name", "model_card"},
    "optim": {"adapters"},
    "evidence": {"cards"},
    "theory": {"adapters", "optim", "evidence", "cards"},  # optim: the checks run the real optimizers
    "training": {
        "optim",
        "adapters",
        "peft_bridge",
        "tasks",
        "backbones",
        "noise",
        "model_card",
        "model_limits",
        "extras",
        "cards",
    },
    "drawing": {"evidence", "places", "extras", "cards"},  # the words of verdicts
    # comparison, presets: the sizes at which systems are compared, and the runs that a control needs
    "studies": {
        "drawing",
        "evidence",
        "training",
        "peft_bridge",
        "backbones",
        "theory",
        "optim",
        "adapters",
        "tasks",
        "comparison",
        "presets",
        "campaigns",
        "extras",
        "cards",  # whose claim one is
    },
    "presets": {"training", "peft_bridge", "places", "tasks"},  # the runs behind the figures
    "comparison": {"presets", "peft_bridge", "theory", "backbones"},  # the systems at equal budgets
    "run_comparison": {"training", "evidence", "drawing", "cards"},
    "papers": {"studies", "places", "cards"},
    "campaigns": {
        "training",
        "comparison",
        "presets",
        "tasks",
        "theory",
        "places",
    },  # what a file of a long study names
    "kernels": {"extras"},
    "registration": {"peft_bridge"},  # imports it by name, once PEFT is imported
    "figures": {"kernels", "papers", "places"},  # executes the notebooks
    # reads what `drawing.save` wrote; papers, studies: what every item says, and how a stored result is told in short
    "gallery": {"figures", "drawing", "cards", "tasks", "presets", "places", "evidence", "papers", "studies"},
}
ANYWHERE = {"atomic"}  # how files are written
OUTER = {"__init__", "__main__", "commands"}  # the lazy door and the command line may name every part
MAX_FILE_LINES, MAX_CELL_LINES, MAX_WRITTEN_LINES = 400, 14, 30
FILE_MAGIC = "%%writefile"  # a cell that shows a file and writes it: what it defines is the file's


def drawn_rows() -> list[set[str]]:
    """The names in each row of the manual's drawing, from the top down."""
    page = (ROOT / "docs" / "pages" / "index.md").read_text("utf-8")
    block = page.partition("```text\n")[2].partition("```")[0]
    return [set(line.partition("   ")[0].split(", ")) for line in block.splitlines()]


def test_the_manual_draws_every_folder_above_those_that_it_imports() -> None:
    rows = drawn_rows()
    drawn = set().union(*rows)
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= drawn
    for place, row in enumerate(rows):
        below = set().union(*rows[place + 1 :])
        for name in row - OUTER:
            assert ARROWS[name] & drawn <= below, f"{name} is not drawn above all that it imports"


def parts(path: Path, root: Path = PACKAGE) -> tuple[str, ...]:
    return path.relative_to(root).with_suffix("").parts


def imported(path: Path, root: Path = PACKAGE) -> Iterator[str]:
    """Dotted names inside moe_analysis that a file imports, at the top or in a function, without the package's name."""
    folder = parts(path, root)[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE.name:
                    yield ".".join(alias.name.split(".")[1:])
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*folder[: len(folder) - node.level + 1], *module]
            elif module[:1] == [PACKAGE.name]:
                base = module[1:]
            else:
                continue
            for alias in node.names:
                yield ".".join([*base, alias.name])


def forbidden(path: Path, root: Path = PACKAGE) -> list[str]:
    own = parts(path, root)[0]
    if own in OUTER:
        return []
    allowed = ARROWS.get(own, set()) | {own} | ANYWHERE
    return [name or PACKAGE.name for name in imported(path, root) if name.split(".")[0] not in allowed]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(parts(path)))
def test_imports_point_only_along_the_arrows(path):
    assert forbidden(path) == []


def test_every_part_of_the_package_has_its_place_in_the_drawing():
    assert {parts(path)[0] for path in FILES} - OUTER <= ARROWS.keys()


def test_the_arrows_form_no_circle():
    def reach(part: str, seen: tuple[str, ...] = ()) -> None:
        assert part not in seen, f"{' -> '.join((*seen, part))}"
        for target in ARROWS[part]:
            reach(target, (*seen, part))

    for part in ARROWS:
        reach(part)


@pytest.mark.parametrize(
    "line, found",
    [
        ("from .. import peft_bridge", ["peft_bridge"]),
        ("from ..training.run import Run", ["training.run.Run"]),
        ("import moe_analysis.drawing.save as save", ["drawing.save"]),
        ("def later():\n    from moe_analysis import gallery", ["gallery"]),
        ("import moe_analysis as ma", ["moe_analysis"]),
        ("from .gates import select\nfrom . import base\nimport torch", []),
    ],
)
def test_an_import_against_the_arrows_is_seen(tmp_path, line, found):
    file = tmp_path / "adapters" / "new.py"
    file.parent.mkdir()
    file.write_text(line)
    assert forbidden(file, tmp_path) == found


def file_of(name: str, root: Path = PACKAGE) -> str | None:
    """The file that a dotted name of `imported` lies in, as "training/run"; a package is its __init__."""
    steps = name.split(".") if name else []
    for last in (len(steps), len(steps) - 1):  # the whole name is a module, or its end is something in one
        for file in ("/".join(steps[:last]), "/".join([*steps[: max(last, 0)], "__init__"])):
            if file and (root / f"{file}.py").is_file():
                return file
    return None


def graph_of(files: list[Path], root: Path = PACKAGE) -> dict[str, set[str]]:
    """Which files each file imports, at the top, in functions and for type checkers alone."""
    return {
        "/".join(parts(path, root)): {found for name in imported(path, root) if (found := file_of(name, root))}
        for path in files
    }


def reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    found, left = set[str](), [start]
    while left:
        fresh = graph[left.pop()] - found
        found |= fresh
        left += fresh
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every set of files that import each other, by whatever way round."""
    reach = {file: reached(file, graph) for file in graph}
    both = {frozenset(other for other in reach[file] if file in reach[other]) for file in graph if file in reach[file]}
    return sorted(map(sorted, both))


def test_no_two_files_import_each_other():
    assert circles(graph_of(FILES)) == []


@pytest.mark.parametrize(
    "texts, found",
    [
        ({"a": "from .b import x", "b": "def later():\n    from .a import y"}, [["a", "b"]]),
        ({"a": "from . import b", "b": "if TYPE_CHECKING:\n    from moe_analysis.a import y"}, [["a", "b"]]),
        ({"a": "import moe_analysis.b", "b": "from . import c", "c": "from .a import y"}, [["a", "b", "c"]]),
        ({"p/__init__": "from .one import x", "p/one": "from . import x"}, [["p/__init__", "p/one"]]),
        ({"p/__init__": "from .one import x", "p/one": "from . import two", "p/two": "import torch"}, []),
        ({"a": "from .b import x", "b": "from .c import y", "c": "y = 1"}, []),
    ],
)
def test_a_circle_of_imports_is_seen_whichever_way_it_is_written(tmp_path, texts, found):
    for name, text in texts.items():
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert circles(graph_of(sorted(tmp_path.rglob("*.py")), tmp_path)) == found


STUDIES = sorted(path for path in (PACKAGE / "studies").glob("*/*.py"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: "/".join(parts(path)))
def test_inside_a_study_only_drawings_and_knobs_know_how_things_look(path):
    looks = {name for name in imported(path) if name.startswith("drawing") or name.split(".")[2:3] == ["draw"]}
    source = path.read_text(encoding="utf-8")
    assert path.stem.startswith(("draw", "explore")) or not (looks or "matplotlib" in source or "plotly" in source)


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(parts(path)))
def test_no_file_is_longer_than_can_be_read_at_once(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


def test_no_drawer_for_odds_and_ends():
    assert not [path for path in FILES if path.stem in {"utils", "util", "helpers", "misc", "common"}]


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def python(cell: dict) -> str:
    """A cell without IPython's magics and shell lines; nothing of one that writes a file."""
    if source(cell).startswith(FILE_MAGIC):
        return ""
    return "\n".join(line for line in source(cell).splitlines() if not line.lstrip().startswith(("%", "!")))


def logic(cell: dict) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.walk(ast.parse(python(cell))) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing(path):
    assert [name for cell in code_cells(path) for name in logic(cell)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_cells_are_short(path):
    texts = [source(cell) for cell in code_cells(path)]
    allowed = [MAX_WRITTEN_LINES if text.startswith(FILE_MAGIC) else MAX_CELL_LINES for text in texts]
    assert [text for text, most in zip(texts, allowed) if len(text.splitlines()) > most] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    assert not [cell for cell in code_cells(path) if cell["outputs"] or cell["execution_count"] is not None]


def test_a_definition_hidden_in_a_cell_is_seen():
    cell = {"source": ["%matplotlib inline\n", "if True:\n", "    def sneak():\n", "        return 1\n"]}
    assert logic(cell) == ["sneak"]
